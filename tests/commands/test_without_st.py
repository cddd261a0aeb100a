"""Who forgets --st is told: by the training itself, and by the cut that skips its run."""

from __future__ import annotations

import os
import shlex
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from yolo_slim.cli import run

SMALL = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots", "--epochs", "1"]


@pytest.fixture(scope="module")
def trainings(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A folder in which a sparse training was run, then one without --st, and what that told."""
    folder = tmp_path_factory.mktemp("without")
    argv = ["--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), *SMALL]
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run("sparse", [*argv, "--st", "--no-probe", "--name", "sparse"]) == 0
        with redirect_stdout(StringIO()) as told:
            assert run("sparse", [*argv, "--name", "plain"]) == 0
    finally:
        os.chdir(before)
    return folder, told.getvalue()


def test_the_training_says_what_it_is_and_what_follows(trainings, monkeypatch) -> None:
    folder, told = trainings
    assert "Trained without --st: no channel is sparse." in told
    (line,) = (line for line in told.splitlines() if line.startswith("Next: "))
    command = shlex.split(line.removeprefix("Next: "))
    assert command[:2] == ["python", "prune.py"] and "or: python train_sparse.py --st" in told
    monkeypatch.chdir(folder)
    options = ["--imgsz", "64", "--workers", "0", "--calib-images", "4", "--dry-run"]
    assert run("prune", [*command[2:], *options]) == 0  # as it was told


def test_at_the_start(trainings, tiny_checkpoint, shapes_yaml, monkeypatch, caplog) -> None:
    monkeypatch.setattr("yolo_slim.host.training.train", lambda *args, **kwargs: Path())
    monkeypatch.chdir(trainings[0])
    argv = ["--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), *SMALL]
    assert run("sparse", argv) == 0
    assert "Without --st this is YOLOv5's own training" in caplog.text
    caplog.clear()
    assert run("sparse", [*argv, "--st"]) == 0
    assert "Without --st" not in caplog.text


def test_the_cut_names_the_run_that_it_skips(trainings, monkeypatch, capsys) -> None:
    monkeypatch.chdir(trainings[0])
    options = ["--percent", "0.1", "--imgsz", "64", "--round-to", "1", "--dry-run"]
    assert run("prune", options) == 0
    told = capsys.readouterr().out
    best = Path("runs/train/plain/weights/best.pt")
    skipped = "Skipped: runs/train/plain is newer, but was trained without --st"
    assert f"{skipped}; --weights {best} cuts it." in told
    assert "Pruning runs/train/sparse/weights/best.pt" in told
    os.utime("runs/train/sparse/weights/last.pt")  # now it is the newest
    assert run("prune", options) == 0
    assert "Skipped" not in capsys.readouterr().out


def test_no_sparse_training_at_all(trainings, empty_folder, refused) -> None:
    plain = trainings[0] / "runs" / "train" / "plain"
    line = refused("prune")
    assert "--weights: no file named and none found in runs/, expected a file" in line
    assert "or run python train_sparse.py --st" in line
    shutil.copytree(plain, "runs/train/exp")
    line = refused("prune")
    assert "not given, and runs/train/exp was trained without --st, expected --weights" in line
    assert "runs/train/exp/weights/best.pt, or a training by python train_sparse.py --st" in line
