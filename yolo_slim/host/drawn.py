"""What YOLOv5's val and detect draw is written, or the run ends with the reason.

The host draws in threads that end with the process, passes over what fails in them, and takes a
Ctrl-C within a plot for a plot that failed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend, replaced

mend()

from yolov5.utils import TryExcept  # noqa: E402

ROOM = "a folder that can be written to, on a disk with room"


@contextmanager
def pictures_written(folders: Sequence[Path]) -> Iterator[None]:
    """At the end of the block all pictures are written that the host began in it.

    Args:
        folders: those that the run made, its own first; read at the end.

    Raises:
        InputError: one of them could not be written.
    """
    failures: list[BaseException] = []
    write, forgive, before = cv2.imwrite, TryExcept.__exit__, set(threading.enumerate())

    def imwrite(file: str, *args: Any) -> bool:
        if not write(file, *args):
            raise InputError(file, "cannot be written", ROOM)
        return True

    def leave(self: TryExcept, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, OSError):
            failures.append(error)
            return True
        return isinstance(error, Exception) and forgive(self, kind, error, trace)

    def note(args: Any) -> None:
        failures.append(args.exc_value)

    with (
        replaced(cv2, imwrite=imwrite),
        replaced(TryExcept, __exit__=leave),
        replaced(threading, excepthook=note),
    ):
        yield
        for thread in set(threading.enumerate()) - before:
            if thread.daemon and getattr(thread, "_target", None):
                thread.join()
    if failures:
        error, place = failures[0], folders[0] if folders else Path("output")
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(place, f"a picture cannot be written ({why})", ROOM) from error
