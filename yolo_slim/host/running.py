"""A model that does not run: which layer fails, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from yolo_slim.errors import InputError

FIT = "layers that fit together"


@contextmanager
def layers_named(where: object) -> Iterator[None]:
    """In the block a model that runs, and fails, says at which of its layers.

    Layers are those of YOLOv5, which know their index; inside one the innermost module is named,
    too. What fails outside of them is raised as it is.

    Args:
        where: what the error calls the model, such as its file; "" for a model in memory.

    Raises:
        InputError: a layer fails.
    """
    open_calls: list[nn.Module] = []

    def enter(module: nn.Module, inputs: Any) -> None:
        open_calls.append(module)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        while open_calls and open_calls.pop() is not module:  # calls that ended in an error
            pass

    hooks = nn.modules.module
    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave),
    ]
    try:
        yield
    except Exception as error:  # a module of the user's may raise anything
        layers = [module for module in open_calls if hasattr(module, "f") and hasattr(module, "i")]
        if isinstance(error, InputError) or not layers:
            raise
        layer, inner = layers[-1], open_calls[-1]
        text = " ".join(f"{error}".split())[:160]
        at = f"layer {layer.i}, {_title(layer)}, from {layer.f}"
        at = f"{where}, {at}" if where else at
        got = text if inner is layer else f"its {_title(inner)} fails ({text})"
        raise InputError(at, got, FIT) from error
    finally:
        for handle in handles:
            handle.remove()


def _title(module: nn.Module) -> str:
    return type(module).__name__
