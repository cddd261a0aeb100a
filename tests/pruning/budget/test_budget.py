"""The global threshold: requested share, floors, ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_slim import InputError
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.tracer import Tracer
from yolo_slim.pruning.budget.choose import achieved, masks_by_percent


def graph_of(counts: list[int], tied: list[tuple[int, int]] = ()) -> ChannelGraph:
    """A graph of BNs with these counts; pairs of BNs tied channel by channel."""
    tracer = Tracer()
    ids = [tracer.norm(f"bn{i}", torch.nn.BatchNorm2d(c)) for i, c in enumerate(counts)]
    for a, b in tied:
        tracer.tie(ids[a], ids[b])
    return tracer.finish()


def scores_of(*rows: list[float]) -> dict[str, torch.Tensor]:
    return {f"bn{i}": torch.tensor(row) for i, row in enumerate(rows)}


def kept(masks: dict[str, torch.Tensor]) -> list[list[int]]:
    return [m.int().tolist() for m in masks.values()]


def test_smallest_over_all_layers() -> None:
    masks = masks_by_percent(graph_of([3, 3]), scores_of([0.1, 0.9, 0.5], [0.2, 0.3, 0.8]), 0.5)
    assert kept(masks) == [[0, 1, 1], [0, 0, 1]]


def test_floor_is_made_up_for_elsewhere() -> None:
    """All of bn0 is smaller than bn1; its last channel stays and bn1 gives one more."""
    scores = scores_of([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    assert kept(masks_by_percent(graph_of([3, 3]), scores, 0.5)) == [[0, 0, 1], [0, 1, 1]]
    masks = masks_by_percent(graph_of([3, 3]), scores, 0.5, min_channels=2)
    assert kept(masks) == [[0, 1, 1], [0, 1, 1]]
    assert achieved(graph_of([3, 3]), masks) == pytest.approx(2 / 6)


def test_floor_larger_than_a_layer_keeps_it_whole() -> None:
    masks = masks_by_percent(
        graph_of([2, 6]), scores_of([0.0, 0.0], [1.0] * 6), 0.5, min_channels=2
    )
    assert kept(masks)[0] == [1, 1]
    assert achieved(graph_of([2, 6]), masks) == 0.5


def test_tied_channels_go_together_by_their_mean() -> None:
    graph = graph_of([2, 2, 2], tied=[(0, 1)])
    masks = masks_by_percent(graph, scores_of([0.1, 0.5], [0.9, 0.6], [0.55, 0.9]), 1 / 3)
    assert kept(masks) == [[0, 1], [0, 1], [1, 1]]  # means 0.5 and 0.55 against 0.55 and 0.9


@given(
    counts=st.lists(st.integers(1, 24), min_size=1, max_size=8),
    percent=st.floats(0, 0.99),
    floor=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=120, deadline=None)
def test_share_is_reached_unless_a_floor_forbids(
    counts: list[int], percent: float, floor: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    graph = graph_of(counts)
    masks = masks_by_percent(
        graph, scores_of(*(rng.random(c).tolist() for c in counts)), percent, min_channels=floor
    )
    left = [int(m.sum()) for m in masks.values()]
    assert all(k >= min(floor, c) for k, c in zip(left, counts, strict=True))
    possible = sum(max(c - floor, 0) for c in counts)
    assert sum(counts) - sum(left) == min(round(percent * sum(counts)), possible)


@pytest.mark.parametrize("percent", [-0.1, 1, 1.0, float("nan"), "abc", True])
def test_percent_out_of_range(percent: object) -> None:
    with pytest.raises(InputError, match=r"percent: .* expected a share in \[0, 1\)"):
        masks_by_percent(graph_of([2]), scores_of([1.0, 2.0]), percent)


def test_what_a_floor_forbids_is_said(tiny_model: torch.nn.Module) -> None:
    from yolo_slim import prune

    report = prune(tiny_model, 0.99, min_channels=4, imgsz=64).report
    assert report.achieved < 0.9
    assert "layers are at their floor (--min-channels): no more could be cut" in report.summary()
    assert {c.kept for c in report.layers if c.note == "floor"} == {4}
    assert "at their floor" not in prune(tiny_model, 0.5, imgsz=64).report.summary()
