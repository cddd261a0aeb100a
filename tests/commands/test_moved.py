"""Runs that were moved, renamed or copied, and go on from elsewhere: they write where they lie."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from yolo_slim import load
from yolo_slim.cli import run
from yolo_slim.moved import options_here, rebased
from yolo_slim.runs import training_to_resume

SMALL = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots", "--epochs", "2"]
Begin = Callable[..., Path]


def words(*argv: object) -> list[str]:
    return [str(word) for word in argv]


@pytest.fixture
def begin(
    shapes_yaml: Path,
    tiny_checkpoint: Path,
    pruned_tiny: Path,
    tmp_path: Path,
    interrupt: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Begin:
    """begin(command, ...): a training of two epochs in a project that has all it needs.

    It is interrupted when the second one begins.

    Returns:
        The project's folder, which is the working directory.
    """
    project = tmp_path / "project"
    project.mkdir()
    shutil.copytree(shapes_yaml.parent / "shapes", project / "shapes")
    (project / "data").mkdir()
    sets = yaml.safe_load(shapes_yaml.read_text()) | {"path": "shapes"}
    (project / "data" / "mine.yaml").write_text(yaml.safe_dump(sets))
    shutil.copy(tiny_checkpoint, project / "dense.pt")
    shutil.copy(pruned_tiny, project / "pruned.pt")

    def start(command: str, *argv: object) -> Path:
        with monkeypatch.context() as patch:
            patch.chdir(project)
            interrupt(1)
            try:
                assert run(command, words("--data", "data/mine.yaml", *SMALL, *argv)) == 130
            finally:
                monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        return project

    return start


def epochs(folder: Path) -> list[int]:
    """The epochs that a run's results.csv has."""
    with (folder / "results.csv").open() as file:
        return [int(row[0]) for row in list(csv.reader(file))[1:]]


def files(folder: Path) -> dict[Path, int]:
    """All files below a folder, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_was_renamed(begin: Begin, tmp_path: Path, monkeypatch) -> None:
    """From the same working directory: the data is named relative to it."""
    project = begin("sparse", "--weights", "dense.pt", "--st", "--no-probe")
    monkeypatch.chdir(project)
    Path("runs/train/exp").rename("runs/train/mine")
    assert run("sparse", ["--resume"]) == 0
    assert not Path("runs/train/exp").exists()
    folder = project / "runs" / "train" / "mine"
    assert epochs(folder) == [0, 1] and load(folder / "weights" / "last.pt").epoch == -1
    assert (folder / "sparsity.png").is_file()


def test_a_run_that_was_copied_away(begin: Begin, tmp_path: Path) -> None:
    """And goes on from a third place: the one that it was copied from stays as it was."""
    project = begin("finetune", "--weights", "pruned.pt", "--teacher", "dense.pt")
    (tmp_path / "kept").mkdir()
    shutil.copytree(project / "runs" / "finetune" / "exp", tmp_path / "kept" / "run")
    before = files(project / "runs")
    assert run("finetune", ["--resume", "kept/run"]) == 0
    assert files(project / "runs") == before
    folder = tmp_path / "kept" / "run"
    assert epochs(folder) == [0, 1] and load(folder / "weights" / "best.pt").epoch == -1
    with (folder / "distillation.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "project"]


def test_a_project_that_was_moved(begin: Begin, tmp_path: Path) -> None:
    """With its data, its teacher and the model that gives hints; called from another folder."""
    argv = ["--weights", "dense.pt", "--teacher", "dense.pt", "--macs", 0.7, "--round-to", 1]
    project = begin("slim", *argv, "--calib-images", 4)
    moved = project.rename(tmp_path / "elsewhere")
    assert run("slim", ["--resume", "elsewhere/runs/slim/exp"]) == 0
    folder = moved / "runs" / "slim" / "exp"
    assert epochs(folder / "train1") == [0, 1] and (folder / "best.pt").is_file()
    assert load(folder / "best.pt").train["data"] == str(moved / "data" / "mine.yaml")
    assert not project.exists() and not (tmp_path / "runs").exists()


def test_another_working_directory(begin: Begin, tmp_path: Path) -> None:
    """Nothing was moved; paths in the data yaml are relative to where the run was begun."""
    project = begin("sparse", "--weights", "dense.pt")
    last = "project/runs/train/exp/weights/last.pt"
    assert run("sparse", ["--resume", last]) == 0
    assert epochs(project / "runs" / "train" / "exp") == [0, 1]
    assert Path.cwd() == tmp_path and not (tmp_path / "runs").exists()


def test_data_that_is_gone(begin: Begin, capfd: pytest.CaptureFixture) -> None:
    project = begin("sparse", "--weights", "dense.pt")
    (project / "data" / "mine.yaml").unlink()
    before = files(project)
    assert run("sparse", ["--resume", "project/runs/train/exp"]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "its data" in line and "mine.yaml is gone, expected that file where it was" in line
    assert files(project) == before


def test_interrupted_before_anything_was_learned(
    shapes_yaml: Path, tiny_checkpoint: Path, empty_folder: Path, interrupt: Any, capfd
) -> None:
    """No folder is left, and no way on is promised."""
    interrupt(0)
    argv = words("--weights", tiny_checkpoint, "--data", shapes_yaml, *SMALL)
    assert run("sparse", argv) == 130
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line == "interrupted: no epoch had ended, so there is nothing to go on from"
    assert not list(empty_folder.rglob("exp*"))


def test_an_interruption_says_how_it_goes_on(begin: Begin, capfd) -> None:
    begin("sparse", "--weights", "dense.pt")
    line = capfd.readouterr().err.strip().splitlines()[-1]
    last = "runs/train/exp/weights/last.pt"
    assert line == f"interrupted: python train_sparse.py --resume {last} goes on"


# Without a training


def test_paths_are_rebased(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "runs" / "exp").mkdir(parents=True)
    (tmp_path / "new" / "data.yaml").touch()
    old, new = (tmp_path / name / "runs" / "exp" for name in ("old", "new"))
    assert rebased(tmp_path / "old" / "data.yaml", old, new) == tmp_path / "new" / "data.yaml"
    elsewhere = Path("/data.yaml")
    assert rebased(elsewhere, old, new) == elsewhere
    assert rebased(tmp_path / "old" / "no.yaml", old, new) == tmp_path / "old" / "no.yaml"


def test_a_run_of_an_older_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It did not save where it was begun: a relative folder says so."""
    folder = tmp_path / "runs" / "train" / "exp"
    folder.mkdir(parents=True)
    (tmp_path / "data.yaml").touch()
    saved = {"save_dir": "runs/train/exp", "data": "data.yaml", "hints": "none"}
    expected = {"data": str(tmp_path / "data.yaml"), "begun_in": str(tmp_path)}
    assert options_here(saved, folder) == {**expected, "save_dir": str(folder)}
    monkeypatch.chdir(tmp_path)
    assert options_here(saved, folder) == {**expected, "save_dir": "runs/train/exp"}


def test_which_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of the command; trainings of slim are left to slim."""
    monkeypatch.chdir(tmp_path)
    runs = {"train/a": "", "train/b": "sparsity.csv", "finetune/a": "pruned.yaml", "slim/x/t": ""}
    for number, (name, mark) in enumerate(runs.items()):
        last = Path("runs") / name / "weights" / "last.pt"
        last.parent.mkdir(parents=True)
        for file in (last, last.parents[1] / "opt.yaml", last.parents[1] / (mark or "opt.yaml")):
            file.touch()
        os.utime(last, (number, number))
    Path("runs/slim/x/slim.json").touch()
    assert training_to_resume(True, made_by="sparse") == Path("runs/train/b/weights/last.pt")
    assert training_to_resume(True, made_by="finetune") == Path("runs/finetune/a/weights/last.pt")
    for place in ("runs/train/a", "runs/train/a/weights", "runs/train/a/weights/last.pt"):
        last = training_to_resume(place, made_by="sparse")
        assert last == Path("runs/train/a/weights/last.pt")
