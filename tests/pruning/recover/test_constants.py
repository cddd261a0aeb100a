"""What cut channels still send: the laws of moving it, against models in which it is silenced."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from _common import randomise_norms_
from plain_model import plain_model
from torch import nn
from zoo import build

from yolo_slim import channel_graph, prune
from yolo_slim.host.classes import yolo
from yolo_slim.host.image import is_detector, smallest_image
from yolo_slim.pruning.budget.choose import masks_by_percent
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.masks import Masks
from yolo_slim.pruning.rebuild.parity import tensors
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover.constants import constants_of, move_constants_

pytestmark = pytest.mark.usefixtures("one_thread")
ZOO = ["yolov5n", "segment/yolov5n-seg", "hub/yolov5s-ghost", "hub/yolov5-bifpn", "hub/yolov5-p2"]


def sparse(model: nn.Module, residual: Any = "skip") -> tuple[Any, Masks]:
    """gamma of a random half of the prunable channels to 0, in place; beta stays."""
    graph = channel_graph(model, residual)
    masks = masks_by_percent(graph, score(model, graph, "random"), 0.5, spread="uniform")
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_submodule(name).weight[~mask] = 0
    return graph, masks


def without_borders(model: nn.Module) -> nn.Module:
    """The model with every zero-padded conv padded by its own edge: a constant has no border."""
    model = deepcopy(model)
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.padding_mode == "zeros":
            conv.padding_mode = "replicate"
    return model


def outputs(model: nn.Module, side: int = 2) -> list[torch.Tensor]:
    channels, height, width = smallest_image(model)
    draw = torch.Generator().manual_seed(3)
    shape = (1, channels, side * height, side * width) if is_detector(model) else (3, 3, 16, 16)
    with torch.no_grad():
        return tensors(model.eval()(torch.rand(shape, generator=draw, dtype=torch.float64)))


def recovered(model: nn.Module, graph: Any, masks: Masks) -> nn.Module:
    pruned = rebuild(model, graph, masks).double()
    move_constants_(pruned, model, graph, masks)
    return pruned


@pytest.mark.parametrize("residual", ["skip", "inner", "group"])
@pytest.mark.parametrize("name", ZOO)
def test_exact_where_there_is_no_border(name: str, residual: str) -> None:
    """Through Concat, pools, upsampling, sums, ghosts: the gammas are 0, the betas are not."""
    model = build(Path(yolo.__file__).parent / f"{name}.yaml", width=0.125, depth=0.33)
    graph, masks = sparse(model.double(), residual)
    slim = recovered(model, graph, masks)
    expected, found = outputs(without_borders(model)), outputs(without_borders(slim))
    bare = outputs(without_borders(rebuild(model, graph, masks).double()))
    for e, f, b in zip(expected, found, bare, strict=True):
        assert (e - f).abs().max() < 1e-9 * e.std()
        assert (e - b).abs().max() > 1e-3 * e.std()


def test_exact_for_a_plain_model_with_biases() -> None:
    """Into biases, also of a Linear that reads pixels; not exact before a transposed conv."""
    model = plain_model()
    graph, masks = sparse(model)
    assert graph.norms["7"].readers == ("9",) and model[9].transposed
    masks["7"][:] = True
    slim = recovered(model, graph, masks)
    expected, found = outputs(without_borders(model)), outputs(without_borders(slim))
    for e, f in zip(expected, found, strict=True):
        assert torch.allclose(e, f, atol=1e-9)


def padded() -> nn.Module:
    """1x1, 3x3 with a border of zeros, 1x1: each with a BN."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU()),
        nn.Conv2d(8, 4, 1, bias=False),
    )
    model.image = (3, 16, 16)
    randomise_norms_(model)
    return model.double().eval()


def test_a_border_of_zeros_is_one_pixel_wide() -> None:
    """Inside the border of a padded conv exact; on it the taps outside saw no constant."""
    model = padded()
    graph, masks = sparse(model)
    masks["4"][:] = True
    model[4].weight.data.fill_(1.0)
    (expected,), (found,) = outputs(model), outputs(recovered(model, graph, masks))
    difference = (expected - found).abs()
    assert difference[..., 1:-1, 1:-1].max() < 1e-12
    assert difference[..., 0, :].max() > 1e-3 and difference[..., -1].max() > 1e-3


def test_nothing_but_means_and_biases_moves(tiny_model: nn.Module) -> None:
    graph, masks = sparse(tiny_model)
    bare = rebuild(tiny_model, graph, masks).state_dict()
    slim = recovered(tiny_model.double(), graph, masks).state_dict()
    moved = {key for key in bare if not torch.equal(bare[key].double(), slim[key].double())}
    assert moved and all(k.endswith((".running_mean", ".bias")) for k in moved)
    assert {k for k in moved if k.endswith(".bias")} <= {f"model.12.m.{i}.bias" for i in range(3)}


def test_silent_channels_move_nothing(tiny_model: nn.Module) -> None:
    """gamma and beta 0, as --sr auto leaves them: there is no constant."""
    graph, masks = sparse(tiny_model)
    for name, mask in masks.items():
        tiny_model.get_submodule(name).bias.data[~mask] = 0
    bare = rebuild(tiny_model, graph, masks)
    slim = deepcopy(bare)
    assert move_constants_(slim, tiny_model, graph, masks) == 0
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), slim.parameters(), strict=True))


def test_a_channel_that_varies_leaves_its_mean() -> None:
    """Of 200,000 normal values through BN and SiLU; a constant where gamma is 0."""
    model = padded()
    graph = channel_graph(model)
    masks = {"1": torch.tensor([True] * 4 + [False] * 4)}
    with torch.no_grad():
        model[1].weight[6] = 0
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(200_000, generator=draw, dtype=torch.float64)
    found = constants_of(model, graph, masks)["3"]
    assert torch.equal(found[:4], torch.zeros(4).double())
    for channel in (4, 5, 6, 7):
        value = model[2](model[1].weight[channel] * z + model[1].bias[channel]).mean()
        assert found[channel].item() == pytest.approx(value.item(), abs=0.01)
    assert found[6].item() == pytest.approx(model[2](model[1].bias[6]).item(), abs=1e-12)


def test_on_by_default_and_an_option(tiny_model: nn.Module) -> None:
    """prune() moves constants, recover=() leaves the model as cut; both leave the dense model."""
    before = deepcopy(tiny_model.state_dict())
    sparse(tiny_model)
    zeroed = deepcopy(tiny_model.state_dict())
    default, bare = prune(tiny_model, 0.4, imgsz=64), prune(tiny_model, 0.4, imgsz=64, recover=())
    assert default.report.recovered == ("constants",) and bare.report.recovered == ()
    part = default.recovery.parts[0]
    assert (part.name, part.kept, part.accuracy) == ("constants", True, None) and part.layers > 10
    changed = [
        k
        for k, v in bare.model.state_dict().items()
        if not torch.equal(v, default.model.state_dict()[k])
    ]
    assert changed and all(k.endswith(("running_mean", "bias")) for k in changed)
    assert all(torch.equal(v, zeroed[k]) for k, v in tiny_model.state_dict().items())
    assert before.keys() == zeroed.keys()
