"""What is imported late: the functions that the rows of our tables name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def function_at(package: str, home: str) -> Callable[..., Any]:
    """A function by its home, which is imported now.

    Args:
        package: such as "yolo_slim.deploy".
        home: module in it and function, such as "export.write_onnx".
    """
    module, _, name = home.partition(".")
    function: Callable[..., Any] = getattr(import_module(f"{package}.{module}"), name)
    return function
