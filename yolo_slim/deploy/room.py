"""The temporary folder that a converter works in, and one line for one that is full."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_slim.errors import InputError

ROOM = "room there, or another folder by TMPDIR"


@contextmanager
def working_folder(program: str) -> Iterator[Path]:
    """A folder that is removed at the end of the block.

    Args:
        program: that works in it, as people call it.

    Raises:
        InputError: it cannot be made, or a file cannot be written or read in it.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise no_room(program, error.strerror or str(error)) from error


@contextmanager
def trial_folder() -> Iterator[Path]:
    """A folder for files that are tried before they get their place; removed after the block.

    Raises:
        InputError: one of them cannot be written; it is told of the temporary folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Path(folder)
        except InputError as error:
            where, got, _ = error.parts
            if where.startswith(folder) and got.startswith("cannot be written"):
                got = f"{Path(where).name} {got}"
                raise InputError(tempfile.gettempdir(), got, ROOM) from error
            raise


def no_room(program: str, why: str) -> InputError:
    """That a program could not write what it made.

    Args:
        program: as people call it.
        why: its own words.
    """
    got = f"the temporary folder is full ({program}: {why})"
    return InputError(tempfile.gettempdir(), got, ROOM)
