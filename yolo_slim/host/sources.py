"""What can be read of YOLOv5 without importing it, which takes seconds.

Its scripts declare their options in a function parse_opt, which needs nothing but argparse and the
folder of the package: it is taken out of the source and run by itself.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from yolo_slim.errors import InputError

Arguments = tuple[tuple[str, ...], dict[str, Any]]  # what add_argument is called with


@lru_cache
def root() -> Path:
    """The folder of the package."""
    spec = find_spec("yolov5")
    if spec is None or spec.origin is None:
        raise InputError("yolov5", "not installed", "pip install yolov5==7.0.14")
    return Path(spec.origin).resolve().parent


@lru_cache
def declared_options(script: str) -> Mapping[str, Arguments]:
    """The options of one of its scripts by name, as its parse_opt declares them.

    Args:
        script: such as "segment/train.py".
    """
    declared: dict[str, Arguments] = {}

    class Recorder(argparse.ArgumentParser):
        def add_argument(self, *flags: Any, **kwargs: Any) -> argparse.Action:
            action = super().add_argument(*flags, **kwargs)
            declared[action.dest] = (flags, kwargs)
            return action

        def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
            raise StopIteration

    file = root() / script
    source = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in source.body if is_parse_opt(node)]
    module = ast.Module(functions, type_ignores=[])
    names = {"argparse": SimpleNamespace(ArgumentParser=Recorder), "ROOT": root()}
    exec(compile(module, str(file), "exec"), names)  # the host's own code, as an import runs it
    with suppress(StopIteration):
        names["parse_opt"]()  # type: ignore[operator]
    return {name: arguments for name, arguments in declared.items() if name != "help"}


def is_parse_opt(node: ast.stmt) -> bool:
    """True for the function that declares a script's options."""
    return isinstance(node, ast.FunctionDef) and node.name == "parse_opt"
