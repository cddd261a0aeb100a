"""Residual Bottlenecks as items of a budget: what they cost, when they go, what holds them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import build_tiny
from torch import nn

from yolo_slim import InputError, channel_graph, prune
from yolo_slim.calibration import Calibration
from yolo_slim.files import shipped
from yolo_slim.host.checkpoint import finished, packed
from yolo_slim.measure.cost import cost
from yolo_slim.models.model import build_model
from yolo_slim.pruning.budget.blocks import Blocks
from yolo_slim.pruning.budget.choose import choose_masks, percent_goal
from yolo_slim.pruning.budget.goals import goal_of
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.spread import ranked
from yolo_slim.pruning.budget.target import NAMES, Target
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.masks import keep_vector, removed_blocks, whole_masks
from yolo_slim.pruning.rebuild.rebuild import rebuild

BLOCKS = ("model.2.m.0", "model.4.m.0", "model.4.m.1")
FREE = dict.fromkeys(BLOCKS, 0.0)


@pytest.mark.parametrize("residual", ["inner", "group"])
def test_costs_without_a_block_are_those_of_the_rebuilt_model(residual: Any) -> None:
    model = build_tiny()
    graph = channel_graph(model, residual)
    masks = {n.name: torch.arange(n.channels) % 4 > 0 for n in graph.prunable if not n.tied}
    for name in BLOCKS[:2]:
        masks[f"{name}.cv1.bn"][:] = False
    masks = whole_masks(graph, masks)
    counted, keep = MaskCost(model, graph, 64), keep_vector(graph, masks)
    pruned = rebuild(model, graph, masks)
    real = cost(pruned, 64)
    assert (counted.macs(keep), counted.params(keep)) == (real.macs, real.params)
    assert counted.size(keep) == pytest.approx(len(packed(finished(pruned))), rel=0.005)


def test_a_stack_is_emptied_whatever_the_floor() -> None:
    graph = channel_graph(build_tiny(), "inner")
    scores = {n.name: torch.arange(n.channels) / 1.0 for n in graph.prunable}
    cut = Blocks(graph, scores, min_channels=6, worth={"model.4.m.0": 3.0})
    inner = sorted(cut.groups("model.4.m.0.cv1.bn"), key=lambda g: cut.score[g])
    assert not cut.cut(inner[:12])  # fewer than the floor
    assert cut.cut(inner[:10])
    assert cut.cut(inner[10:])
    keep = cut.keep(graph)
    assert not keep[graph.norms["model.4.m.0.cv2.bn"].ids].any()
    assert removed_blocks(graph, cut.masks()) == ("model.4.m.0",)
    assert (keep == keep_vector(graph, cut.masks())).all()
    cut.restore(inner)
    assert cut.keep(graph).all()
    other = sorted(cut.groups("model.4.m.1.cv1.bn"), key=lambda g: cut.score[g])
    assert not cut.cut(other)  # nobody said that it may go


@pytest.mark.parametrize("step", [1, 4, 32])
def test_the_score_of_a_removal_is_the_mean_of_what_goes(step: int) -> None:
    """By hand: 16 inner channels of scores 0 to 15, and a worth of 24."""
    graph = channel_graph(build_tiny(), "inner")
    scores = {n.name: torch.arange(n.channels) / 1.0 for n in graph.prunable}
    cut = Blocks(graph, scores, 2, {"model.4.m.0": 24.0})
    blocks = ranked(cut, cut.blocks(step))
    removal = next(block for block in blocks if block.removes)
    left = {1: [14, 15], 4: [12, 13, 14, 15], 32: list(range(16))}[step]
    assert sorted(cut.score[list(removal.groups)]) == left
    assert removal.score == pytest.approx((sum(left) + 24) / len(left))
    before = [b for b in blocks if b.owners == removal.owners]
    assert before[-1] is removal
    assert len({g for b in before for g in b.groups}) == 16


def test_uniform_removes_where_the_average_layer_has_its_score() -> None:
    graph = channel_graph(build_tiny(), "inner")
    scores = {n.name: torch.linspace(0, 1, n.channels) for n in graph.prunable}
    scores["model.4.m.0.cv1.bn"] *= 0.2
    cut = Blocks(graph, scores, 1, {"model.4.m.0": 0.0, "model.4.m.1": 16.0})
    blocks = ranked(cut, cut.blocks(1), "uniform")
    owners = [cut.place[f"model.4.m.{i}.cv1.bn"] for i in (0, 1)]
    first, second = ([b for b in blocks if b.owners == (owner,)] for owner in owners)
    assert first[-1].removes and second[-1].removes
    assert len(first[-1].groups) > 12  # as a whole, where the others lose about a tenth
    assert sum(len(b.groups) for b in blocks[: blocks.index(first[-1])]) < 0.2 * len(cut.score)
    assert len(second) == 16  # worth more than any channel: its channels go first


@pytest.mark.parametrize("name", [n for n in NAMES if n != "latency"])
@pytest.mark.parametrize("residual", ["inner", "group"])
@pytest.mark.parametrize("round_to", [1, 8])
def test_targets_are_met_with_blocks_among_the_channels(
    name: Any, residual: Any, round_to: int
) -> None:
    model = build_tiny()
    graph = channel_graph(model, residual)
    counted = MaskCost(model, graph, 64)
    value = {"percent": 0.6, "macs": 0.4, "params": 0.4, "size_mb": 0.11}[name]
    goal = goal_of(Target(name, value), graph, counted, round_to)
    scores = score(model, graph, "random")
    masks = choose_masks(graph, scores, goal, round_to=round_to, worth=FREE)
    left = goal.left(keep_vector(graph, masks))
    assert left == pytest.approx(goal.value, abs=goal.slack + 0.02 * goal.value)


def test_what_can_be_reached_counts_the_blocks() -> None:
    model = build_tiny()
    graph = channel_graph(model, "inner")
    counted = MaskCost(model, graph, 64)
    goal = goal_of(Target("macs", 0.01), graph, counted)
    scores = score(model, graph, "random")
    reach = []
    for worth in (None, FREE):
        with pytest.raises(InputError) as told:
            choose_masks(graph, scores, goal, worth=worth)
        reach.append(float(str(told.value).split("expected ")[1].split(" to ")[0]))
    assert reach[1] < reach[0] - 0.01


def test_percent_counts_what_is_prunable_alone() -> None:
    model = build_tiny()
    graph = channel_graph(model, "inner")
    goal = percent_goal(graph, Target("percent", 0.5))
    scores = {n.name: torch.ones(n.channels) for n in graph.prunable}
    for name in BLOCKS:
        scores[f"{name}.cv1.bn"] = torch.zeros(graph.norms[f"{name}.cv1.bn"].channels)
    masks = choose_masks(graph, scores, goal, worth=FREE)
    assert removed_blocks(graph, masks) == BLOCKS
    cut = sum(int((~masks[norm.name]).sum()) for norm in graph.prunable)
    assert cut == round(0.5 * graph.prunable_channels)


def noise() -> Calibration:
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 64, 64, generator=draw)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return sum(part.square().mean() for part in get_maps(model, batch[0]))

    return Calibration(tuple((image[None], None) for image in images), loss)


def get_maps(model: Any, images: torch.Tensor) -> Any:
    head, mode = model.model[-1], model.model[-1].training
    head.training = True
    try:
        return model(images)
    finally:
        head.training = mode


@pytest.mark.parametrize("criterion", ["l2", "bn", "taylor", "thinet", "obs"])
def test_prune_reaches_its_target_and_names_what_went(criterion: str) -> None:
    model = build_tiny()
    with torch.no_grad():  # a branch that adds next to nothing
        for parameter in model.model[4].m[0].cv2.bn.parameters():
            parameter.mul_(1e-3)
        for parameter in model.model[4].m[0].cv1.bn.parameters():
            parameter.mul_(1e-3)
    options = {"criterion": criterion, "calibration": noise(), "imgsz": 64, "round_to": 8}
    pruned = prune(model, macs=0.5, depth=True, **options)
    report = pruned.report
    assert report.after.macs / report.before.macs == pytest.approx(0.5, rel=0.02)
    assert pruned.parity.holds
    assert "model.4.m.0" in report.removed or criterion == "l2"  # filters know no gamma
    assert report.bottlenecks == 3 and report.residual == "inner"
    text = f"{len(report.removed)} of 3 residual Bottlenecks removed: "
    assert text + ", ".join(report.removed) in " ".join(report.summary().split())
    assert pruned.model.ancestry[-1]["removed"] == list(report.removed)
    row = next(c for c in report.layers if c.name == f"{report.removed[0]}.cv2.bn")
    assert (row.kept, row.note, row.pinned) == (0, "its Bottleneck is gone", False)
    steps = prune(model, macs=0.5, depth=True, steps=2, **options)
    assert steps.parity.holds and steps.report.removed


def test_steps_with_tied_channels() -> None:
    pruned = prune(
        build_tiny(),
        macs=0.3,
        depth=True,
        steps=3,
        criterion="random",
        residual="group",
        imgsz=64,
        round_to=1,
    )
    assert pruned.parity.holds
    assert pruned.report.after.macs / pruned.report.before.macs == pytest.approx(0.3, rel=0.02)


def test_keep_and_ratio_hold_a_block() -> None:
    model = build_model(shipped("cfg/yolov5n.yaml")).eval()
    options: dict[str, Any] = {"criterion": "first", "imgsz": 64, "depth": True, "budget": "global"}
    # the first of a layer are kept: the scores of all layers are alike, and no Bottleneck is worth
    # more than another
    free = prune(model, macs=0.25, **options).report.removed
    assert free
    keep = ["model.2", "model.4.m.0.cv2", "model.4.m.1.cv1.bn", "model.6.m.*", "model.8.m.0"]
    assert prune(model, macs=0.4, keep=keep, **options).report.removed == ()
    ratios = {"*.m.*.cv1.bn": 0.5}
    assert prune(model, macs=0.5, ratios=ratios, **options).report.removed == ()


def test_what_cannot_go_is_said() -> None:
    model = build_tiny()
    with pytest.raises(InputError, match="skip with depth|skip with --depth"):
        prune(model, macs=0.5, depth=True, residual="skip", criterion="l2", imgsz=64)
    with pytest.raises(InputError, match="depth"):
        prune(model, macs=0.5, depth="yes", criterion="l2", imgsz=64)

    class Scan:
        def losses(self, graph: Any, model: Any) -> Any:
            return {n.name: [(0.0, 0.0), (0.9, 1.0)] for n in graph.prunable}

    with pytest.raises(InputError, match="scan"):
        prune(model, macs=0.5, depth=True, budget=Scan(), criterion="l2", imgsz=64)
    assert "depth" not in prune(model, 0.3, criterion="l2", imgsz=64).report.summary()


def test_without_depth_the_ranking_is_what_it_was() -> None:
    graph = channel_graph(build_tiny(), "inner")
    scores = {n.name: torch.rand(n.channels) for n in graph.prunable}
    for spread in ("global", "uniform"):
        cut = Blocks(graph, scores, 1)
        blocks = ranked(cut, cut.blocks(2), spread)
        keys = [b.score if spread == "global" else b.cut for b in blocks]
        assert keys == sorted(keys)
        assert not any(b.removes for b in blocks)
