"""What a residual Bottleneck is worth: against each branch taken out by hand."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import TINY, build_tiny
from torch import nn

from yolo_slim import InputError, channel_graph
from yolo_slim.calibration import Calibration
from yolo_slim.host.classes import yolo
from yolo_slim.models.model import default_activation
from yolo_slim.pruning.criteria.blocks import block_scores
from yolo_slim.pruning.criteria.missing import missing_energy
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.criteria.silenced import loss_rises, silenced, squared_changes
from yolo_slim.pruning.criteria.table import CRITERIA, criterion
from yolo_slim.pruning.criteria.weighted import weighted_errors

BLOCKS = ("model.2.m.0", "model.4.m.0", "model.4.m.1")


def maps(model: Any, images: torch.Tensor) -> Any:
    head = model.model[-1]
    head.training, mode = True, head.training
    try:
        return model(images)
    finally:
        head.training = mode


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    """How far the maps of each image are from 1, summed over the images."""
    return sum((part - 1).square().mean((1, 2, 3, 4)).sum() for part in maps(model, batch[0]))


def calibration(size: int = 2) -> Calibration:
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    return Calibration(tuple((part, None) for part in images.split(size)), loss)


@pytest.mark.parametrize("name", BLOCKS)
@torch.no_grad()
def test_squared_changes_by_hand(name: str) -> None:
    model, images = build_tiny(), calibration()
    graph = channel_graph(model, "inner")
    without = deepcopy(model)
    without.get_submodule(name).forward = lambda x: x
    by_hand = sum(float(loss(without, b) - loss(model, b)) ** 2 for b in images.batches)
    assert squared_changes(model, graph, images, [name])[name] == pytest.approx(by_hand, rel=1e-4)


@torch.no_grad()
def test_loss_rises_keep_the_mean() -> None:
    model, images, name = build_tiny(), calibration(), "model.4.m.1"
    sent = []
    handle = model.get_submodule(f"{name}.cv2").register_forward_hook(
        lambda conv, x, out: sent.append(out)
    )
    before = sum(float(loss(model, b)) for b in images.batches)
    handle.remove()
    mean = torch.cat(sent).mean((0, 2, 3))[:, None, None]
    without = deepcopy(model)
    without.get_submodule(name).forward = lambda x: x + mean
    rise = (sum(float(loss(without, b)) for b in images.batches) - before) / 6
    graph = channel_graph(model, "inner")
    assert loss_rises(model, graph, images, [name])[name] == pytest.approx(max(rise, 0), abs=1e-5)


@torch.no_grad()
def test_missing_energy_by_hand() -> None:
    """In model.4 the first branch is read by the second Bottleneck and cv3, the second by cv3."""
    model, images = build_tiny(), calibration(6)
    c3: Any = model.model[4]
    seen: dict[str, torch.Tensor] = {}
    for name, module in (("x", c3.cv1), ("a", c3.m[0].cv2), ("b", c3.m[1].cv2)):
        module.register_forward_hook(lambda m, x, out, name=name: seen.update({name: out}))
    maps(model, images.batches[0][0])

    def energy(conv: nn.Conv2d, x: torch.Tensor) -> float:
        return float(F.conv2d(x, conv.weight[:, : x.shape[1]]).square().sum(1).mean())

    first, last = c3.m[1].cv1.conv, c3.cv3.conv
    x, a, b = seen["x"], seen["a"], seen["b"]
    wanted = {
        "model.4.m.0": (energy(first, a) + energy(last, a))
        / (energy(first, x + a) + energy(last, x + a + b)),
        "model.4.m.1": energy(last, b) / energy(last, x + a + b),
    }
    graph = channel_graph(model, "inner")
    lost = missing_energy(model, graph, images, list(wanted))
    assert lost == pytest.approx({name: 16 * share for name, share in wanted.items()}, rel=1e-4)


@torch.no_grad()
def test_a_sum_that_no_conv_of_its_layer_reads() -> None:
    """The last of a row of Bottlenecks: another layer reads it, after an upsampling or not."""
    with default_activation(None):
        text = TINY.replace("6, C3, [128]", "6, Bottleneck, [128]")
        model: Any = yolo.DetectionModel(yaml.safe_load(text)).eval()
    graph, images, seen = channel_graph(model, "inner"), calibration(6), list[torch.Tensor]()
    block = model.model[4][1]
    handles = [
        m.register_forward_hook(lambda m, x, out: seen.append(out)) for m in (block.cv2, block)
    ]
    maps(model, images.batches[0][0])
    for handle in handles:
        handle.remove()
    share = float(seen[0].square().sum() / seen[1].square().sum())
    lost = missing_energy(model, graph, images, ["model.4.1"])
    assert lost == pytest.approx({"model.4.1": block.cv1.conv.out_channels * share}, rel=1e-4)


def test_weighted_errors_by_hand() -> None:
    """Half of the squares of the gradient, times the variance of what cv3 misses."""
    model, images, name = build_tiny(), calibration(), "model.2.m.0"
    conv, squares, errors = model.model[2].cv3.conv, [], []
    weight = conv.weight.detach().double()

    def read(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.register_hook(lambda g: squares.append(g.double().square().sum((0, 2, 3))))

    conv.register_forward_hook(read)
    model.model[2].m[0].cv2.register_forward_hook(
        lambda m, i, out: errors.append(F.conv2d(out.detach().double(), weight[:, : out.shape[1]]))
    )
    for batch in images.batches:
        loss(model, batch).backward()
    error = torch.cat(errors).transpose(0, 1).flatten(1)
    wanted = float((sum(squares) / 6 * error.var(1, correction=0)).sum()) / 2
    clean = build_tiny()
    graph = channel_graph(clean, "inner")
    lost = weighted_errors(clean, graph, images, [name])
    assert lost == pytest.approx({name: wanted}, rel=1e-3)


def test_without_images_the_channels_that_are_added_count() -> None:
    model = build_tiny()
    graph = channel_graph(model, "inner")
    worth = block_scores(model, graph, "bn")
    assert tuple(worth) == BLOCKS
    for name, value in worth.items():
        inner, outer = (
            model.get_submodule(f"{name}.{conv}.bn").weight.detach().double().abs()
            for conv in ("cv1", "cv2")
        )
        lost = len(inner) * float(outer.mean()) - float(inner.sum())
        assert value == pytest.approx(max(lost, 0.0), abs=1e-9)
    group = block_scores(model, channel_graph(model, "group"), "bn")
    assert group == pytest.approx(worth)


@pytest.mark.parametrize("name", ["l1", "l2", "next-l2"])
def test_filters_are_compared_with_those_that_they_are_added_to(name: str) -> None:
    model: Any = build_tiny()
    with torch.no_grad():
        model.model[4].m[1].cv2.conv.weight.mul_(100)
        model.model[4].m[0].cv2.conv.weight.mul_(1e-3)
    worth = block_scores(model, channel_graph(model, "inner"), name)
    if name == "next-l2":  # all that are added are read by the same convs
        assert max(worth.values()) == pytest.approx(0, abs=1e-6)
    else:
        assert worth["model.4.m.1"] > 10 and worth["model.4.m.0"] == 0


@pytest.mark.parametrize("name", ["taylor", "thinet", "obs", "bn"])
def test_a_branch_that_sends_nothing_is_worth_nothing_more(name: str) -> None:
    model: Any = build_tiny()
    graph = channel_graph(model, "inner")
    with torch.no_grad():
        for parameter in model.model[4].m[0].cv2.bn.parameters():
            parameter.zero_()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = calibration()
    worth = block_scores(model, graph, name, images)
    assert worth["model.4.m.0"] == 0
    scores = score(model, graph, name, images)
    again = block_scores(model, graph, name, images, scores=scores, names=BLOCKS[1:])
    assert again == pytest.approx({name: worth[name] for name in BLOCKS[1:]}, rel=1e-5, abs=1e-12)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_branch_is_loud_again_after_an_error() -> None:
    model = build_tiny()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        whole = maps(model, image)[0]
        with pytest.raises(RuntimeError), silenced(model, "model.4.m.0"):
            assert not torch.equal(maps(model, image)[0], whole)
            raise RuntimeError
        assert torch.equal(maps(model, image)[0], whole)


def test_a_criterion_of_the_users_scores_them_too() -> None:
    @criterion("largest", scale="mean")
    def largest(model: Any, graph: Any, images: Any) -> Any:
        return {n.name: model.get_submodule(n.name).weight.abs() for n in graph.prunable}

    try:
        model = build_tiny()
        assert tuple(block_scores(model, channel_graph(model, "inner"), "largest")) == BLOCKS
    finally:
        del CRITERIA["largest"]


def test_what_is_missing_is_said() -> None:
    model = build_tiny()
    graph = channel_graph(model, "inner")
    with pytest.raises(InputError, match="no calibration images"):
        block_scores(model, graph, "thinet")
    blind = Calibration(calibration().batches)
    for name in ("taylor", "obs"):
        scores = {n.name: torch.ones(n.channels) for n in graph.prunable}
        with pytest.raises(InputError, match=f"{name}: .*without a loss"):
            block_scores(model, graph, name, blind, scores=scores)
    assert block_scores(model, channel_graph(model, "skip"), "bn") == {}
