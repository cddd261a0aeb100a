"""What a sparse training records: measured against slow references, written, read, gone on with."""

from __future__ import annotations

import csv
import io
import json
import math
from argparse import Namespace
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from yolo_slim import channel_graph
from yolo_slim.errors import InputError
from yolo_slim.host.training import Run
from yolo_slim.sparsify.monitor import AUTO, HISTOGRAMS, MORE_EPOCHS, SparsityMonitor
from yolo_slim.sparsify.plot import draw_sparsity, plot_sparsity
from yolo_slim.sparsify.readiness import QUANTILES, Kept, Sparsity, gammas, start_medians
from yolo_slim.sparsify.table import COLUMNS, older_start, read_sparsity, write_sparsity
from yolo_slim.sparsify.verdict import line, pace, share_worth_cutting, verdict, way_done


@pytest.fixture
def names(tiny_model: nn.Module) -> list[str]:
    return [norm.name for norm in channel_graph(tiny_model).prunable]


def row(
    epoch: int, quantile: float, near: float = 0.0, map50: float = 0.9, **more: Any
) -> Sparsity:
    """An epoch with all quantiles alike."""
    same = (quantile,) * len(QUANTILES)
    return Sparsity(epoch, 0.1, same, same, quantile, near, map50, 0.6 * map50, **more)


def falling(*quantiles: float, **last: Any) -> list[Sparsity]:
    """A history of these quantiles, one an epoch; `last` is changed in the last."""
    rows = [row(epoch, quantile) for epoch, quantile in enumerate(quantiles)]
    return [*rows[:-1], replace(rows[-1], **last)]


# measured


def test_near_zero_is_against_the_layer_of_the_channel(
    tiny_model: nn.Module, names: list[str]
) -> None:
    """Layers with gammas of 100 and of 0.01 lose one channel each, by 1% of their own medians."""
    for at, name in enumerate(names):
        nn.init.constant_(tiny_model.get_submodule(name).weight, (100.0, 0.01)[at % 2])
    start = start_medians(tiny_model, names)
    assert list(start.values()) == pytest.approx([(100.0, 0.01)[i % 2] for i in range(len(names))])
    for at, name in enumerate(names):
        weight = tiny_model.get_submodule(name).weight.data
        weight[0] = -(0.99, 0.99e-4)[at % 2]  # just below
        weight[1] = (1.01, 1.01e-4)[at % 2]  # just above
    found = Sparsity.of(tiny_model, start, epoch=3, sr=0.5, percent=0.6)
    channels = sum(len(tiny_model.get_submodule(name).weight) for name in names)
    assert found.near_zero == pytest.approx(len(names) / channels)
    assert (found.epoch, found.sr) == (3, 0.5)


def test_quantiles_are_those_of_numpy(tiny_model: nn.Module, names: list[str]) -> None:
    start = start_medians(tiny_model, names)
    later = deepcopy(tiny_model)
    raw, relative = [], []
    for name in names:
        weight = later.get_submodule(name).weight.data.mul_(torch.rand(()) - 0.5)
        raw += [abs(v) for v in weight.tolist()]
        relative += [abs(v) / start[name] for v in weight.tolist()]
    found = Sparsity.of(later, start, epoch=0, sr=0.0, percent=0.37)
    np.testing.assert_allclose(found.gamma, np.quantile(raw, QUANTILES), rtol=1e-5)
    np.testing.assert_allclose(found.relative, np.quantile(relative, QUANTILES), rtol=1e-5)
    assert found.quantile == pytest.approx(np.quantile(relative, 0.37), rel=1e-5)


def test_a_layer_that_is_dead_at_the_start_counts_as_dead(
    tiny_model: nn.Module, names: list[str]
) -> None:
    weight = tiny_model.get_submodule(names[0]).weight.data.zero_()
    start = start_medians(tiny_model, names)
    assert start[names[0]] == 1
    found = Sparsity.of(tiny_model, start, epoch=0, sr=0, percent=0.6)
    assert found.near_zero == pytest.approx(len(weight) / len(gammas(tiny_model, names)))


# written and read


def test_csv_comes_back(tmp_path: Path) -> None:
    values = tuple(i / 7 for i in range(8))
    rows = [
        Sparsity(0, 0.25, values, values[::-1], 0.123456, 0.5, 0.75, 0.5, Kept(0.5, 0.875)),
        Sparsity(1, 0.125, values, values, 0, 1, math.nan, math.nan, None, Kept(0.6, 1.25)),
    ]
    file = write_sparsity(tmp_path / "sparsity.csv", rows)
    table = list(csv.DictReader(io.StringIO(file.read_text())))
    assert list(table[0]) == COLUMNS
    assert [table[0][k] for k in ("share_1", "kept_1", "share_2", "kept_2")] == [
        "0.5",
        "0.875",
        "",
        "",
    ]
    assert [table[1][k] for k in ("map50", "share_1", "kept_2")] == ["", "", "1.25"]
    assert table[0]["gamma_q25"] == "0.285714"
    for given, found in zip(rows, read_sparsity(file), strict=True):
        assert (found.epoch, found.now, found.aim) == (given.epoch, given.now, given.aim)
        assert found.relative == pytest.approx(given.relative, rel=1e-5)
        for name in ("sr", "quantile", "near_zero", "map50", "map"):
            expected = pytest.approx(getattr(given, name), rel=1e-5, nan_ok=True)
            assert getattr(found, name) == expected
    assert not list(tmp_path.glob(".*"))


OLDER = """epoch,sr,gamma_q00,gamma_q10,gamma_q25,gamma_q50,gamma_q60,gamma_q75,gamma_q90,\
gamma_q100,near_zero,threshold
0,0.2,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.02,0.005
1,0.1,0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.1,0.005
"""


def test_a_run_of_an_older_version_is_gone_on_with(
    tiny_model: nn.Module, names: list[str], tmp_path: Path
) -> None:
    """It had one median for all layers, here 0.5: counts go on against it."""
    (tmp_path / "sparsity.csv").write_text(OLDER)
    first, second = read_sparsity(tmp_path / "sparsity.csv")
    assert (first.quantile, second.quantile) == (pytest.approx(1.0), pytest.approx(0.8))
    assert second.gamma[3] == 0.3
    assert math.isnan(second.map50)
    monitor = monitor_of(tiny_model, names, tmp_path)
    monitor.load_state({})
    monitor.rewind(1)
    assert monitor.history == [first]
    assert monitor.start == dict.fromkeys(names, 0.5)
    with torch.no_grad():
        for name in names:
            tiny_model.get_submodule(name).weight.fill_(0.004)
    monitor.record(run_of(tiny_model, 1), sr=0.1)
    assert monitor.history[1].near_zero == 1
    assert [r.epoch for r in read_sparsity(tmp_path / "sparsity.csv")] == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("quantile", "quartile"), "no column quantile"),
        (lambda text: text.replace("0.5", "half"), "damaged .could not convert"),
        (lambda text: text.replace("\n0,", "\n0,0,"), "damaged"),
        (lambda text: text.replace("\n0,", "\n,"), "damaged .a line without its epoch"),
        (lambda text: "", "no column epoch"),
        (lambda text: OLDER.replace("gamma_q50", "median"), "no column gamma_q50"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    file = write_sparsity(tmp_path / "sparsity.csv", [row(0, 0.5)])
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match=rf"sparsity.csv: {said}.*, expected a sparsity.csv of"):
        read_sparsity(file)


def test_an_older_run_that_began_with_dead_gammas(tmp_path: Path) -> None:
    (tmp_path / "sparsity.csv").write_text(OLDER.replace(",0.005", ",0"))
    assert math.isnan(read_sparsity(tmp_path / "sparsity.csv")[0].quantile)
    assert not older_start(tmp_path / "sparsity.csv")


# gone on with


def monitor_of(model: nn.Module, names: list[str], folder: Path, **more: Any) -> SparsityMonitor:
    start = start_medians(model, names)
    return SparsityMonitor(folder, names=names, start=start, percent=0.6, epochs=4, **more)


def run_of(model: nn.Module, epoch: int, board: Any = None) -> Run:
    return Run(Namespace(), epoch, 4, ema=model, board=board, map50=0.5, map=0.25)


def epochs_in(folder: Path) -> list[tuple[int, float]]:
    return [(r.epoch, r.sr) for r in read_sparsity(folder / "sparsity.csv")]


def test_rows_have_no_gap_and_no_double(
    tiny_model: nn.Module, names: list[str], tmp_path: Path
) -> None:
    monitor = monitor_of(tiny_model, names, tmp_path)
    for epoch in range(3):
        monitor.record(run_of(tiny_model, epoch), sr=1.0)
    monitor.rewind(1)  # the same process goes back to the end of epoch 0
    monitor.record(run_of(tiny_model, 1), sr=0.5)
    assert epochs_in(tmp_path) == [(0, 1.0), (1, 0.5)]
    monitor.record(run_of(tiny_model, 2), sr=0.5)
    another = monitor_of(tiny_model, names, tmp_path)  # killed in epoch 2, resumed
    another.rewind(2)
    another.record(run_of(tiny_model, 2), sr=0.25)
    assert epochs_in(tmp_path) == [(0, 1.0), (1, 0.5), (2, 0.25)]
    monitor.rewind(0)  # nothing was saved yet
    monitor.record(run_of(tiny_model, 0), sr=0.125)
    assert epochs_in(tmp_path) == [(0, 0.125)]
    fresh = monitor_of(tiny_model, names, tmp_path)  # a new run in the folder: --exist-ok
    fresh.record(run_of(tiny_model, 0), sr=2.0)
    assert epochs_in(tmp_path) == [(0, 2.0)]


def test_the_start_survives_in_the_checkpoint(
    tiny_model: nn.Module, names: list[str], tmp_path: Path
) -> None:
    """A resumed monitor is made from gammas that are half as large, and counts as the first did."""
    monitor = monitor_of(tiny_model, names, tmp_path)
    monitor.record(run_of(tiny_model, 0), sr=0.1)
    torch.save(monitor.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert json.loads(json.dumps(state)) == state
    with torch.no_grad():
        for name in names:
            tiny_model.get_submodule(name).weight.mul_(0.5)
    resumed = monitor_of(tiny_model, names, tmp_path)
    assert resumed.start != monitor.start
    resumed.load_state(state)
    resumed.rewind(1)
    assert resumed.start == monitor.start
    resumed.record(run_of(tiny_model, 1), sr=0.1)
    first, second = resumed.history
    assert second.relative == pytest.approx([v / 2 for v in first.relative], rel=1e-5)


def test_a_csv_that_cannot_be_written_is_said(
    tiny_model: nn.Module, names: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monitor = monitor_of(tiny_model, names, tmp_path / "file")
    with pytest.raises(InputError, match=r"sparsity.csv: cannot be written"):
        monitor.record(run_of(tiny_model, 0), sr=0.1)


# seen


def test_tensorboard_has_it(tiny_model: nn.Module, names: list[str], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = monitor_of(tiny_model, names, tmp_path)
    with SummaryWriter(str(tmp_path)) as board:
        monitor.record(run_of(tiny_model, 0, board), sr=0.5)
        with torch.no_grad():
            tiny_model.get_submodule(names[0]).weight.zero_()
        monitor.record(run_of(tiny_model, 1, board), sr=0.25)
        tiny_model.get_submodule(names[1]).weight.data[0] = math.nan
        monitor.record(run_of(tiny_model, 2, board), sr=0.25)  # the writer would raise
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    assert len(names) <= HISTOGRAMS
    expected = {"sparsity/gamma", *(f"sparsity/gamma/{name}" for name in names)}
    assert set(events.Tags()["histograms"]) == expected
    channels = len(gammas(tiny_model, names))
    assert [e.histogram_value.num for e in events.Histograms("sparsity/gamma")] == [channels] * 2
    assert len(events.Histograms(f"sparsity/gamma/{names[1]}")) == 2
    assert [e.value for e in events.Scalars("sparsity/sr")] == [0.5, 0.25, 0.25]
    near = [e.value for e in events.Scalars("sparsity/near_zero")]
    assert near[:2] == pytest.approx([r.near_zero for r in monitor.history[:2]])
    assert near[1] > near[0]
    quantiles = [e.value for e in events.Scalars("sparsity/quantile")][:2]
    assert quantiles == pytest.approx([r.quantile for r in monitor.history[:2]])


@pytest.mark.parametrize("epochs", [1, 3, 30, 300])
def test_the_picture_is_legible(tmp_path: Path, epochs: int) -> None:
    """960 px wide; legends cover neither each other, nor the panels, nor what is beside them."""
    history = [
        row(e, 1 - e / epochs, e / epochs, now=Kept(0.3, 0.9), aim=Kept(0.6, 0.5))
        for e in range(epochs)
    ]
    told = {"aim": 0.6, "held_from": epochs // 2, "backs": (-1, epochs // 3 - 1)}
    file = plot_sparsity(history, tmp_path / "sparsity.png", **told)
    with Image.open(file) as picture:
        assert picture.size == (960, 780)
    figure = draw_sparsity(history, **told)
    figure.draw_without_rendering()
    top, low, right = figure.axes
    legends = [axes.get_legend().get_window_extent() for axes in (top, low)]
    panels = [axes.get_window_extent() for axes in (top, low)]
    boxes = [*legends, *panels]
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0
        assert one.x1 <= figure.bbox.x1
        assert not any(one.overlaps(other.shrunk(0.98, 0.98)) for other in boxes[i + 1 :])
    texts = [t.get_text() for axes in (top, low) for t in axes.get_legend().get_texts()]
    assert len(texts) == len(set(texts))
    assert {"zeros held from here", "went back to here", "aim", "mAP50 if cut by 60%"} <= set(texts)
    curve = {line.get_label(): line for axes in (low, right) for line in axes.lines}
    assert list(curve["near zero"].get_xdata()) == list(range(1, epochs + 1))
    upright = {line.get_xdata()[0] for line in top.lines if line.get_label() != "median"}
    assert upright == {0.5, epochs // 2 + 0.5, epochs // 3 + 0.5}
    assert curve["mAP50 if cut by 60%"].get_ydata()[-1] == pytest.approx(0.45)


# in words


@pytest.mark.parametrize(
    ("due", "quantile", "near", "map50", "expected"),
    [
        (0.25, 1.0, 0.0, 0.9, "on the way"),  # a quarter of the way behind is well
        (0.26, 1.0, 0.0, 0.9, "too slow"),
        (0.75, 0.5, 0.0, 0.9, "on the way"),
        (0.75, 0.51, 0.0, 0.9, "too slow"),
        (0.75, 1.0, 0.301, 0.9, "on the way"),  # one channel after another: half of them
        (0.75, 1.0, 0.299, 0.9, "too slow"),
        (0.375, 0.25, 0.0, 0.9, "on the way"),  # ahead, and nothing is lost
        (0.375, 0.25, 0.0, 0.73, "on the way"),
        (0.375, 0.25, 0.0, 0.71, "too fast"),
        (0.375, 0.3, 0.0, 0.71, "on the way"),  # not far ahead
        (0.5, 0.0, 0.6, 0.1, "ready"),
        (0.99, 0.05, 0.5, 0.9, "on the way"),
        (1.0, 0.05, 0.5, 0.9, "too slow"),  # it should be there
        (1.0, 0.01, 0.589, 0.9, "too slow"),
        (1.0, 0.01, 0.591, 0.9, "ready"),
        (0.5, math.nan, 0.0, 0.9, "too slow"),
    ],
)
def test_pace_of_a_strength_that_sets_itself(
    due: float, quantile: float, near: float, map50: float, expected: str
) -> None:
    history = [row(0, 0.9), row(12, quantile, near, map50)]
    assert pace(history, 0.6, 30, due) == expected


@pytest.mark.parametrize(
    ("quantiles", "epochs", "map50", "expected"),
    [
        ((1.0, 0.8), 10, 0.9, "too early to tell"),
        ((1.0, 0.875, 0.75), 15, 0.9, "on the way"),  # 0.125 * 12 epochs / 2: zero at the end
        ((1.0, 0.875, 0.75), 14, 0.9, "too slow"),
        ((9.0, 9.0, 1.0, 0.9375, 0.875, 0.8125), 32, 0.9, "on the way"),  # the last three count
        ((9.0, 9.0, 1.0, 0.9375, 0.875, 0.8125), 31, 0.9, "too slow"),
        ((1.0, 1.1, 1.2), 30, 0.9, "too slow"),
        ((0.5, 0.5, 0.5), 30, 0.9, "too slow"),
        ((1.0, 0.5, math.nan), 30, 0.9, "too slow"),
        ((1.0, 0.75, 0.5), 10, 0.5, "on the way"),  # zero at 5.4 of 10
        ((1.0, 0.75, 0.5), 11, 0.5, "too fast"),  # zero at 5.3 of 11
        ((1.0, 0.75, 0.5), 11, 0.9, "on the way"),
        ((1.0, 0.5, 0.1), 3, 0.9, "too slow"),  # it is over
    ],
)
def test_pace_of_a_fixed_strength(
    quantiles: tuple[float, ...], epochs: int, map50: float, expected: str
) -> None:
    history = falling(*quantiles, map50=map50)
    assert pace(history, 0.6, epochs) == expected
    ready = [*history[:-1], replace(history[-1], near_zero=0.6)]
    assert pace(ready, 0.6, epochs) == "ready"


def test_fixed_pace_ends_where_a_falling_learning_rate_does() -> None:
    """|gamma| that falls as the sum of a linear learning rate: said from the third epoch on."""
    epochs = 40
    for way_in_all, expected in ((1.1, "on the way"), (0.85, "too slow")):
        rates = np.array([1 - e / epochs for e in range(epochs)])
        quantiles = 1 - way_in_all * np.cumsum(rates) / rates.sum()
        for done in range(3, 25):
            history = falling(*quantiles[:done].tolist())
            assert pace(history, 0.6, epochs) == expected, (way_in_all, done)


def test_way() -> None:
    assert way_done(falling(1.5, 0.75), 0.6) == 0.5  # of where it began
    assert way_done(falling(0.5, 0.75), 0.6) == 0.25  # or of the median, whichever is larger
    assert way_done(falling(1.0, 2.0), 0.6) == 0.0
    assert way_done(falling(1.0, 1.0, near_zero=0.3), 0.6) == 0.5
    assert way_done(falling(1.0, 1.0), 0.0) == 1.0


def test_lines() -> None:
    cuts = {"now": Kept(0.4, 0.991), "aim": Kept(0.6, 0.35)}
    history = falling(*np.linspace(1, 0.45, 12).tolist(), near_zero=0.412, **cuts)
    assert line(history, 0.6, 30, 0.7) == (
        "sparsity 12/30: 41% of channels at zero, aim 60% at epoch 23: on the way. "
        "Cut now: 40% keeps 99% of mAP50, 60% keeps 35%."
    )
    assert line(history[:3], 0.6, 30) == (  # 0.05 an epoch
        "sparsity 3/30: 0% of channels at zero, aim 60%: too slow (at this pace it ends short of "
        "it; --sr auto sets the strength by itself)."
    )
    fast = falling(1.0, 0.75, 0.5, map50=0.5)
    assert line(fast, 0.6, 30) == (
        "sparsity 3/30: 0% of channels at zero, aim 60%: too fast (mAP falls with it; --sr auto "
        "sets the strength by itself)."
    )
    assert line(fast[:1], 0.6, 30).endswith("aim 60%: too early to tell.")
    assert line([*history, row(12, 0.4, 0.5)], 0.6, 30, 0.7) == (
        "sparsity 13/30: 50% of channels at zero, aim 60% at epoch 23: on the way. "
        "Cut at epoch 12: 40% keeps 99% of mAP50, 60% keeps 35%."
    )
    late = [*history, replace(row(23, 0.0, 0.6), aim=Kept(0.6, 1.02))]
    assert line(late, 0.6, 30, 1.0) == (
        "sparsity 24/30: 60% of channels at zero, aim 60%: ready. Cut now: 60% keeps all of mAP50."
    )


@pytest.mark.parametrize("auto", [True, False])
def test_the_end_in_words(
    tiny_model: nn.Module, names: list[str], tmp_path: Path, auto: bool
) -> None:
    monitor = monitor_of(tiny_model, names, tmp_path, auto=auto)
    assert monitor.finish() == "Not ready: no epoch has ended."
    assert not (tmp_path / "sparsity.png").exists()
    monitor.record(run_of(tiny_model, 0), sr=0.1)
    text = monitor.finish(held_from=0, backs=(0,))
    assert text.startswith("Not ready: 0% of the prunable channels have |gamma| near zero; ")
    assert text.endswith(MORE_EPOCHS if auto else AUTO)
    assert (tmp_path / "sparsity.png").is_file()


def test_verdicts() -> None:
    def said(near: float, **cuts: Kept) -> str:
        return verdict(falling(1.0, 0.25, near_zero=near, **cuts), 0.6, "Train on.")

    zero = "of the prunable channels have |gamma| near zero"
    assert said(0.6) == f"Ready: 60% {zero}. Cut with --percent 0.6."
    assert said(0.591) == f"Ready: 59% {zero}. Cut with --percent 0.6."
    assert said(0.66, aim=Kept(0.6, 0.9)) == (
        f"Ready: 66% {zero}. Cut with --percent 0.6, 0.65 at most. "
        "Before finetuning 60% keeps 90% of mAP50 on a few images."
    )
    assert said(0.6, aim=Kept(0.6, 0.89)) == (
        f"Sparse, but a cut costs: 60% {zero}. Cut with --percent 0.6. Before finetuning 60% keeps "
        "89% of mAP50 on a few images: finetuning has to win the rest back."
    )
    assert said(1.0).endswith("Cut with --percent 0.6, 0.95 at most.")  # 1 is no percent
    assert said(0.589, now=Kept(0.55, 0.98)) == (
        f"Ready for a smaller cut: 59% {zero}. Cut with --percent 0.55. Before finetuning 55% "
        "keeps 98% of mAP50 on a few images. More takes channels that still work. Train on."
    )
    assert said(0.5, now=Kept(0.5, 0.2)).startswith(f"Sparse in part, but a cut costs: 50% {zero}.")
    assert said(0.1).startswith(f"Ready for a smaller cut: 10% {zero}. Cut with --percent 0.1.")
    assert said(0.099) == (
        f"Not ready: 10% {zero}; in units of its layer's median at the start the 60% quantile went "
        "from 1.00 to 0.25. A cut now takes channels that work. Train on."
    )


def test_a_model_without_map_is_not_praised() -> None:
    """Under half of the best, once there was a best worth the name."""
    history = [row(0, 1.0, map50=0.8), row(1, 0.0, near=0.6, map50=0.01)]
    said = " mAP50 fell from 0.800 to 0.010: the model has lost what it knew. A smaller --percent"
    assert said in line(history, 0.6, 2, 1.0)
    text = verdict(history, 0.6, "")
    assert text.startswith("Sparse, but broken: 60%") and said in text
    for best, last in ((0.8, 0.4), (0.04, 0.0), (math.nan, 0.0)):
        history = [row(0, 1.0, map50=best), row(1, 0.0, near=0.6, map50=last)]
        assert "fell" not in line(history, 0.6, 2, 1.0) + verdict(history, 0.6, "")
        assert ("knows next to nothing yet" in verdict(history, 0.6, "")) == (last == 0)


@pytest.mark.parametrize(
    ("near", "share"), [(0.6, 0.6), (0.595, 0.6), (0.58, 0.55), (0.12, 0.1), (0.09, 0.0)]
)
def test_what_is_ready_to_be_cut(near: float, share: float) -> None:
    assert share_worth_cutting(falling(1.0, 0.5, near_zero=near), 0.6) == share
