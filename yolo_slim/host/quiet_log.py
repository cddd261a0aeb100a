"""YOLOv5's log without what tells nothing about the model: advertisements, and dumps of options.

Warnings, losses, mAP, the model and its data are left as they are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_slim.host.assertions import COLOURS

# Begins of lines of yolov5 7.0.14.
SILENT = re.compile(
    r"""[\w/\\]+:\ \w+=[^ ]*,\ \w+=     # all options; of a training they are in opt.yaml
    | (ClearML|Comet|TensorBoard|Weights\ &\ Biases):\ (run\ |Start\ )
    | requirements: | github: | AutoUpdate:
    | Plotting\ labels\ to | (train|val):\ New\ cache\ created:""",
    re.VERBOSE,
)
OPTIONS = "hyperparameters: "  # begins a line, after the run's folder has been made


class Quiet(logging.Filter):
    """Drops such lines; the hyperparameters become the place where all options are.

    Args:
        folder: gives the folder of the run.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        super().__init__()
        self.folder = folder

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO:
            return True
        text = COLOURS.sub("", record.getMessage())
        if text.startswith(OPTIONS):
            record.msg, record.args = f"Options: opt.yaml and hyp.yaml in {self.folder()}", ()
            return True
        return not SILENT.match(text)


@contextmanager
def quiet(logger: logging.Logger, folder: Callable[[], Path]) -> Iterator[None]:
    """In the block the logger drops such lines.

    Args:
        logger: YOLOv5's.
        folder: gives the folder of the run that it tells of.
    """
    only = Quiet(folder)
    logger.addFilter(only)
    try:
        yield
    finally:
        logger.removeFilter(only)
