"""A process that was killed after a sparse training and before its verdict: it is told later."""

from __future__ import annotations

from pathlib import Path

from sparse_runs import SMALL

from yolo_slim import load
from yolo_slim.commands import sparse
from yolo_slim.sparsify.ended import untold_verdict
from yolo_slim.sparsify.monitor import PICTURE


def test_the_verdict_is_told_once(
    tiny_checkpoint: Path, shapes_yaml: Path, empty_folder: Path, capsys
) -> None:
    argv = ["--st", "--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), *SMALL]
    folder = sparse.main([*argv, "--epochs", "2", "--no-probe"])
    told, ended = capsys.readouterr().out, load(folder / "weights" / "last.pt")
    assert untold_verdict(ended, folder) == ""
    (folder / PICTURE).unlink()
    verdict = untold_verdict(ended, folder)
    assert verdict and " ".join(verdict.split()) in " ".join(told.split())
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert untold_verdict(ended, folder) == ""
