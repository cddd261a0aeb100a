"""Layers chosen by hand: --keep, --ratio, --residual, --dry-run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_budget import graph_of, kept, scores_of
from torch import nn

from yolo_slim import InputError, channel_graph, load, prune
from yolo_slim.cli import run
from yolo_slim.pruning.budget.choose import achieved, masks_by_percent
from yolo_slim.pruning.budget.globs import select
from yolo_slim.pruning.budget.ratios import parse_ratio


def test_globs_name_norms_and_what_is_around_them(tiny_model: nn.Module) -> None:
    graph = channel_graph(tiny_model)
    assert select(graph, "model.0.bn") == ["model.0.bn"]
    assert select(graph, "model.1") == ["model.1.bn"]
    assert select(graph, "model.2.m") == ["model.2.m.0.cv1.bn", "model.2.m.0.cv2.bn"]
    assert select(graph, "*.cv3.bn") == ["model.2.cv3.bn", "model.4.cv3.bn", "model.11.cv3.bn"]
    assert select(graph, "2.m.0.cv1") == ["model.2.m.0.cv1.bn"]  # as `inspect` prints it
    assert select(graph, "model.[01]") == ["model.0.bn", "model.1.bn"]


def test_kept_layers_are_made_up_for_elsewhere() -> None:
    scores = scores_of([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0])
    masks = masks_by_percent(graph_of([4, 4]), scores, 3 / 8, keep={"bn0"})
    assert kept(masks) == [[1, 1, 1, 1], [0, 0, 0, 1]]


def test_kept_layers_hold_what_they_are_tied_to() -> None:
    graph = graph_of([2, 2, 4], tied=[(0, 1)])
    scores = scores_of([0.0, 0.0], [0.0, 0.0], [1.0, 2.0, 3.0, 4.0])
    assert kept(masks_by_percent(graph, scores, 2 / 8, keep={"bn1"})) == [
        [1, 1],
        [1, 1],
        [0, 0, 1, 1],
    ]


def test_ratios_hold_and_the_rest_makes_up_the_percent() -> None:
    scores = scores_of([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0])
    masks = masks_by_percent(graph_of([4, 4]), scores, 0.5, ratios={"bn0": 0.25})
    assert kept(masks) == [[0, 1, 1, 1], [0, 0, 0, 1]]


def test_ratios_of_all_layers_need_no_percent() -> None:
    scores = scores_of([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0])
    masks = masks_by_percent(graph_of([4, 4]), scores, ratios={"bn0": 0.25, "bn1": 0.5})
    assert kept(masks) == [[0, 1, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6, 0.9])
def test_the_same_ratio_everywhere_is_that_percent(tiny_model: nn.Module, share: float) -> None:
    """Rounding in each layer is no contradiction."""
    report = prune(tiny_model, share, ratios={"model.*": share}, round_to=1, imgsz=64).report
    for layer in report.layers:
        if not layer.pinned:
            assert layer.channels - layer.kept == round(share * layer.channels)


def test_ratio_of_a_tied_layer_counts_for_both() -> None:
    graph = graph_of([4, 4, 4], tied=[(0, 1)])
    scores = scores_of([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [9.0, 9.0, 9.0, 9.0])
    masks = masks_by_percent(graph, scores, 4 / 12, ratios={"bn0": 0.5, "bn1": 0.5})
    assert kept(masks) == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    with pytest.raises(InputError, match="one share for BatchNorms that are tied"):
        masks_by_percent(graph, scores, 4 / 12, ratios={"bn0": 0.5, "bn1": 0.25})


def test_what_keep_and_ratio_make_impossible() -> None:
    graph, scores = graph_of([4, 4]), scores_of([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(InputError, match=r"percent: 0.6, more than --keep.*expected at most 0.375"):
        masks_by_percent(graph, scores, 0.6, keep={"bn0"})
    with pytest.raises(InputError, match=r"percent: 0.1, less than --ratio cuts, .* 0.375 or more"):
        masks_by_percent(graph, scores, 0.1, ratios={"bn1": 0.75})


@pytest.mark.parametrize("residual", ["skip", "inner", "group"])
def test_on_a_model(tiny_model: nn.Module, residual: str) -> None:
    """In the Concat and SPPF of a real graph, with parity; the last glob that matches decides."""
    pruned = prune(
        tiny_model,
        0.4,
        residual=residual,
        keep=["model.4"],
        ratios={"model.1*": 0.25, "model.11.cv3.bn": 0.5},
        imgsz=64,
    )
    assert pruned.parity.holds
    layers = {layer.name: layer for layer in pruned.report.layers}
    inside = [layer for name, layer in layers.items() if name.startswith("model.4.")]
    assert all(layer.kept == layer.channels for layer in inside)
    assert layers["model.4.cv3.bn"].note == "--keep"
    assert (layers["model.1.bn"].channels, layers["model.1.bn"].kept) == (16, 12)
    assert (layers["model.11.cv3.bn"].channels, layers["model.11.cv3.bn"].kept) == (32, 16)
    assert layers["model.11.cv3.bn"].note == "ratio 0.5"
    graph = channel_graph(tiny_model, residual)
    assert abs(achieved(graph, pruned.masks) - 0.4) * graph.prunable_channels < 2


def test_dry_run_writes_nothing(tiny_checkpoint: Path, empty_folder: Path, capfd) -> None:
    argv = ["--weights", str(tiny_checkpoint), "--percent", "0.3", "--imgsz", "64"]
    assert run("prune", [*argv, "--dry-run", "--keep", "model.0"]) == 0
    text = capfd.readouterr().out
    assert list(empty_folder.iterdir()) == []
    assert "Nothing was written or validated (--dry-run)." in text
    assert "1 kept by --keep" in text
    assert "parameters" in text
    assert "requested 30.0%" in text
    assert run("prune", [*argv, "--dry-run", "--keep", "model.0", "--layers"]) == 0
    text = capfd.readouterr().out
    assert "--keep" in next(line for line in text.splitlines() if "model.0.bn" in line)


def test_report_has_what_was_chosen(tiny_checkpoint: Path, empty_folder: Path) -> None:
    argv = ["--weights", str(tiny_checkpoint), "--imgsz", "64", "--residual", "group"]
    assert run("prune", [*argv, "--ratio", "model.1=0.25", "--keep", "model.3"]) == 0
    report = json.loads(Path("runs/prune/exp/report.json").read_text())
    assert report["residual"] == "group"
    assert report["options"]["keep"] == ["model.3"]
    notes = {layer["name"]: layer["note"] for layer in report["layers"]}
    assert (notes["model.1.bn"], notes["model.3.bn"]) == ("ratio 0.25", "--keep")
    assert all(note in ("", "floor") or note.startswith(("--", "ratio")) for note in notes.values())
    found = load("runs/prune/exp/pruned.pt").model
    assert (found.model[1].conv.out_channels, found.model[3].conv.out_channels) == (12, 32)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--keep", "model.40"], "--keep: 'model.40', which matches nothing"),
        (["--keep", "model.4.cv4.bn"], "such as model.4.cv"),
        (["--keep", ""], "a module with one, such as model.0"),
        (["--ratio", "modle.1.bn=0.5"], "such as model.1"),
        (["--ratio", "model.1"], "expected GLOB=SHARE with a share in [0, 1)"),
        (["--ratio", "model.1=1"], "expected GLOB=SHARE with a share in [0, 1)"),
        (["--ratio", "model.1=-0.1"], "expected GLOB=SHARE with a share in [0, 1)"),
        (["--ratio", "model.1=nan"], "expected GLOB=SHARE with a share in [0, 1)"),
        (["--ratio", "model.2.m=0.5"], "which is pinned (inside the residual model.2.m.0)"),
        (["--percent", "0.9", "--keep", "model.*"], "more than --keep, --ratio and --min-channels"),
        (["--percent", "0.1", "--ratio", "model.*=0.5"], "less than --ratio cuts"),
        (["--residual", "some"], "invalid choice: 'some'"),
    ],
)
def test_bad_choices(argv, message, refused, tiny_checkpoint) -> None:
    assert message in refused("prune", "--weights", tiny_checkpoint, "--imgsz", 64, *argv)


def test_glob_with_an_equals_sign() -> None:
    assert parse_ratio("a=b=0.5") == ("a=b", 0.5)
