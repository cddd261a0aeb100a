"""What YOLOv5's val and detect draw is written, or the run ends with the reason.

The host draws in threads that end with the process, passes over what fails in them, and takes a
Ctrl-C within a plot for a plot that failed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2

from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend, replaced

mend()

from yolov5 import utils  # noqa: E402
from yolov5.utils.general import LOGGER  # noqa: E402

ROOM = "a folder that can be written to, on a disk with room"


@contextmanager
def pictures_written(folders: Sequence[Path]) -> Iterator[None]:
    """At the end of the block all pictures are written that the host began in it.

    A picture that fails for another reason than the disk is told of, as in the host.

    Args:
        folders: those that the run made, its own first; read at the end.

    Raises:
        InputError: one of them could not be written.
    """
    failures: list[OSError] = []
    plots: list[threading.Thread] = []
    write, forgive = cv2.imwrite, utils.TryExcept.__exit__

    class Plot(threading.Thread):
        """What the host's @threaded makes."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            plots.append(self)

        def run(self) -> None:
            try:
                super().run()
            except OSError as error:
                failures.append(error)
            except Exception as error:
                LOGGER.warning(f"a picture failed: {error}")

    def imwrite(file: str, *args: Any) -> bool:
        if not write(file, *args):
            raise InputError(file, "cannot be written", ROOM)
        return True

    def leave(self: Any, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, OSError):
            failures.append(error)
            return True
        return isinstance(error, Exception) and forgive(self, kind, error, trace)

    with (
        replaced(cv2, imwrite=imwrite),
        replaced(utils.TryExcept, __exit__=leave),
        replaced(utils, threading=SimpleNamespace(Thread=Plot)),
    ):
        yield
        for plot in plots:
            plot.join()
    if failures:
        place = folders[0] if folders else Path("output")
        why = failures[0].strerror or failures[0]
        raise InputError(place, f"a picture cannot be written ({why})", ROOM) from failures[0]
