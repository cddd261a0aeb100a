"""Where results lie: each step by default takes up the newest result of the step before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_slim.errors import InputError
from yolo_slim.files import check_writable

FINETUNED = "pruned.yaml"  # in a run's folder: what is trained, and the mark of a finetuning


def newest(pattern: str, *, where: str, made_by: str, beside: str = "") -> Path:
    """The newest file under runs/ that matches.

    Args:
        pattern: glob below runs/, such as "**/weights/last.pt".
        where: what the error calls it, such as "--weights".
        made_by: the command that makes such a file.
        beside: a file name that must lie in the run's folder (that of the match, or its parent).

    Raises:
        InputError: there is none.
    """
    files = [
        p
        for p in Path("runs").glob(pattern)
        if not beside or (p.parent / beside).is_file() or (p.parent.parent / beside).is_file()
    ]
    if not files:
        got = "no file named and none found in runs/"
        raise InputError(where, got, f"a file, or run {made_by}")
    return max(files, key=lambda p: p.stat().st_mtime)


def sparse_run(*, where: str, made_by: str) -> Path:
    """What to cut of the newest sparse training: see `checkpoint_to_cut`.

    Raises:
        InputError: there is none.
    """
    last = newest("**/weights/last.pt", where=where, made_by=made_by, beside="sparsity.csv")
    return checkpoint_to_cut(last.parent.parent)


def checkpoint_to_cut(folder: Path) -> Path:
    """Which checkpoint of a sparse training is to be cut.

    With --sr auto best.pt is of an epoch that is as sparse as the last one, see `SparseSession`;
    with a number it often is an early epoch with little at zero.
    """
    weights, options = folder / "weights", folder / "opt.yaml"
    auto = options.is_file() and re.search(r"^sr: auto$", options.read_text(), re.MULTILINE)
    best = weights / "best.pt"
    return best if auto and best.is_file() else weights / "last.pt"


def new_run(project: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Make the next free folder project/name, project/name2, ... as YOLOv5 does.

    Raises:
        InputError: the folder cannot be made or written.
    """
    base = Path(project) / name
    folder, n = base, 1
    while folder.exists() and not exist_ok:
        n += 1
        folder = base.with_name(f"{base.name}{n}")
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """A run's folder in which a failure has left nothing goes, too."""
    try:
        yield
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
