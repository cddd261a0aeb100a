"""The whole road in one run: when it cuts, what it leaves, and that no interruption loses it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from yolo_slim import load, save
from yolo_slim.cli import run
from yolo_slim.commands import slim
from yolo_slim.commands.finetune import Finetuning
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.measure.cost import cost
from yolo_slim.models.model import build_model
from yolo_slim.rounds.cut import RoundReport
from yolo_slim.rounds.plan import plan
from yolo_slim.rounds.report import rounds_table
from yolo_slim.shapes import NAMES
from yolo_slim.sparsify.session import SparseSession

SMALL = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots", "--epochs", "4"]


# When


def test_rounds_by_hand() -> None:
    found = plan(60, 1, 0.4)
    assert [(leg.epochs, leg.left) for leg in found] == [(10, 0.4), (50, None)]
    found = plan(60, 1, 0.4, at_once=True)
    assert [(leg.epochs, leg.left) for leg in found] == [(0, 0.4), (60, None)]
    assert [leg.epochs for leg in plan(60, 3, 0.216, at_once=True)] == [0, 10, 10, 40]
    found = plan(60, 3, 0.216)
    assert [leg.epochs for leg in found] == [10, 10, 10, 30]
    assert [leg.left for leg in found[:3]] == pytest.approx([0.6, 0.36, 0.216])
    assert [leg.epochs for leg in plan(60, 6, 0.5)] == [5] * 6 + [30]
    assert [leg.epochs for leg in plan(60, 1, 0.5, sparse=True)] == [30, 30]
    assert [leg.epochs for leg in plan(61, 3, 0.5, sparse=True)] == [10] * 3 + [31]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("epochs", [2, 3, 7, 30, 100])
@pytest.mark.parametrize("rounds", [1, 2, 3, 6, 29])
def test_epochs_and_shares_add_up(epochs: int, rounds: int, at_once: bool) -> None:
    """Each training has an epoch, all of them together those of the run."""
    if rounds >= epochs:
        return
    found = plan(epochs, rounds, 0.5, at_once=at_once)
    assert sum(leg.epochs for leg in found) == epochs
    assert (found[0].epochs == 0) == at_once and min(leg.epochs for leg in found[1:]) >= 1
    lefts = [1.0, *(leg.left for leg in found if leg.left)]
    steps = [b / a for a, b in zip(lefts, lefts[1:], strict=False)]
    assert steps == pytest.approx([0.5 ** (1 / rounds)] * rounds)
    assert found[-1].left is None and len(found) == rounds + 1


# The run


@pytest.fixture
def argv(tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    options = ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--macs", 0.6, "--rounds", 2]
    return [*map(str, [*options, "--round-to", 1, "--calib-images", 8]), *SMALL]


def checked(folder: Path, tiny_checkpoint: Path) -> dict[str, Any]:
    """A finished run: its trainings, the cuts between them, the report of its best.pt."""
    for number, epochs in ((1, 1), (2, 3)):
        with (folder / f"train{number}" / "results.csv").open() as file:
            rows = [row["               epoch"].strip() for row in csv.DictReader(file)]
        assert rows == [str(epoch) for epoch in range(epochs)]
        trained = load(folder / f"train{number}" / "weights" / "last.pt").model
        assert trained.hyp["lr0"] == 0.02  # times 2 once, also if resumed
        with (folder / f"train{number}" / "distillation.csv").open() as file:
            assert next(csv.DictReader(file))["hints"]
    report = json.loads((folder / "report.json").read_text())
    assert [r["epoch"] for r in report["rounds"]] == [0, 1]
    dense = cost(load(tiny_checkpoint).model, 64)
    ends = [r["macs"][1] / dense.macs for r in report["rounds"]]
    assert ends == pytest.approx([0.6**0.5, 0.6], rel=0.02)
    for name in ("best.pt", "train2/weights/last.pt"):
        found = load(folder / name)
        assert found.epoch == -1 and cost(found.model, 64).macs == report["macs"][1]
        assert [cut["criterion"] for cut in found.model.ancestry] == ["obs"] * 2  # 0.6 is left
    assert report["macs"] == [dense.macs, report["rounds"][1]["macs"][1]]
    assert report["params"][1] < report["params"][0] == dense.params
    assert set(report["latency_ms"]) == {"dense", "slim"}
    assert (folder / "slim.png").read_bytes().startswith(b"\x89PNG")
    return report


def test_a_teacher_looks_on(argv: list[str], tiny_checkpoint: Path, tmp_path: Path) -> None:
    """And another optimizer's learning rate is left alone."""
    options = ["--teacher", str(tiny_checkpoint), "--rounds", "1", "--optimizer", "AdamW"]
    assert run("slim", [*argv, *options]) == 0
    folder = tmp_path / "runs" / "slim" / "exp"
    assert load(folder / "best.pt").model.hyp["lr0"] == 0.01
    with (folder / "train1" / "distillation.csv").open() as file:
        first, *_, last = csv.DictReader(file)
    assert float(first["box"]) > 0 and float(last["box"]) > 0
    assert first["hints"] and not last["hints"]  # which end early


def test_random_weights_are_trained_before_they_are_cut(
    argv: list[str], tiny_yaml: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml))
    options = ["--weights", "", "--cfg", "tiny.yaml", "--rounds", "1", "--macs", "0.8"]
    assert run("slim", [*argv, *options]) == 0
    folder = tmp_path / "runs" / "slim" / "exp"
    report = json.loads((folder / "report.json").read_text())
    assert [r["epoch"] for r in report["rounds"]] == [1]
    trained = [load(folder / f"train{n}" / "weights" / "last.pt").model for n in (1, 2)]
    assert [model.hyp["lr0"] for model in trained] == [0.01, 0.02]
    assert cost(trained[1], 64).macs < cost(trained[0], 64).macs


def test_weights_of_other_classes(
    argv: list[str], tiny_yaml: dict[str, Any], tmp_path: Path, capsys
) -> None:
    """As of COCO for data of one's own: the head keeps its boxes, and no mAP is measured."""
    other = build_model({**tiny_yaml, "nc": 7}).eval()
    file = save(other, tmp_path / "other.pt")
    assert run("slim", [*argv, "--rounds", "1", "--weights", str(file)]) == 0
    folder = tmp_path / "runs" / "slim" / "exp"
    dense = load(folder / "dense.pt")
    assert dense.names == dict(enumerate(NAMES)) and dense.model.model[-1].nc == 4
    rows = [
        m.model[-1].m[0].weight.view(3, -1, m.model[-1].m[0].in_channels)
        for m in (dense.model, other)
    ]
    assert torch.equal(rows[0][:, :5], rows[1][:, :5]) and rows[0].shape[1:2] == (9,)
    report = json.loads((folder / "report.json").read_text())
    assert report["rounds"][0]["recovered"] is None
    assert load(folder / "best.pt").names == dense.names
    assert (folder / "slim.png").is_file()


def test_criteria_that_look_at_labels_wait_for_a_training(
    argv: list[str], tiny_yaml: dict[str, Any], tmp_path: Path
) -> None:
    """Where the classes are others than the checkpoint's."""
    file = save(build_model({**tiny_yaml, "nc": 7}).eval(), tmp_path / "other.pt")
    options = ["--weights", str(file), "--rounds", "1", "--criterion", "taylor"]
    assert run("slim", [*argv, *options]) == 0
    report = json.loads((tmp_path / "runs" / "slim" / "exp" / "report.json").read_text())
    assert [r["epoch"] for r in report["rounds"]] == [1]


def test_all_classes_as_one(argv: list[str], tmp_path: Path) -> None:
    """--single-cls, to the end; and prune.py takes what it left."""
    assert run("slim", [*argv, "--rounds", "1", "--single-cls"]) == 0
    best = tmp_path / "runs" / "slim" / "exp" / "best.pt"
    assert load(best).names == {0: "item"}
    data = argv[argv.index("--data") + 1]
    options = ["--weights", str(best), "--data", data, "--macs", "0.8", "--round-to", "1"]
    assert run("prune", [*options, "--calib-images", "4"]) == 0
    cut = tmp_path / "runs" / "prune" / "exp"
    assert load(cut / "pruned.pt").names == {0: "item"}
    assert json.loads((cut / "report.json").read_text())["accuracy"]["dense"]["map50"] >= 0


class Stop(Exception):
    """Stands for a kill: nothing after it runs."""


def test_sparse_rounds(argv: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    """Interrupted in the first sparse training: it ends sparse, and the cut takes what is zero.

    The second round's share is of what the first one left; each training tells its verdict.
    """
    folder, start = tmp_path / "runs" / "slim" / "exp", SparseSession.on_epoch_start

    def epoch(self: Any, step: Any) -> None:
        if step.epoch == 1:
            raise Stop
        start(self, step)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(SparseSession, "on_epoch_start", epoch)
        slim.main([*argv, "--st", "--epochs", "8"])
    assert run("slim", ["--resume"]) == 0
    told = capsys.readouterr().out
    for number in (1, 2):
        picture = Path("runs", "slim", "exp", f"train{number}", "sparsity.png")
        assert (tmp_path / picture).is_file() and f"over the epochs: {picture}" in told
        with (folder / f"train{number}" / "sparsity.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 2
    assert "after epoch" in told and "prune.py" not in told  # slim cuts by itself
    assert not (folder / "train3" / "sparsity.csv").exists()
    report = json.loads((folder / "report.json").read_text())
    lefts = [each["macs"][1] / report["macs"][0] for each in report["rounds"]]
    assert lefts == pytest.approx([0.6**0.5, 0.6], rel=0.02)
    assert report["rounds"][0]["cut"]["criterion"] == "bn"
    found = load(folder / "train1" / "weights" / "best.pt").model
    gone = load(folder / "cut1.pt").model
    zero = sum(int((m.weight == 0).sum()) for m in found.modules() if hasattr(m, "running_mean"))
    sizes = [
        sum(m.num_features for m in model.modules() if hasattr(m, "running_mean"))
        for model in (found, gone)
    ]
    assert zero >= sizes[0] - sizes[1] > 0


def test_interruptions_lose_nothing(
    argv: list[str], tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """After a cut, before one, in a training and at the end: one run that is stopped four times.

    Its best.pt is of the last model, is what the report says, and goes the rest of the road.
    """
    folder = tmp_path / "runs" / "slim" / "exp"
    cut, state, start = slim.cut, slim.write_state, Finetuning.on_epoch_start
    where = [""]

    def stop_if(here: str) -> None:
        if where == [here]:
            raise Stop

    def cutting(opt: Any, place: Path, source: Path, number: int, *rest: Any) -> Any:
        if number == 1:
            stop_if("before a cut")
        return cut(opt, place, source, number, *rest)

    def writing(place: Path, opt: Any, rounds: list) -> None:
        if len(rounds) == 1:
            stop_if("after a cut")
        state(place, opt, rounds)

    def epoch(self: Any, step: Any) -> None:
        if step.epochs == 3 and step.epoch == 1:
            stop_if("in a training")
        start(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(slim, "cut", cutting)
        patch.setattr(slim, "write_state", writing)
        patch.setattr(Finetuning, "on_epoch_start", epoch)
        patch.setattr(slim, "write_report", lambda *_: stop_if("at the end"))
        for place, given in (
            ("after a cut", argv),
            ("before a cut", ["--resume"]),
            ("in a training", ["--resume", str(folder)]),
            ("at the end", ["--resume", str(folder / "train2" / "weights")]),
        ):
            where[:] = [place]
            with pytest.raises(Stop):
                slim.main(given)
            assert not (folder / "report.json").exists()
    capsys.readouterr()
    assert run("slim", ["--resume"]) == 0
    report = checked(folder, tiny_checkpoint)
    best = folder / "best.pt"
    again = evaluate(load(best).model, check_data(shapes_yaml), imgsz=64, workers=0)
    assert report["accuracy"] == {"map50": again.map50, "map": again.map}
    assert "Next: python export.py --weights" in capsys.readouterr().out
    assert run("prune", ["--weights", str(best), "--percent", "0.1", "--round-to", "1"]) == 0
    line = run("slim", ["--resume", str(folder)])
    assert line == 2 and "a finished run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--macs", "0"], "--macs: 0.0, expected the share that is left, in (0, 1]"),
        (["--macs", "0.001"], "--macs: 0.001, expected 0."),
        (["--rounds", "0"], "--rounds: 0, expected 1 or more"),
        (["--rounds", "5"], "--epochs: 4 with 5 rounds, expected 5 or more: a training comes"),
        (["--st", "--rounds", "4"], "--epochs: 4 with 4 rounds, expected 5 or more: a training"),
        (["--imgsz", "32"], "--imgsz: 32, expected 64 or more: YOLOv5 trains at no less"),
        (["--quad", "--batch-size", "6"], "--quad: given with --batch-size 6, expected a multiple"),
        (["--patience", "-1"], "--patience: -1, expected 0 or more"),
        (["--label-smoothing", "nan"], "--label-smoothing: nan, expected a number in [0, 1)"),
        (["--hf_model_id", "me/mine"], "--hf_model_id: given, expected no upload"),
        (["--name", ""], "--name: '', expected the name of a folder"),
        (["--name", "cfg"], "--name: cfg, without --cfg, expected another name"),
        (["--resume", ""], "--resume: an empty name, expected a run's folder or its last.pt"),
        (["--data", "none.yaml"], "none.yaml: no such file"),
        (["--weights", ""], "--weights: not given, expected a checkpoint, or --cfg"),
        (["--round-to", "0"], "--round-to: 0, expected 1 or more"),
        (["--lr-times", "0"], "--lr-times: 0.0, expected more than 0"),
        (["--calib-images", "0"], "--calib-images: 0, expected 1 or more"),
        (["--criterion", "magic"], "--criterion: 'magic', expected "),
        (["--st", "--criterion", "l1"], "--criterion: l1 with --st, expected bn"),
        (["--st", "--freeze", "12"], "--freeze: given with --st for all prunable layers"),
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


def test_a_teacher_of_other_classes(
    argv: list[str], tiny_yaml: dict[str, Any], tmp_path: Path, capsys
) -> None:
    """It is known before the first training, not after the first cut."""
    teacher = save(build_model({**tiny_yaml, "nc": 7}), tmp_path / "other.pt")
    assert run("slim", [*argv, "--teacher", str(teacher)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"--teacher {teacher}: classes: 7, expected 4, as the student" in line
    assert not (tmp_path / "runs").exists()


def test_no_data_and_options_of_another_run(argv: list[str], tmp_path: Path, capsys) -> None:
    where = argv.index("--data")
    assert run("slim", argv[:where] + argv[where + 2 :]) == 2
    assert "--data: not given, expected a data yaml" in capsys.readouterr().err
    assert run("slim", ["--resume", str(tmp_path), "--macs", "0.3"]) == 2
    expected = "--macs: given with --resume, expected the options of the run that goes on"
    assert expected in capsys.readouterr().err


def test_what_was_undone_is_said() -> None:
    """In the table of the rounds, and in the line after a cut."""
    undone = {"before": (0.6, 0.5), "cut": (0.1, 0.05), "+ constants, undone": (0.04, 0.02)}
    kept = {"before": (0.6, 0.5), "cut": (0.1, 0.05), "+ constants": (0.3, 0.2)}
    ends = ((undone, (0.1, 0.05)), (kept, (0.3, 0.2)))
    rounds = [RoundReport(1, (10, 8), (10, 7), steps, end, {}) for steps, end in ends]
    rows = [row.split() for row in rounds_table([each.as_dict() for each in rounds], 3).split("\n")]
    assert ["+", "constants,", "undone", "0.040", "0.020"] in rows
    assert ["recovered", "0.100", "0.050"] in rows and ["recovered", "0.300", "0.200"] in rows
    assert ["cut", "1", "1", "80.0%", "70.0%", "0.100", "0.050"] in rows
    assert "0.020 + constants, undone" in slim.round_line(rounds[0])


def test_resuming_what_is_no_such_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for given, expected in (
        ([], "--resume: no file named and none found in runs/, expected a file, or run yolo-slim"),
        (["nowhere"], "--resume nowhere: no slim.json there, expected the folder of a run of"),
    ):
        assert run("slim", ["--resume", *given]) == 2
        assert expected in capsys.readouterr().err.strip().splitlines()[-1]


def test_torchrun_is_refused(argv: list[str], monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run("slim", argv) == 2
    assert "started by torchrun, expected one process" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
