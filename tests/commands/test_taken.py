"""Who names no file is told which one is taken, why, and of when it is."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from yolo_slim import runs
from yolo_slim.commands import export, finetune_options, slim_options
from yolo_slim.runs import newest, run_to_resume, sparse_run, tell_taken

WHEN = datetime(2026, 11, 5, 14, 30)


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an old run and a new one, each sparse, cut and resumable at once."""
    monkeypatch.chdir(tmp_path)
    for name, year in (("old", 2025), ("new", WHEN.year)):
        folder = Path("runs/train") / name
        (folder / "weights").mkdir(parents=True)
        (folder / "opt.yaml").write_text("st: true\nsr: auto\n")
        for file in ("sparsity.csv", "pruned.yaml", "pruned.pt", "slim.json"):
            (folder / file).write_text("")
        (folder / "weights" / "best.pt").write_text("")
        (folder / "weights" / "last.pt").write_text("")
        for file in folder.rglob("*"):
            os.utime(file, (WHEN.replace(year=year).timestamp(),) * 2)
    return Path("runs/train/new")


def told(capsys: pytest.CaptureFixture) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_of_a_sparse_training(a_run: Path, capsys: pytest.CaptureFixture) -> None:
    tell_taken("of the newest training with --st", sparse_run(where="--weights"))
    assert told(capsys) == (
        f"--weights not given: {a_run}/weights/best.pt, of the newest training with --st in "
        "runs/, of 2026-11-05 14:30"
    )


def test_once_a_process_and_by_the_first_of_torchrun(
    a_run: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = newest("**/pruned.pt", where="--weights", made_by="prune.py")
    monkeypatch.setenv("RANK", "1")
    tell_taken("the newest pruned.pt", file)
    assert told(capsys) == ""
    monkeypatch.setattr(runs, "_told", set())
    monkeypatch.setenv("RANK", "0")
    tell_taken("the newest pruned.pt", file)
    tell_taken("the newest pruned.pt", file)
    assert told(capsys).count(f"{a_run}/pruned.pt") == 1


def test_of_the_other_commands(a_run: Path, capsys: pytest.CaptureFixture) -> None:
    assert export.newest_finetuning() == a_run / "weights" / "best.pt"
    assert f"{a_run}/weights/best.pt, best.pt of the newest training of a cut" in told(capsys)
    with pytest.raises(ValueError, match="none.yaml"):  # it goes on with what it took
        finetune_options.parse(["--data", "none.yaml"])
    assert f"--weights not given: {a_run}/pruned.pt, the newest pruned.pt" in told(capsys)
    assert slim_options.resumed(True) == a_run
    assert f"--resume names no run: {a_run}/slim.json, the newest run of slim" in told(capsys)


def test_of_a_training_that_goes_on(a_run: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_to_resume(True, "finetune") == a_run.absolute()
    text = f"--resume names no run: {a_run}/weights/last.pt, the newest training to go on with"
    assert text in told(capsys)
