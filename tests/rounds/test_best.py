"""What slim delivers: the best of what the last cut left and what the training after it made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from yolo_slim import load
from yolo_slim.cli import run
from yolo_slim.commands.finetune import too_few
from yolo_slim.host.data import read_data
from yolo_slim.host.evaluate import Accuracy, evaluate
from yolo_slim.measure.cost import cost
from yolo_slim.rounds.course import rising, still_rising
from yolo_slim.rounds.picture import places
from yolo_slim.rounds.report import Best, end_table, remarks, rounds_table

SIZE = 128
QUICK = ["--workers", "0", "--noplots", "--batch-size", "4", "--epochs", "1"]


@pytest.fixture(scope="module")
def few(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The yaml of eight images of COCO128, which the published model knows."""
    folder = tmp_path_factory.mktemp("few")
    for file in sorted((shared / "coco128" / "images").rglob("*.jpg"))[:8]:
        label = next((shared / "coco128" / "labels").rglob(f"{file.stem}.txt"), None)
        for kind, source in (("images", file), ("labels", label)):
            (folder / kind).mkdir(exist_ok=True)
            if source:
                shutil.copy(source, folder / kind)
    names = load(shared / "weights" / "yolov5n.pt").names
    data = {"path": str(folder), "train": "images", "val": "images", "names": names}
    (folder / "few.yaml").write_text(yaml.safe_dump(data))
    return folder / "few.yaml"


@pytest.fixture(scope="module")
def ruined(few: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slim whose training does harm: its learning rate is far too high."""
    project = tmp_path_factory.mktemp("ruined")
    argv = ["--weights", str(shared / "weights" / "yolov5n.pt"), "--data", str(few), *QUICK]
    argv += ["--img", str(SIZE), "--macs", "0.9", "--round-to", "1", "--calib-images", "4"]
    argv += ["--lr-times", "90", "--hints", "none", "--criterion", "l2", "--project", str(project)]
    assert run("slim", argv) == 0
    return project / "exp"


def test_the_recovered_model_is_kept_where_the_training_ends_below_it(
    ruined: Path, few: Path
) -> None:
    report = json.loads((ruined / "report.json").read_text())
    recovered = report["rounds"][0]["recovered"]
    assert report["best"] == "recovered" and report["trained"]["map"] < recovered[1]
    best = load(ruined / "best.pt")
    found = evaluate(best.model, read_data(few), imgsz=SIZE, workers=0)
    assert [found.map50, found.map] == pytest.approx(recovered, abs=1e-3)
    assert report["accuracy"] == {"map50": recovered[0], "map": recovered[1]}
    assert best.train["data"] == str(few) and best.epoch == -1  # as after a training
    assert cost(best.model, SIZE).macs == report["macs"][1] <= 0.91 * report["macs"][0]


def test_finetuning_says_that_it_ended_below_its_start(
    ruined: Path, few: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(ruined / "cut1.pt"), "--data", str(few), *QUICK, "--img", str(SIZE)]
    assert run("finetune", [*argv, "--lr-times", "90", "--hints", "none"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    start = json.loads((ruined / "report.json").read_text())["rounds"][0]["recovered"][1]
    assert f"less than the {start:.3f} before the training" in told and "Too few epochs" in told


# Words and pictures


def best_of(trained: float, recovered: float | None) -> Best:
    after = Accuracy(trained, trained)
    start = None if recovered is None else (recovered, recovered)
    kept = after if start is None or trained >= start[1] else Accuracy(*start)
    return Best(Path("x.pt"), kept, after, start)


def test_what_is_told_of_the_epochs() -> None:
    (line,) = remarks(best_of(0.072, 0.096), [0.072])
    assert line == (
        "Too few epochs: mAP50-95 is 0.072 after the last training, less than the 0.096 of the "
        "recovered model that it began with: best.pt is that model. More --epochs give more."
    )
    (line,) = remarks(best_of(0.4, 0.096), [0.1, 0.2, 0.3, 0.4])
    assert "was still rising when the training ended (0.300, then 0.400)" in line
    (line,) = remarks(best_of(0.0081, 0.0083), [0.0081])
    assert "is 0.0081 after the last training, less than the 0.0083 of the recovered" in line
    assert "0.0081 at best, less than the 0.0083 before" in too_few(0.0083, [0.0081])
    assert "(0.0001, then 0.0002)" in still_rising([0.0001, 0.0002])
    assert remarks(best_of(0.4, 0.096), [0.1, 0.39, 0.4, 0.4]) == []
    assert remarks(best_of(0.1, None), [0.1]) == []
    assert too_few(0.3, [0.1, 0.2]).startswith("Too few epochs: mAP50-95 is 0.200 at best, less")
    assert too_few(None, [0.2]) == too_few(0.1, [0.2]) == still_rising([0.4, 0.4]) == ""


def test_rising_is_a_matter_of_the_last_quarter() -> None:
    course = [0.1 * n for n in range(8)]
    assert rising(course) == pytest.approx((0.5, 0.7))
    assert rising(course[::-1]) is None and rising([0.0] * 5) is None and rising([]) is None


ROUND = {
    "epoch": 0,
    "macs": (10_000_000, 8_000_000),
    "params": (10, 7),
    "accuracy": {"before": (0.6, 0.5), "cut": (0.1, 0.05), "+ constants, undone": (0.04, 0.02)},
    "recovered": (0.3, 0.2),
}


def test_one_table_in_80_columns() -> None:
    """Before, cut, recovered and the end; more rounds are more rows."""
    many = [ROUND, {**ROUND, "epoch": 120, "accuracy": {"before": (0.5, 0.4), "cut": (0.2, 0.1)}}]
    text = rounds_table(many, 240, best_of(0.4, 0.2))
    rows = [line.split() for line in text.splitlines() if line.strip()]
    assert max(map(len, text.splitlines())) <= 80
    for start, end in (
        (["before"], ["0.600", "0.500"]),
        (["cut", "1"], ["0.100", "0.050"]),
        (["recovered"], ["0.300", "0.200"]),
        (["cut", "2"], ["0.200", "0.100"]),
        (["trained", "240"], ["0.400", "0.400"]),
        (["best.pt"], ["0.400", "0.400"]),
    ):
        assert any(row[: len(start)] == start and row[-2:] == end for row in rows), start


def test_classes_that_are_new_to_the_model() -> None:
    new = {**ROUND, "accuracy": {}, "recovered": None}
    text = rounds_table([new], 3, best_of(0.4, None))
    assert text.count("new classes") == 2 and max(map(len, text.splitlines())) <= 80
    content = {name: (2e6, 1e6) for name in ("params", "macs", "bytes")}
    content |= {"latency_ms": {"dense": 2.0, "slim": 1.0}, "accuracy": {"map50": 0.4, "map": 0.3}}
    tables = [end_table({**content, "rounds": [each]}, 640) for each in (new, ROUND)]
    ends = [text.split("mAP50-95")[1] for text in tables]
    words = ["new classes 0.400 / 0.300", "0.600 / 0.500 0.400 / 0.300"]
    assert [" ".join(end.split()) for end in ends] == words


def test_a_cut_lies_between_the_trainings_as_they_were() -> None:
    """Also where one stopped early: its epochs count, not those that were planned."""
    epochs = [[(0.1, 0.1)] * n for n in (3, 2, 5)]
    assert places(epochs, [ROUND] * 3) == [0.5, 3.5, 5.5]
    assert places(epochs, [ROUND] * 2) == [3.5, 5.5]
