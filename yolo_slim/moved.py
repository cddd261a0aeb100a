"""A run that goes on where it now lies: its folder, or all of a project, may have been moved.

YOLOv5 goes on with the options that it saved: it writes to the folder that they name, and reads
relative paths from wherever the user stands. Here the folder is that of the checkpoint, and
relative paths are those of the folder in which the run was begun.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError

BEGUN_IN = "begun_in"  # of the saved options: the working directory at the start
FILES = ("data", "teacher", "hints")  # the options that name what a run reads
NONE = "none"  # of --hints


def options_here(saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options of a run that change because it lies elsewhere, or is called from elsewhere.

    Args:
        saved: options as the run began with them, save_dir among them.
        folder: where it lies now, absolute.

    Returns:
        save_dir, `BEGUN_IN`, and each of `FILES` that is set; absolute, but for a save_dir that
        still means this folder.
    """
    start = begun_in(saved, folder)
    old = start / saved["save_dir"]
    here = {name: saved[name] for name in FILES if saved.get(name) not in (None, "", NONE)}
    changed = {name: str(present(start / path, old, folder)) for name, path in here.items()}
    moved = old.resolve() != folder.resolve()
    if moved:
        changed |= {"project": str(folder.parent), "name": folder.name}
        start = rebased(start, old, folder)
    same = not moved and start.is_dir() and start.samefile(Path.cwd())
    changed["save_dir"] = str(saved["save_dir"] if same else folder)
    return changed | {BEGUN_IN: str(start if start.is_dir() else Path.cwd())}


def begun_in(saved: Mapping[str, Any], folder: Path) -> Path:
    """The working directory in which a run was begun; an older version did not save it."""
    if saved.get(BEGUN_IN):
        return Path(saved[BEGUN_IN])
    words = Path(saved["save_dir"]).parts
    inside = folder.parts[-len(words) :] == words
    return folder.parents[len(words) - 1] if inside else Path.cwd()


def present(path: Path, old: Path, new: Path) -> Path:
    """Where a file is now: where it was, or moved together with a run."""
    return path if path.exists() else rebased(path, old, new)


def rebased(path: Path, old: Path, new: Path) -> Path:
    """A path beside a run that was moved, as it is if the path was moved with it; else the path.

    Example:
        >>> str(rebased(Path("/a/data/x.yaml"), Path("/a/runs/exp"), Path("/b/runs/exp")))
        '/a/data/x.yaml'
    """
    while old.name == new.name and old != old.parent:
        old, new = old.parent, new.parent
    moved = new / path.relative_to(old) if path.is_relative_to(old) else path
    return moved if moved.exists() else path


def check_there(changed: Mapping[str, Any], folder: Path) -> None:
    """See that a run that goes on has its data and its teacher.

    Raises:
        InputError: one is neither where it was nor where the run was moved to.
    """
    for name in ("data", "teacher"):
        if name in changed and not Path(changed[name]).is_file():
            expected = "that file where it was, or beside the run as it was"
            raise InputError(f"--resume {folder}", f"its {name} {changed[name]} is gone", expected)


@contextmanager
def standing_in(folder: str | Path) -> Iterator[None]:
    """The working directory in the block; afterwards it is what it was."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
