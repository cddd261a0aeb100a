"""A user's module classes in YOLOv5's parse_model, which knows its own classes alone.

parse_model asks `if m in {Conv, C3, ...}` to find out which arguments a class takes. A `Factory`
answers that question for a class of the user's: it compares equal to the YOLOv5 class whose
arguments its own begin with. So parse_model is told something that is not true of the class, and
right for its arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from yolo_slim.host.admitted import ADMITTED
from yolo_slim.host.compat import mend

mend()

from yolov5.models import common  # noqa: E402


class Factory:
    """Stands for an admitted class where the host's parse_model compares classes.

    Args:
        cls: what is built when the factory is called.
        like: the class that the factory compares equal to. Conv: `cls` takes input and output
            channels before its other arguments. C3: it takes these and the number of repeats. None:
            it takes what stands in the yaml, and hands its channels on.
    """

    def __init__(self, cls: type[nn.Module], like: type[nn.Module] | None) -> None:
        self.cls, self.like = cls, like

    def __eq__(self, other: object) -> bool:
        return other is (self.like or self.cls)

    def __hash__(self) -> int:
        return hash(self.like or self.cls)

    def __call__(self, *args: Any) -> nn.Module:
        return self.cls(*args)

    def __str__(self) -> str:
        return str(self.cls)


def with_factories(yaml: Mapping[str, Any]) -> dict[str, Any]:
    """A model yaml whose admitted classes stand as factories; other rows are shared."""

    def row(entry: list) -> list:
        cls = ADMITTED.get(entry[2]) if isinstance(entry[2], str) else None
        if cls is None:
            return entry
        names = list(inspect.signature(cls).parameters)[:3]
        block = len(names) > 1 and _is_input(names[0]) and _is_output(names[1])
        like = common.Conv if block else None
        like = common.C3 if block and names[2:] == ["n"] else like
        return [*entry[:2], Factory(cls, like), entry[3]]

    return {
        **yaml,
        "backbone": [row(entry) for entry in yaml["backbone"]],
        "head": [row(entry) for entry in yaml["head"]],
    }


def _is_input(name: str) -> bool:
    return name in ("c1", "ch_in") or name.lower().startswith(("in", "cin"))


def _is_output(name: str) -> bool:
    return name in ("c2", "ch_out") or name.lower().startswith(("ou", "cout"))
