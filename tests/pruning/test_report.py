"""What a cut says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from yolo_slim import prune
from yolo_slim.pruning.report import CutReport, LayerCut


@pytest.fixture(scope="module")
def report(_tiny: nn.Module) -> CutReport:
    return prune(_tiny, macs=0.6, criterion="l2", round_to=8, keep=["model.0"], imgsz=64).report


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (LayerCut("model.2.cv1.bn", 8, 8, "added in model.2.m.0"), "in residual blocks"),
        (LayerCut("model.2.cv1.bn", 8, 8, "--keep"), "kept by --keep"),
        (LayerCut("model.2.cv1.bn", 8, 8, "floor"), "at their floor (--min-channels)"),
        (LayerCut("model.2.cv1.bn", 8, 8, "x is a grouped conv"), "pinned (must stay whole)"),
        (LayerCut("model.2.cv1.bn", 8, 8, "ratio 0.01"), "not chosen"),
        (LayerCut("model.2.cv1.bn", 8, 8), "not chosen"),
        (LayerCut("model.2.cv1.bn", 8, 4, "floor"), ""),
    ],
)
def test_why_a_layer_stays_whole(cut: LayerCut, words: str) -> None:
    assert cut.stays == words


def test_every_batchnorm_is_counted_once(report: CutReport) -> None:
    text = report.held()
    numbers = [int(word) for word in text.replace(";", " ").split() if word.isdigit()]
    cut, total, *others = numbers
    assert total == len(report.layers) == cut + sum(others)
    assert cut == sum(layer.kept < layer.channels for layer in report.layers)
    assert "1 kept by --keep" in text


def test_the_plan_has_a_row_for_each_layer_that_loses_channels(report: CutReport) -> None:
    cut = {layer.place for layer in report.layers if layer.kept < layer.channels}
    rows = [line.split() for line in report.plan_table().splitlines()[3:]]
    assert {row[0] for row in rows} == cut
    for row in rows:
        inside = [layer for layer in report.layers if layer.place == row[0]]
        assert int(row[1]) == sum(layer.channels for layer in inside)
        assert int(row[2]) == sum(layer.kept for layer in inside)


def test_multiples_are_those_of_the_table(report: CutReport) -> None:
    layers = tuple(LayerCut(f"model.{i}.bn", 128, kept) for i, kept in enumerate((96, 48, 128)))
    assert replace(report, layers=layers, round_to=32).rounding() == (
        "in multiples of 32 in 1 layer, of 16 in 1 layer"
    )
    assert replace(report, layers=layers[::2], round_to=32).rounding() == "in multiples of 32"
    assert replace(report, layers=layers, round_to=1).rounding() == "not rounded"


def test_what_was_gained_is_said_in_words(report: CutReport) -> None:
    before, after = (replace(report.before, macs=m, params=p, bytes=b) for m, p, b in SIZES)
    assert replace(report, before=before, after=after).gains() == (
        "2.0x fewer MACs, as many parameters, a file 4.0x smaller"
    )


SIZES = ((200, 100, 40), (100, 99, 10))
