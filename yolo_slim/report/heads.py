"""What models are made for: shares between two that are made for different tasks say little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolo_slim.errors import InputError
from yolo_slim.host.metadata import literal
from yolo_slim.text import counted

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from yolo_slim.runtimes.network import Network

SHOWN = 3  # names of classes in a sentence


@dataclass(frozen=True)
class Head:
    """What the last layer of a model tells.

    Attributes:
        task: detection or segmentation.
        names: of the classes.
        strides: px, one a scale; None where a file does not say.
    """

    task: str
    names: tuple[str, ...]
    strides: tuple[int, ...] | None

    def unlike(self, first: Head) -> str:
        """How it differs from the head of the first model, in words; "" if it does not.

        Example:
            >>> Head("detection", ("car",), None).unlike(Head("detection", ("cat", "dog"), None))
            '1 class, the first model 2'
        """
        if self.task != first.task:
            return f"a head for {self.task}, the first model one for {first.task}"
        if len(self.names) != len(first.names):
            return f"{counted(len(self.names), 'class')}, the first model {len(first.names)}"
        if self.names != first.names:
            return f"other classes ({listed(self.names)}) than the first model"
        if self.strides and first.strides and self.strides != first.strides:
            ours, theirs = (", ".join(map(str, head.strides or ())) for head in (self, first))
            return f"a head with strides {ours}, the first model {theirs}"
        return ""


def head_of_model(model: nn.Module) -> Head:
    """The head of a detector."""
    from yolo_slim.host.classes import class_names
    from yolo_slim.host.tasks import task_of_model

    strides = tuple(int(stride) for stride in model.stride)
    return Head(task_of_model(model).name, tuple(class_names(model).values()), strides)


def head_of_network(network: Network, outputs: Sequence[np.ndarray]) -> Head | None:
    """The head that an exported file notes, as YOLOv5 writes it; None where it notes no classes.

    Args:
        network: the file.
        outputs: what it returned.
    """
    names = network.metadata.get("names")
    try:
        names = literal(names) if isinstance(names, str) else names
    except InputError:
        return None
    names = list(names.values()) if isinstance(names, Mapping) else names
    if not isinstance(names, list | tuple):
        return None
    task = "segmentation" if any(out.ndim == 4 for out in outputs[1:2]) else "detection"
    return Head(task, tuple(map(str, names)), None)


def listed(names: tuple[str, ...]) -> str:
    """The first names."""
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
