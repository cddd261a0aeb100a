"""A user's module classes, by name: what --modules and --clone admitted, and torchvision's."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from torch import nn

ADMITTED: dict[str, type[nn.Module]] = {}  # class name -> class
CLONES: list[Any] = []  # of `clone.Clone`

_TORCHVISION = re.compile(r"torchvision\.(models|ops)(\.\w+)+")


def admitted(name: str) -> type[nn.Module] | None:
    """The class that a checkpoint means by a name, if it may hold it.

    Args:
        name: such as "models.common.CBAM", or the name of a module class of torchvision.
    """
    cls: Any = ADMITTED.get(name.rpartition(".")[2])
    for clone in CLONES if cls is None else ():
        cls = cls or clone.find(name)
    if cls is None and _TORCHVISION.fullmatch(name):
        try:
            module, _, title = name.rpartition(".")
            cls = getattr(import_module(module), title, None)
        except ImportError:
            return None
    return cls if isinstance(cls, type) and issubclass(cls, nn.Module) else None
