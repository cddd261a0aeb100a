"""Least squares after a cut: against numpy on unfolded inputs, and what it may change."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_model import maps_read, plain_model
from torch import nn

from yolo_slim import InputError, channel_graph, load
from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.host.image import read_images
from yolo_slim.pruning.budget.choose import Masks, masks_by_percent
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.masks import keep_vector
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover.reconstruct import least_squares, reconstruct_

pytestmark = pytest.mark.usefixtures("one_thread")


def cut(model: nn.Module, percent: float = 0.4, residual: Any = "inner") -> tuple:
    """graph, masks and pruned model, each layer without a random share of its channels."""
    graph = channel_graph(model, residual)
    masks = masks_by_percent(graph, score(model, graph, "random"), percent, spread="uniform")
    return graph, masks, rebuild(model, graph, masks)


# The slow reference: unfold the whole inputs, numpy.linalg.lstsq.


def unfolded(conv: Any, x: torch.Tensor) -> np.ndarray:
    """(positions, C_in * taps) of whole maps."""
    if isinstance(conv, nn.Linear):
        return x.numpy()
    if conv.transposed:
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).numpy()
    if conv.padding_mode == "reflect":
        x, padding = F.pad(x, (1, 1, 1, 1), mode="reflect"), (0, 0)
    else:
        padding = (0, 0) if conv.padding == "valid" else conv.padding
    columns = F.unfold(x, conv.kernel_size, conv.dilation, padding, conv.stride)
    return columns.transpose(1, 2).flatten(0, 1).numpy()


def as_matrix(conv: Any, weight: torch.Tensor) -> np.ndarray:
    """(C_in * taps, filters)."""
    if getattr(conv, "transposed", False):
        return weight.detach().flatten(1).numpy()
    return weight.detach().flatten(1).numpy().T


def compare(model: nn.Module, graph: ChannelGraph, masks: Masks, images: Calibration) -> None:
    """Each conv has numpy's weights for what it reads in the fitted model, to write what it wrote.

    That is so only if those before it were fitted first.
    """
    keep, fitted = keep_vector(graph, masks), rebuild(model, graph, masks).double()
    report = reconstruct_(fitted, model, graph, masks, images, ridge=0, positions=None)
    names = [n for n, kept in lost(graph, masks).items() if not kept.all()]
    assert set(report.errors) == set(names)
    then, now = maps_read(model, names, images), maps_read(fitted, names, images)
    for name in names:
        dense, conv = model.get_submodule(name), fitted.get_submodule(name)
        wanted = unfolded(dense, then[name]) @ as_matrix(dense, dense.weight)
        outputs = graph.convs[name].outputs
        wanted = wanted[:, np.repeat(keep[outputs], wanted.shape[1] // len(outputs))]
        read = unfolded(conv, now[name])
        shifted = not getattr(conv, "transposed", False)
        columns = np.hstack([read, np.ones((len(read), 1))]) if shifted else read
        weight, _, rank, _ = np.linalg.lstsq(columns, wanted, rcond=None)
        assert rank == columns.shape[1] < len(read), f"{name}: more weights than positions"
        found, limit = as_matrix(conv, conv.weight), 1e-8 * np.abs(weight).max()
        np.testing.assert_allclose(found, weight[: len(found)], rtol=0, atol=limit, err_msg=name)
        if shifted:
            shift = added(fitted, model, graph, keep, name)
            np.testing.assert_allclose(shift, weight[-1], rtol=0, atol=limit, err_msg=name)
        error = np.linalg.norm(columns @ weight - wanted) / np.linalg.norm(wanted)
        assert report.errors[name][1] == pytest.approx(error, rel=1e-6, abs=1e-9)


def added(
    fitted: nn.Module, model: nn.Module, graph: ChannelGraph, keep: np.ndarray, name: str
) -> np.ndarray:
    """What is added to a conv's outputs that are kept, by its bias or by the BN after it."""
    conv, outputs = fitted.get_submodule(name), graph.convs[name].outputs
    if conv.bias is not None:
        return (conv.bias - model.get_submodule(name).bias[keep[outputs]]).detach().numpy()
    norm = next(n for n in graph.norms.values() if outputs[0] in n.ids)
    at = outputs[keep[outputs]] - norm.offset
    now, then = (m.get_submodule(norm.name).running_mean.numpy() for m in (fitted, model))
    return then[at] - now[(np.cumsum(keep[norm.ids]) - 1)[at]]


def test_each_kind_of_conv_as_numpy() -> None:
    """3x3 with stride, padding and dilation; 1x1; transposed; 3x3 reflecting; Linear."""
    images = noise(160, 16)
    model = lively(plain_model(), images)
    graph, masks, _ = cut(model)
    assert {n.readers for n in graph.prunable} == {("3",), ("6",), ("9",), ("14",), ("17",)}
    assert not any(mask.all() for mask in masks.values())
    compare(model, graph, masks, images)


def test_joined_read_twice_and_tied_channels_as_numpy(tiny_model: nn.Module) -> None:
    """An SPPF, a BN with three readers, residual blocks: the whole model, all cut at once."""
    images = noise(10, 64, 448)  # wide: the pools of the SPPF differ
    model = lively(tiny_model.double(), images)
    graph, masks, _ = cut(model, residual="group")
    assert not any(mask.all() for mask in masks.values())
    compare(model, graph, masks, images)


def noise(count: int, height: int, width: int | None = None) -> Calibration:
    """Images of white noise, float64, in two batches."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, height, width or height, dtype=torch.float64, generator=draw)
    return Calibration(tuple((part, None) for part in images.split((count + 1) // 2)))


def lively(model: nn.Module, images: Calibration) -> nn.Module:
    """With the BN statistics of the images: no map is close to a constant, in place."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    model.train()(torch.cat([batch for batch, _ in images.batches]).to(next(model.parameters())))
    return model.float().double().eval()  # values that survive float32, in which models are built


def test_ridge_by_hand() -> None:
    """One column of energy 4 with weight 1, to give 2 x: w = (8 + 4 r) / (4 + 4 r)."""
    x, y = torch.tensor([[2.0]]).double(), torch.tensor([[4.0]]).double()
    for ridge, expected in ((0.0, 2.0), (1.0, 1.5), (3.0, 1.25)):
        new, shift, (before, after) = least_squares(torch.ones(1, 1).double(), [x], [y], ridge)
        assert shift.item() == 0
        assert new.item() == pytest.approx(expected)
        assert (before, after) == pytest.approx((0.5, abs(4 - 2 * expected) / 4))


def test_where_the_images_leave_weights_open_they_stay() -> None:
    """A column that is always 0 keeps its weight, two equal columns share the change."""
    x = torch.tensor([[1.0, 1, 0], [2, 2, 0]]).double()
    old = torch.tensor([[1.0, 2, 5]]).double()
    y = torch.tensor([[5.0], [10]]).double()
    for ridge in (0.0, 1e-9):
        new, _, (_, after) = least_squares(old, [x], [y], ridge)
        assert torch.allclose(new, torch.tensor([[2.0, 3, 5]]).double(), atol=1e-6)
        assert after < 1e-6
    blank, _, errors = least_squares(old, [0 * x], [0 * y], 0.01)
    assert torch.equal(blank, old) and errors == (0, 0)


# Laws


@pytest.mark.parametrize("ridge", [0.0, 1e-4, 1e-2, 1.0])
def test_the_error_never_grows(tiny_model: nn.Module, ridge: float) -> None:
    graph, masks, pruned = cut(tiny_model)
    report = reconstruct_(pruned, tiny_model, graph, masks, small(), ridge=ridge)
    assert len(report.errors) == sum(not c.all() for c in lost(graph, masks).values()) > 20
    assert all(after <= before * (1 + 1e-5) for before, after in report.errors.values())
    if ridge <= 1e-2:
        before, after = np.mean(list(report.errors.values()), 0)
        assert after < 0.8 * before


def small() -> Calibration:
    """Images in the precision of the models."""
    return Calibration(tuple((images.float(), None) for images, _ in noise(8, 64).batches))


def lost(graph: ChannelGraph, masks: Masks) -> dict[str, np.ndarray]:
    """Conv name to which of its inputs are kept; without depthwise convs."""
    keep = keep_vector(graph, masks)
    return {n: keep[c.inputs] for n, c in graph.convs.items() if not c.depthwise}


def test_more_ridge_less_change(tiny_model: nn.Module) -> None:
    graph, masks, pruned = cut(tiny_model)
    moved = []
    for ridge in (1e-3, 1e-1, 1e1, 1e12):
        fitted = deepcopy(pruned)
        reconstruct_(fitted, tiny_model, graph, masks, small(), ridge=ridge)
        pairs = zip(fitted.named_parameters(), pruned.parameters(), strict=True)
        steps = [a - b for (name, a), b in pairs if name.endswith("weight")]
        moved.append(sum(float(step.square().sum()) for step in steps))
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-12 < 1 < moved[0]


def test_only_convs_that_lost_inputs_change(tiny_model: nn.Module) -> None:
    graph, masks, pruned = cut(tiny_model.train())
    masks = {n: torch.ones_like(m) if n != "model.5.bn" else m for n, m in masks.items()}
    pruned = rebuild(tiny_model, graph, masks)
    dense, before = deepcopy(tiny_model), deepcopy(pruned)
    report = reconstruct_(pruned, tiny_model, graph, masks, small())
    assert set(report.errors) == set(graph.norms["model.5.bn"].readers)
    old, changed = before.state_dict(), set()
    for key, value in pruned.state_dict().items():
        changed |= set() if torch.equal(value, old[key]) else {key}
    means = {f"{name.removesuffix('conv')}bn.running_mean" for name in report.errors}
    assert changed == {f"{name}.weight" for name in report.errors} | means
    assert all(torch.equal(v, tiny_model.state_dict()[k]) for k, v in dense.state_dict().items())
    for one, other in ((pruned, before), (tiny_model, dense)):
        assert all(m.training for m in one.modules())
        assert not any(m._forward_pre_hooks for m in one.modules())
        assert [g.shape for g in one.model[-1].grid] == [g.shape for g in other.model[-1].grid]


def test_keep_all_changes_nothing(tiny_model: nn.Module) -> None:
    graph, pruned = channel_graph(tiny_model), rebuild(tiny_model, channel_graph(tiny_model), {})
    before = deepcopy(pruned.state_dict())
    assert reconstruct_(pruned, tiny_model, graph, {}, small()).errors == {}
    assert all(torch.equal(v, before[k]) for k, v in pruned.state_dict().items())


def test_silent_channels_cost_nothing(tiny_model: nn.Module) -> None:
    """Dense and pruned model are looked at in the same places: what is cut was 0 everywhere."""
    graph, masks, _ = cut(tiny_model)
    for name, mask in masks.items():
        for parameter in (
            tiny_model.get_submodule(name).weight,
            tiny_model.get_submodule(name).bias,
        ):
            parameter.data[~mask] = 0
    pruned = rebuild(tiny_model, graph, masks)
    report = reconstruct_(pruned, tiny_model, graph, masks, small(), positions=5)
    assert max(before for before, _ in report.errors.values()) < 1e-5


def test_half_weights_stay_half(tiny_model: nn.Module) -> None:
    """As a checkpoint that YOLOv5 finished; one of other values keeps float32."""
    model = tiny_model.half().float()
    graph, masks, pruned = cut(model)
    report = reconstruct_(pruned, model, graph, masks, small())
    weights = [pruned.get_submodule(name).weight for name in report.errors]
    assert all(torch.equal(w.half().float(), w) for w in weights)
    model.model[0].bn.weight.data[0] = 1 / 3
    reconstruct_(pruned, model, graph, masks, small())
    assert not all(torch.equal(w.half().float(), w) for w in weights)


def test_seeded_and_prints_itself(tiny_model: nn.Module) -> None:
    graph, masks, pruned = cut(tiny_model)
    results = []
    for seed in (0, 0, 1):
        fitted = deepcopy(pruned)
        results.append(
            reconstruct_(fitted, tiny_model, graph, masks, small(), positions=3, seed=seed)
        )
    assert results[0] == results[1] != results[2]
    lines = str(results[0]).splitlines()
    name, (before, after) = next(iter(results[0].errors.items()))
    row = next(line for line in lines if name in line)
    assert "8 images" in lines[0] and f"{before:.3f}" in row and f"{after:.3f}" in row


@pytest.mark.parametrize(("count", "most"), [(1, 1.0), (4, 0.8), (16, 0.5)])
def test_images_that_were_not_seen(shared: Path, count: int, most: float) -> None:
    """The COCO yolov5n, a tenth of each layer cut by ThiNet, fitted on some photos, seen on 4.

    One does no harm, and more do more good.
    """
    model = load(shared / "weights" / "yolov5n.pt").model
    files = sorted((shared / "coco128").rglob("*.jpg"))[:20]
    images = torch.from_numpy(read_images(files, 160))
    calibration = Calibration(tuple((part, None) for part in images[:count].split(8)))
    graph = channel_graph(model, "inner")
    scores = score(model, graph, "thinet", Calibration(((images[:16], None),)))
    masks = masks_by_percent(graph, scores, 0.1, spread="uniform")
    pruned = rebuild(model, graph, masks)
    fitted = deepcopy(pruned)
    reconstruct_(fitted, model, graph, masks, calibration, positions=64)
    error = {}
    with torch.no_grad():
        wanted = model(images[16:])[1]
        for name, slim in (("cut", pruned), ("fitted", fitted)):
            found = slim(images[16:])[1]
            error[name] = sum(
                float((a - b).square().mean()) for a, b in zip(found, wanted, strict=True)
            )
    assert error["fitted"] < most * error["cut"]


def test_batching_does_not_matter(tiny_model: nn.Module) -> None:
    graph, masks, pruned = cut(tiny_model)
    images, found = noise(8, 64).batches, []
    whole = torch.cat([part for part, _ in images]).float()
    for size in (1, 3, 8):
        calibration = Calibration(tuple((part, None) for part in whole.split(size)))
        fitted = deepcopy(pruned)
        reconstruct_(fitted, tiny_model, graph, masks, calibration, positions=None)
        found.append(fitted.state_dict())
    for other in found[1:]:
        assert all(torch.allclose(v, other[k], atol=1e-3) for k, v in found[0].items())


# Bad input


def test_bad_input(tiny_model: nn.Module) -> None:
    graph, masks, pruned = cut(tiny_model)
    before = deepcopy(pruned.state_dict())
    cases = (
        ({"ridge": -1.0}, "ridge: -1.0, expected 0 or more"),
        ({"ridge": float("nan")}, "ridge: nan, expected 0 or more"),
        ({"positions": 0}, "positions: 0, expected 1 or more"),
    )
    for options, text in cases:
        with pytest.raises(InputError, match=text):
            reconstruct_(pruned, tiny_model, graph, masks, small(), **options)
    with pytest.raises(InputError, match="no calibration images"):
        reconstruct_(pruned, tiny_model, graph, masks, Calibration(()))
    broken = Calibration(((torch.rand(2, 3, 64, 64), None), (torch.rand(2, 3, 32, 64), None)))
    with pytest.raises(InputError, match="images: .*2, 3, 32, 64.*expected one size"):
        reconstruct_(pruned, tiny_model, graph, masks, broken)
    assert all(torch.equal(v, before[k]) for k, v in pruned.state_dict().items())
