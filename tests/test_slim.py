"""The whole road in one run: when it cuts, what it leaves, and that no interruption loses it."""

from __future__ import annotations

import csv
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from yolo_slim import ModelPruned, channel_graph, load
from yolo_slim.cli import run
from yolo_slim.commands import slim
from yolo_slim.host import checkpoint
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.recover import PARTS
from yolo_slim.rounds.cut import cut_checkpoint
from yolo_slim.rounds.plan import plan
from yolo_slim.rounds.session import SlimSession

SMALL = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots", "--epochs", "4"]


# When


def test_rounds_by_hand() -> None:
    assert [(r.epoch, round(r.left, 3)) for r in plan(60, 1, 0.4)] == [(10, 0.4)]
    assert [(r.epoch, round(r.left, 3)) for r in plan(60, 3, 0.216)] == [
        (6, 0.6),
        (10, 0.36),
        (15, 0.216),
    ]


@pytest.mark.parametrize("epochs", [2, 3, 7, 30, 100])
@pytest.mark.parametrize("rounds", [1, 2, 3, 6, 29])
def test_rounds_come_one_after_the_other(epochs: int, rounds: int) -> None:
    """After the first epoch, before the last one, no two at once, each with its share."""
    if rounds >= epochs:
        return
    found = plan(epochs, rounds, 0.5)
    places = [r.epoch for r in found]
    assert places == sorted(set(places)) and places[0] >= 1 and places[-1] < epochs
    lefts = [1.0, *(r.left for r in found)]
    steps = [b / a for a, b in zip(lefts, lefts[1:], strict=False)]
    assert steps == pytest.approx([0.5 ** (1 / rounds)] * rounds)


# The cut of a checkpoint


def test_average_and_trained_model_are_cut_alike(tiny_checkpoint: Path, shapes_yaml: Path) -> None:
    average, data = load(tiny_checkpoint).model, check_data(shapes_yaml)
    trained = deepcopy(average)
    trained.model[0].conv.weight.data *= 1.1
    saved = {"model": trained.half(), "ema": average.half(), "epoch": 6, "optimizer": {"some": 1}}
    before = deepcopy(saved["model"].state_dict())
    whole = cost(average.float(), 64).macs
    new, report = cut_checkpoint(
        saved,
        calibrate(data, average.float(), imgsz=64, images=8),
        lambda model: evaluate(model, data, imgsz=64, workers=0),
        macs=0.6 * whole,
        imgsz=64,
        criterion="l2",
        round_to=1,
        recover=PARTS,
    )
    assert (new["epoch"], new["optimizer"], new["best_fitness"]) == (6, None, 0.0)
    for key in ("model", "ema"):
        assert isinstance(new[key], ModelPruned) and new[key].ancestry
        assert cost(new[key].float(), 64).macs == pytest.approx(0.6 * whole, rel=0.02)
    shapes = [{k: v.shape for k, v in new[key].state_dict().items()} for key in ("model", "ema")]
    assert shapes[0] == shapes[1]
    assert report.epoch == 7 and report.macs == (whole, cost(new["ema"], 64).macs)
    assert list(report.accuracy)[:2] == ["before", "cut"]
    masks = new["ema"].maskbndict
    assert all(torch.equal(mask, new["model"].maskbndict[name]) for name, mask in masks.items())
    kept = masks["model.0.bn"] if "model.0.bn" in masks else slice(None)
    found, wanted = new["model"].model[0].conv.weight, before["model.0.conv.weight"][kept]
    assert torch.allclose(found.float(), wanted.float(), atol=1e-3)


# The run


@pytest.fixture
def argv(tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    options = ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--macs", 0.6, "--rounds", 2]
    return [*map(str, [*options, "--round-to", 1, "--calib-images", 8]), *SMALL]


def checked(folder: Path, tiny_checkpoint: Path) -> dict[str, Any]:
    """A finished run: every epoch once, the cuts where they belong, the report of its best.pt."""
    with (folder / "results.csv").open() as file:
        assert [row["               epoch"].strip() for row in csv.DictReader(file)] == list("0123")
    report = json.loads((folder / "report.json").read_text())
    assert [r["epoch"] for r in report["rounds"]] == [1, 2]
    dense = cost(load(tiny_checkpoint).model, 64)
    ends = [r["macs"][1] / dense.macs for r in report["rounds"]]
    assert ends == pytest.approx([0.6**0.5, 0.6], rel=0.02)
    for name in ("best.pt", "last.pt"):
        found = load(folder / "weights" / name)
        assert found.epoch == -1 and cost(found.model, 64).macs == report["macs"][1]
        assert [cut["criterion"] for cut in found.model.ancestry] == ["thinet"] * 2
    assert report["macs"] == [dense.macs, report["rounds"][1]["macs"][1]]
    assert report["params"][1] < report["params"][0] == dense.params
    assert set(report["latency_ms"]) == {"dense", "slim"}
    first = load(folder / "weights" / "before-cut1.pt").model
    assert cost(first, 64) == dense
    assert (folder / "slim.png").read_bytes().startswith(b"\x89PNG")
    return report


def test_the_whole_road(
    argv: list[str], tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, capsys
) -> None:
    """best.pt is of the last model, is what the report says, and goes the rest of the road."""
    assert run("slim", argv) == 0
    folder = tmp_path / "runs" / "slim" / "exp"
    report = checked(folder, tiny_checkpoint)
    best = folder / "weights" / "best.pt"
    again = evaluate(load(best).model, check_data(shapes_yaml), imgsz=64, workers=0)
    assert report["accuracy"] == {"map50": again.map50, "map": again.map}
    out = capsys.readouterr().out
    assert "after epoch" in out and "Next: python export.py --weights" in out
    assert run("prune", ["--weights", str(best), "--percent", "0.1", "--round-to", "1"]) == 0
    graph = channel_graph(load(best).model, "inner")
    assert graph.prunable_channels > 0


class Stop(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("where", ["before a cut", "after a cut", "in an epoch", "at the end"])
def test_an_interruption_loses_nothing(
    where: str, argv: list[str], tiny_checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "runs" / "slim" / "exp"
    start, cut, report = SlimSession.on_epoch_start, SlimSession.cut_, slim.write_report

    def cut_(self: SlimSession, *args: Any) -> None:
        if where == "before a cut" and len(self.done) == 1:
            raise Stop
        cut(self, *args)
        if where == "after a cut":
            raise Stop

    def on_epoch_start(self: SlimSession, step: Any) -> None:
        start(self, step)
        if where == "in an epoch" and step.epoch == 3:
            raise Stop

    def write_report(folder: Path) -> str:
        if where == "at the end":
            raise Stop
        return report(folder)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(SlimSession, "cut_", cut_)
        patch.setattr(SlimSession, "on_epoch_start", on_epoch_start)
        patch.setattr(slim, "write_report", write_report)
        slim.main(argv)
    last = [str(folder / "weights" / "last.pt")] if where != "at the end" else []
    assert run("slim", ["--resume", *last]) == 0
    checked(folder, tiny_checkpoint)


def test_a_half_written_cut_is_no_cut(argv: list[str], tmp_path: Path, monkeypatch) -> None:
    """The disk is full as the smaller checkpoint is written: the larger one is whole."""
    from yolo_slim import InputError

    folder = tmp_path / "runs" / "slim" / "exp"
    write, full = checkpoint.write, list[bool]()

    def failing(path: Any, data: dict[str, Any]) -> Path:
        model = data.get("model")
        if Path(path).name == "last.pt" and isinstance(model, ModelPruned) and not full:
            full.append(True)
            raise InputError(path, "cannot be written (No space left)", "a writable place")
        return write(path, data)

    monkeypatch.setattr(checkpoint, "write", failing)
    assert run("slim", argv) == 2 and full
    saved = load(folder / "weights" / "last.pt")
    assert saved.epoch == 0 and not isinstance(saved.model, ModelPruned)
    assert (folder / "weights" / "best.pt").is_file()
    assert run("slim", ["--resume", str(folder / "weights" / "last.pt")]) == 0
    assert (folder / "report.json").is_file()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--macs", "0"], "--macs: 0.0, expected the share that is left, in (0, 1]"),
        (["--macs", "0.001"], "--macs: 0.001, expected 0."),
        (["--rounds", "0"], "--rounds: 0, expected 1 or more"),
        (["--rounds", "4"], "--rounds: 4 in 4 epochs, expected less than the epochs, 3 or fewer"),
        (["--round-to", "0"], "--round-to: 0, expected 1 or more"),
        (["--calib-images", "0"], "--calib-images: 0, expected 1 or more"),
        (["--criterion", "magic"], "--criterion: 'magic', expected "),
        (["--evolve"], "--evolve: given, expected no evolution"),
    ],
)
def test_bad_options(
    options: list[str], expected: str, argv: list[str], tmp_path: Path, capsys
) -> None:
    assert run("slim", [*argv, *options]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and expected in line
    assert not (tmp_path / "runs").exists()


def test_resuming_what_is_no_such_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("slim", ["--resume"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == (
        "error: --resume: not given and nothing found in runs/, expected a file, or run "
        "yolo-slim slim"
    )
