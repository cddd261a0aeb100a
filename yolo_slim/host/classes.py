"""The classes that a model may be made of: YOLOv5's, ours and those of --modules.

YOLOv5's are found here by everything that asks for the type of a module. Importing this module
also puts our parse_model in the place of the host's, which evaluates strings.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from yolo_slim.host.admitted import ADMITTED
from yolo_slim.host.compat import mend
from yolo_slim.host.parse import parse_model

mend()

from yolov5.models import common, experimental, yolo  # noqa: E402

__all__ = ["OURS", "class_names", "common", "experimental", "known_modules", "register", "yolo"]

OURS: dict[str, type[nn.Module]] = {}  # class name -> class


def register(cls: type[nn.Module]) -> type[nn.Module]:
    """Class decorator: checkpoints and model yamls may name this module."""
    OURS[cls.__name__] = cls
    return cls


def known_modules() -> dict[str, Any]:
    """What a model yaml may name: the host's namespace, our modules, those of --modules."""
    return {**vars(yolo), **OURS, **ADMITTED}


def class_names(model: nn.Module) -> dict[int, str]:
    """Class index to name; YOLOv5 before 6.2, and any model before its training, has a list."""
    nc = model.model[-1].nc
    names = getattr(model, "names", None) or [str(i) for i in range(nc)]
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(index): str(name) for index, name in pairs}


yolo.parse_model = parse_model
