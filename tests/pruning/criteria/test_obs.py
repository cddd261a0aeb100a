"""The OBS criterion: closed forms against explicit least squares; what errors of outputs count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolo_slim import InputError, channel_graph, load, prune
from yolo_slim.calibration import Calibration
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import check_data
from yolo_slim.pruning.criteria.obs import inverted, output_weights, reader, removal_losses
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.criteria.table import find

pytestmark = pytest.mark.usefixtures("one_thread")


def sampled(inputs: int = 6, taps: int = 4, filters: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """What a conv reads (samples, columns), correlated, less its mean; its weights."""
    draw = np.random.default_rng(0)
    mixed = draw.normal(size=(400, inputs * taps)) @ draw.normal(size=(inputs * taps,) * 2)
    return mixed - mixed.mean(0), draw.normal(size=(filters, inputs * taps))


def missing(read: np.ndarray, weight: np.ndarray, gone: list[int], taps: int) -> float:
    """The mean energy of what is off when input channels are gone and the others are fitted."""
    columns = [i for i in range(read.shape[1]) if i // taps not in gone]
    wanted = read @ weight.T
    fitted, *_ = np.linalg.lstsq(read[:, columns], wanted, rcond=None)
    return float(np.square(read[:, columns] @ fitted - wanted).sum() / len(read))


@pytest.mark.parametrize("taps", [1, 4])
def test_errors_as_explicit_least_squares(taps: int) -> None:
    """Of one channel, and of the next ones once others are gone."""
    read, weight = sampled(taps=taps)
    inverse = torch.linalg.inv(torch.from_numpy(read.T @ read / len(read)))
    found = reader(torch.from_numpy(weight), inverse, np.arange(6), np.arange(6), 6)
    wanted = [missing(read, weight, [c], taps) for c in range(6)]
    assert found.errors().numpy() == pytest.approx(wanted, rel=1e-8)
    found.remove_(torch.tensor([2, 4]))
    base = missing(read, weight, [2, 4], taps)
    for channel in (0, 1, 3, 5):
        rise = missing(read, weight, [2, 4, channel], taps) - base
        assert float(found.errors()[channel]) == pytest.approx(rise, rel=1e-7)


def test_a_channel_that_is_read_twice() -> None:
    """As through an SPPF: its columns go together, in one reader."""
    read, weight = sampled(taps=1)
    read[:, 3] = read[:, 0] * 0.5 + read[:, 3]
    inverse = torch.linalg.inv(torch.from_numpy(read.T @ read / len(read)))
    places = np.array([0, 1, 2, 0, 1, 1])
    found = reader(torch.from_numpy(weight), inverse, np.arange(6), places, 6)
    wanted = [missing(read, weight, gone, 1) for gone in ([0, 3], [1, 4, 5], [2])]
    assert found.errors().numpy() == pytest.approx(wanted, rel=1e-8)


def test_a_channel_that_another_can_stand_in_for_goes_first() -> None:
    """Twins cost nothing, once; then the one that is left costs most."""
    read, weight = sampled(taps=1)
    read[:, 1] = 2 * read[:, 0] + 1e-3 * read[:, 1]
    weight[:, 0] *= 30
    inverse = torch.linalg.inv(torch.from_numpy(read.T @ read / len(read)))
    values = removal_losses(
        6, [reader(torch.from_numpy(weight), inverse, np.arange(6), np.arange(6), 6)]
    )
    order = np.argsort(values)
    assert order[0] in (0, 1) and order[-1] in (0, 1)
    assert len(set(values)) == 6 and (values > 0).all()


def test_the_ridge_keeps_it_solvable() -> None:
    covariance = torch.zeros(4, 4, dtype=torch.float64)
    covariance[0, 0] = 1
    assert inverted(covariance).isfinite().all()
    assert inverted(torch.zeros(3, 3, dtype=torch.float64)).isfinite().all()


def test_outputs_count_by_the_square_of_the_gradient() -> None:
    """A loss of weighted sums: its gradients are its weights."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 1, 1))
    images = Calibration(
        tuple((torch.rand(2, 3, 5, 5), None) for _ in range(3)),
        lambda m, batch: (m[2](m[1](m[0](batch[0]))) * weights).sum(),
    )
    weights = torch.tensor([1.0, -2, 0, 3])[:, None, None]
    found = output_weights(model, ["2"], images)["2"]
    assert found.tolist() == pytest.approx([25.0, 100, 0, 225])


def test_scores_of_a_detector(tiny_checkpoint: Path, shapes_yaml: Path) -> None:
    """Finite, positive, one order a layer, the same twice; another with other images."""
    model = load(tiny_checkpoint).model
    graph, data = channel_graph(model, "group"), check_data(shapes_yaml)
    images = [calibrate(data, model, imgsz=64, images=8, seed=seed) for seed in (0, 0, 1)]
    scores = [score(model, graph, "obs", each) for each in images]
    for norm in graph.prunable:
        value = scores[0][norm.name]
        assert (value > 0).all()
        assert torch.equal(value, scores[1][norm.name])
    assert any(not torch.equal(v, scores[2][n]) for n, v in scores[0].items())
    tied = next(n for n in graph.prunable if n.tied)
    assert torch.equal(scores[0][tied.name], scores[0][tied.tied[0]])


def test_defaults_and_no_loss(tiny_model: nn.Module) -> None:
    how = find("obs")
    assert (how.residual, how.spread, how.data) == ("inner", "uniform", True)
    assert how.recover == ("constants", "weights")
    images = Calibration(((torch.rand(2, 3, 64, 64), None),))
    with pytest.raises(InputError, match="criterion obs: calibration images without a loss"):
        prune(tiny_model, 0.3, criterion="obs", calibration=images, imgsz=64)
