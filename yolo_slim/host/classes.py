"""The classes that a model may be made of: YOLOv5's, ours and those of --modules.

YOLOv5's are found here by everything that asks for the type of a module. Importing this module
also puts our parse_model in the place of the host's, which evaluates strings.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.admitted import ADMITTED, CLONES
from yolo_slim.host.compat import mend
from yolo_slim.host.parse import parse_model
from yolo_slim.host.yamls import check_model_yaml

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
    """Class index to name; YOLOv5 before 6.2, and any model before its training, has a list.

    Raises:
        InputError: the model's names are something else.
    """
    names = getattr(model, "names", None)
    if names is None or names in ([], {}):
        names = [str(i) for i in range(model.model[-1].nc)]
    if isinstance(names, dict | list | tuple):
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        with suppress(TypeError, ValueError):  # an index that is no number
            return {int(index): str(name) for index, name in pairs}
    raise InputError("model.names", repr(names)[:80], "a list of names, or a dict by class index")


def parser_of(yaml: dict) -> Callable[[dict, list[int]], Any] | None:
    """What builds the layers of a model yaml that names classes of a clone: the clone's parser."""
    for clone in CLONES:
        named = {row[2] for row in [*yaml["backbone"], *yaml["head"]]}
        if named & (clone.of_yamls().keys() | clone.kept.keys()):
            return clone.parse_model
    return None


def parse_yaml(yaml: dict, ch: list[int]) -> Any:
    """The layers of a model yaml: by our parser, or by that of a clone whose classes it names."""
    if CLONES:
        check_model_yaml(yaml, namespace={**vars(yolo), **ADMITTED})
    own = parser_of(yaml)
    return own(yaml, ch) if own else parse_model(yaml, ch)


yolo.parse_model = parse_yaml
