"""The two kinds of models that YOLOv5 trains here, and its own scripts for each.

What runs follows from the model: a last layer Segment makes it one for segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn

from yolo_slim.host.compat import mend

mend()

from yolov5.models import yolo  # noqa: E402


@dataclass(frozen=True)
class Task:
    """A kind of model.

    Attributes:
        name: what a message calls it.
        train, val, detect: the host's modules.
    """

    name: str
    train: str
    val: str
    detect: str

    def script(self, name: str) -> ModuleType:
        """The host's train, val or detect module. The mends are in force before it is imported."""
        return import_module(getattr(self, name))


DETECTION = Task("detection", "yolov5.train", "yolov5.val", "yolov5.detect")
SEGMENTATION = Task(
    "segmentation", "yolov5.segment.train", "yolov5.segment.val", "yolov5.segment.predict"
)


def task_of_model(model: nn.Module) -> Task:
    """What a model is for."""
    return SEGMENTATION if isinstance(model, yolo.SegmentationModel) else DETECTION


def task_of_yaml(cfg: Mapping[str, Any]) -> Task:
    """What a model yaml is for: segmentation if its last row names a Segment module."""
    try:
        segments = str(cfg["head"][-1][2]).startswith("Segment")
    except (KeyError, IndexError, TypeError):  # no model yaml: for others to say
        segments = False
    return SEGMENTATION if segments else DETECTION
