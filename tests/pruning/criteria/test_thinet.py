"""ThiNet: the order of removal against the slow loop of the paper, and what the scores promise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_model import maps_read, plain_model
from torch import nn

from yolo_slim import InputError, channel_graph
from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph, Norm
from yolo_slim.pruning.activations import filters, generator, grams, patches
from yolo_slim.pruning.budget.blocks import Blocks
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.criteria.table import find
from yolo_slim.pruning.criteria.thinet import overlaps, removal_order, shares
from yolo_slim.pruning.criteria.units import Units

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(count: int, height: int, width: int | None = None, seed: int = 0) -> Calibration:
    """Smooth random images in float64, in two batches."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, dtype=torch.float64, generator=draw)
    images = F.interpolate(coarse, size=(height, width or height), mode="bilinear")
    return Calibration(tuple((part, None) for part in images.split((count + 1) // 2)))


# The slow reference: read the maps, try each channel, run the module, keep the smallest norm.


@torch.no_grad()
def missing(conv: Any, x: torch.Tensor, gone: np.ndarray) -> float:
    """Mean over positions of |output|^2 where only the channels that are gone are read, no bias."""
    bare = deepcopy(conv)
    if bare.bias is not None:
        bare.bias.zero_()
    flat = isinstance(conv, nn.Linear)
    mask = torch.from_numpy(gone).to(x).view((-1,) if flat else (-1, 1, 1))
    out = bare(x * mask)
    positions = len(x) if flat else len(x) * out.shape[2] * out.shape[3]
    if getattr(conv, "transposed", False):  # a position is what one input pixel writes
        positions = len(x) * x.shape[2] * x.shape[3]
    return float(out.square().sum()) / positions


def slow_order(
    model: nn.Module, graph: ChannelGraph, unit: tuple[Norm, ...], calibration: Calibration
) -> tuple[list[int], list[float]]:
    """Groups of a unit in the order in which they go, and the energy of what is then missing."""
    groups = sorted({int(g) for norm in unit for g in graph.group[norm.ids]})
    readers = sorted({name for norm in unit for name in norm.readers})
    readers = [name for name in readers if not graph.convs[name].depthwise]
    maps = maps_read(model, readers, calibration)
    order: list[int] = []
    energy: list[float] = []
    while len(order) < len(groups):
        trials = {}
        for group in groups:
            if group not in order:
                ids = np.flatnonzero(np.isin(graph.group, [*order, group]))
                trials[group] = sum(
                    missing(
                        model.get_submodule(name),
                        maps[name],
                        np.isin(graph.convs[name].inputs, ids),
                    )
                    for name in readers
                )
        order.append(min(trials, key=lambda g: trials[g]))
        energy.append(trials[order[-1]])
    return [groups.index(g) for g in order], energy


def compare(model: nn.Module, graph: ChannelGraph, calibration: Calibration, *bns: str) -> None:
    """Ours and the slow loop take the same channels in the same order."""
    found = overlaps(model, Units(graph), calibration, positions=None)
    for bn in bns:
        index = next(i for i, unit in enumerate(Units(graph).norms) if bn in [n.name for n in unit])
        order, energy = removal_order(found[index])
        slow, wanted = slow_order(model, graph, Units(graph).norms[index], calibration)
        assert order.tolist() == slow, bn
        np.testing.assert_allclose(energy, wanted, rtol=1e-9, err_msg=bn)


def test_each_kind_of_conv_as_the_slow_loop() -> None:
    """Read by 3x3 with stride, padding and dilation; 1x1; transposed; 3x3 reflecting; Linear."""
    model = plain_model()
    graph = channel_graph(model)
    readers = [norm.readers for norm in graph.prunable]
    assert readers == [("3",), ("6",), ("9",), ("14",), ("17",)]
    compare(model, graph, pictures(6, 16), *(norm.name for norm in graph.prunable))


def test_joined_read_twice_and_tied_channels_as_the_slow_loop(tiny_model: nn.Module) -> None:
    model = tiny_model.double()
    graph = channel_graph(model, "group")
    norms = graph.norms
    assert norms["model.7.cv1.bn"].readers == ("model.7.cv2.conv",)  # of an SPPF: four times
    assert len(norms["model.5.bn"].readers) == 3
    assert norms["model.4.m.0.cv2.bn"].tied == ("model.4.cv1.bn", "model.4.m.1.cv2.bn")
    names = ("model.7.cv1.bn", "model.5.bn", "model.4.cv1.bn", "model.4.m.0.cv1.bn")
    compare(model, graph, pictures(4, 64), *names)


def test_depthwise_readers_hand_the_channel_on(tiny_yaml: dict) -> None:
    """GhostConv: the second half of its channels is made from the first by a depthwise conv."""
    from _common import randomise_norms_

    from yolo_slim.host.classes import yolo

    tiny_yaml["backbone"][3][2] = "GhostConv"
    model = yolo.DetectionModel(tiny_yaml)
    randomise_norms_(model)
    model = model.double().eval()
    graph = channel_graph(model)
    assert graph.norms["model.3.cv1.bn"].tied == ("model.3.cv2.bn",)
    assert graph.norms["model.3.cv1.bn"].readers[0] == "model.3.cv2.conv"
    compare(model, graph, pictures(2, 64), "model.3.cv1.bn")


# Patches


CONVS: dict[str, Callable[[], nn.Module]] = {
    "3x3": lambda: nn.Conv2d(4, 5, 3, padding=1),
    "stride 2": lambda: nn.Conv2d(4, 5, 3, stride=2, padding=1),
    "6x6 stride 2": lambda: nn.Conv2d(4, 5, 6, stride=2, padding=2),
    "3x5, unequal all": lambda: nn.Conv2d(4, 5, (3, 5), (2, 1), (0, 2), (2, 1)),
    "circular": lambda: nn.Conv2d(4, 5, 3, padding=1, padding_mode="circular"),
    "same": lambda: nn.Conv2d(4, 5, 4, padding="same"),
    "1x1": lambda: nn.Conv2d(4, 5, 1),
}


@pytest.mark.parametrize("kind", CONVS)
def test_patches_times_filters_is_the_conv(kind: str) -> None:
    conv, x = CONVS[kind]().double(), torch.randn(3, 4, 11, 14, dtype=torch.float64)
    with torch.no_grad():
        expected = conv(x).movedim(1, -1).flatten(0, 2) - conv.bias
    assert torch.allclose(patches(conv, x) @ filters(conv).T, expected, rtol=0, atol=1e-12)


def test_patches_of_transposed_convs_and_linear_layers() -> None:
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    up, linear = nn.ConvTranspose2d(4, 2, 2, stride=2, bias=False), nn.Linear(6, 7, bias=False)
    with torch.no_grad():
        strokes = up.double()(x).view(3, 2, 5, 2, 6, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 8)
        assert torch.allclose(patches(up, x) @ filters(up).T, strokes, atol=1e-12)
        expected = linear.double()(x).flatten(0, 2)
        assert torch.allclose(patches(linear, x) @ filters(linear).T, expected, atol=1e-12)


def test_positions_are_drawn_once_each_and_from_every_image() -> None:
    conv = nn.Conv2d(1, 1, 1)
    x = torch.arange(4 * 30.0).view(4, 1, 5, 6)  # each place has a value of its own
    drawn = patches(conv, x, 7, generator(0, "a")).flatten().tolist()
    assert len(set(drawn)) == len(drawn) == 28
    assert [int(v // 30) for v in drawn] == [i for i in range(4) for _ in range(7)]
    assert len({frozenset(int(v) % 30 for v in drawn[i : i + 7]) for i in (0, 7, 14, 21)}) == 4
    assert drawn == patches(conv, x, 7, generator(0, "a")).flatten().tolist()
    assert drawn != patches(conv, x, 7, generator(0, "b")).flatten().tolist()
    assert drawn != patches(conv, x, 7, generator(1, "a")).flatten().tolist()
    assert torch.equal(patches(conv, x, 30), x.double().view(-1, 1))


def test_a_gram_matrix_is_the_mean_of_the_patches_products(tiny_model: nn.Module) -> None:
    """And it does not change when memory is short: the images are then run once for each conv."""
    names, calibration = ["model.3.conv", "model.7.cv2.conv"], pictures(5, 64)
    maps = maps_read(tiny_model.double(), names, calibration)
    found = dict(grams(tiny_model, names, calibration, positions=None))
    for name in names:
        read = patches(tiny_model.get_submodule(name), maps[name])
        assert torch.allclose(found[name], read.T @ read / len(read), rtol=1e-10)
    drawn = dict(grams(tiny_model, names, calibration, positions=3, seed=1))
    short = dict(grams(tiny_model, names, calibration, positions=3, seed=1, memory=1))
    assert all(torch.equal(drawn[name], short[name]) for name in names)
    assert not torch.equal(drawn["model.3.conv"], found["model.3.conv"])


# Order and scores


def test_the_order_by_hand() -> None:
    """0 and 1 cancel out: alone each is missed much, together not at all; 2 is missed a little."""
    overlap = np.array([[4.0, -4, 0, 0], [-4, 4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 9]])
    order, energy = removal_order(overlap)
    assert order.tolist() == [2, 0, 1, 3]
    assert energy.tolist() == [1, 5, 1, 10]
    np.testing.assert_allclose(shares(energy), [0.1, 0.5, 0.5, 1.0], atol=1e-11)
    assert (np.diff(shares(energy)) > 0).all() and shares(energy)[-1] < 1


def test_the_order_depends_on_what_is_gone_already() -> None:
    """1 is the second smallest alone, but it doubles what 0 was."""
    overlap = np.array([[1.0, 1.1, 0], [1.1, 1.3, 0], [0, 0, 2]])
    assert np.diag(overlap).argsort().tolist() == [0, 1, 2]
    assert removal_order(overlap)[0].tolist() == [0, 2, 1]


def test_channels_that_add_nothing_go_first_and_score_zero_where_all_do() -> None:
    overlap = np.diag([3.0, 0, 2, 0])
    assert removal_order(overlap)[0].tolist() == [1, 3, 2, 0]
    assert removal_order(np.zeros((3, 3)))[0].tolist() == [0, 1, 2]
    assert shares(np.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("residual", ["skip", "inner", "group"])
def test_sorted_scores_are_the_order(tiny_model: nn.Module, residual: Any) -> None:
    """Also where tied channels are scored by their mean, as a budget does."""
    graph, calibration = channel_graph(tiny_model, residual), pictures(4, 64)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        seed = int(torch.randint(1 << 31, ()))
    scores = score(tiny_model, graph, "thinet", calibration, seed=7)
    assert scores.keys() == {n.name for n in graph.prunable}
    for unit, matrix in zip(
        Units(graph).norms, overlaps(tiny_model, Units(graph), calibration, seed=seed), strict=True
    ):
        groups = np.unique(graph.group[unit[0].ids])
        order = groups[removal_order(matrix)[0]]
        for norm in unit:
            value = scores[norm.name]
            assert value.min() >= 0 and value.max() < 1 and len(value.unique()) == len(value)
            assert graph.group[norm.ids][value.argsort(stable=True)].tolist() == order.tolist()
    blocks = Blocks(graph, scores, 1)
    for stack in blocks.stacks:
        assert (np.diff(blocks.score[stack]) > 0).all()


def test_what_nothing_reads_scores_zero(tiny_model: nn.Module) -> None:
    graph = channel_graph(tiny_model)
    rest: Mapping = {n: c for n, c in graph.convs.items() if n != "model.7.cv2.conv"}
    scores = score(tiny_model, replace(graph, convs=dict(rest)), "thinet", pictures(2, 64))
    assert not scores["model.7.cv1.bn"].any()
    assert all(scores[n.name].any() for n in graph.prunable if n.name != "model.7.cv1.bn")


def test_a_silent_channel_goes_first(tiny_model: nn.Module) -> None:
    for parameter in (tiny_model.model[5].bn.weight, tiny_model.model[5].bn.bias):
        parameter.data[[3, 8]] = 0
    scores = score(tiny_model, channel_graph(tiny_model), "thinet", pictures(2, 64))
    order = scores["model.5.bn"].argsort().tolist()
    assert order[:2] == [3, 8] and scores["model.5.bn"][[3, 8]].max() < 1e-9
    assert scores["model.5.bn"][order[2]] > 1e-6


def test_seeded(tiny_model: nn.Module) -> None:
    graph, calibration = channel_graph(tiny_model), pictures(2, 96)
    a, b, c = (score(tiny_model, graph, "thinet", calibration, seed=s) for s in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["model.0.bn"], c["model.0.bn"])


# Around it


def fingerprint(model: nn.Module) -> str:
    """Changes with any tensor, mode, hook or cached grid of a model."""
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        digest.update(f"{name} {module.training} {len(module._forward_pre_hooks)}".encode())
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.numpy().tobytes())
    digest.update(str([tuple(grid.shape) for grid in model.model[-1].grid]).encode())
    return digest.hexdigest()


def test_the_model_is_untouched_also_where_it_fails(tiny_model: nn.Module) -> None:
    tiny_model.train()
    before, graph = fingerprint(tiny_model), channel_graph(tiny_model)
    list(grams(tiny_model, ["model.3.conv"], pictures(2, 64)))
    assert fingerprint(tiny_model) == before
    broken = Calibration(((torch.rand(2, 3, 64, 64), None), (torch.rand(2, 5, 64, 64), None)))
    with pytest.raises(InputError, match="channels"):
        overlaps(tiny_model, Units(graph), broken)
    assert fingerprint(tiny_model) == before


def test_defaults_and_no_images(tiny_model: nn.Module) -> None:
    """Of residual blocks the inner channels are cut, and weights are fitted afterwards."""
    found = find("thinet")
    assert (found.residual, found.data) == ("inner", True)
    assert found.recover == ("constants", "weights")
    for calibration in (None, Calibration(())):
        with pytest.raises(InputError, match="criterion thinet: no calibration images, expected"):
            score(tiny_model, channel_graph(tiny_model), "thinet", calibration)
