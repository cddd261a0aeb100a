"""Trainings that were ended before their first epoch, and between their last one and the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, leftovers
from sparse_runs import SMALL, epochs_of
from yolov5 import train as host_train

from yolo_slim import load
from yolo_slim.cli import run
from yolo_slim.sparsify.monitor import PICTURE
from yolo_slim.sparsify.session import SparseSession


def words(*argv: object) -> list[str]:
    return [str(word) for word in argv]


@pytest.fixture
def sparse_argv(tiny_checkpoint: Path, shapes_yaml: Path) -> list[str]:
    argv = words("--st", "--no-probe", "--weights", tiny_checkpoint, "--data", shapes_yaml)
    return [*argv, *SMALL, "--epochs", "2"]


def test_slim_of_bare_weights_before_its_first_epoch(
    tiny_checkpoint: Path, shapes_yaml: Path, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The --cfg that opened them is not asked for again; they are opened once more."""
    torch.save({"model": load(tiny_checkpoint).model.state_dict()}, "bare.pt")
    Path("tiny.yaml").write_text(TINY)
    argv = words("--weights", "bare.pt", "--cfg", "tiny.yaml", "--data", shapes_yaml, *SMALL)
    argv += words("--st", "--epochs", 2, "--macs", 0.7, "--round-to", 1, "--calib-images", 4)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SparseSession, "on_epoch_start", stop)
        assert run("slim", argv) == 130
    assert not list(Path("runs").rglob("last.pt"))
    assert run("slim", ["--resume"]) == 0
    assert (Path("runs/slim/exp/best.pt")).is_file()


def test_a_training_whose_last_epoch_was_saved(
    sparse_argv: list[str], empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its end: its last epoch is trained again."""

    def killed(*_: Any) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(host_train, "strip_optimizer", killed)
        with pytest.raises(SystemExit):
            run("sparse", sparse_argv)
    folder = Path("runs/train/exp")
    assert load(folder / "weights/last.pt").epoch == 1
    assert run("sparse", ["--resume", str(folder)]) == 0
    assert load(folder / "weights/last.pt").epoch == -1
    assert epochs_of(folder / "results.csv") == epochs_of(folder / "sparsity.csv") == [0, 1]


def test_a_verdict_that_was_not_told(
    sparse_argv: list[str], empty_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("sparse", sparse_argv) == 0
    told = capsys.readouterr().out
    folder = next(Path("runs").rglob(PICTURE)).parent
    (folder / PICTURE).unlink()
    assert run("sparse", ["--resume", str(folder)]) == 0
    again = capsys.readouterr().out.replace(f"{empty_folder}/", "")
    verdict = [text[text.index("eady: ") :].split() for text in (told, again)]
    assert verdict[0] == verdict[1] and "Next:" in verdict[0]
    before = leftovers(empty_folder)
    assert run("sparse", ["--resume", str(folder)]) == 2
    line = capsys.readouterr().err
    assert "a finished training, expected one that was interrupted; this one goes on with" in line
    assert f"prune.py --weights {folder.absolute()}/weights/best.pt" in line
    assert leftovers(empty_folder) == before
