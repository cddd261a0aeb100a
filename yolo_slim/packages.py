"""Packages of others: one that is missing, or that does not import, ends in one line."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from yolo_slim.errors import InputError

EXTRAS = {  # of pip, by the module that comes with each; what is not here is always installed
    "openvino": "openvino",
    "nncf": "openvino",
    "ncnn": "ncnn",
    "pnnx": "ncnn",
    "ai_edge_litert": "litert",
}
MAKERS = ("onnx", "onnxslim")  # that write every ONNX graph, and what is converted from one
TIMED = (*MAKERS, "onnxruntime")  # that time a model in ONNX Runtime
LIBRARIES = {"ai_edge_litert": "ai_edge_litert.interpreter"}  # where a package loads its C++
LONGEST = 160  # characters of an import error


def check_installed(where: object, needs: Iterable[str]) -> None:
    """See that packages are there; none is imported.

    Args:
        where: what the error calls it.
        needs: names of top-level modules.

    Raises:
        InputError: one is not there.
    """
    for name in needs:
        if not importlib.util.find_spec(name):
            raise _missing(where, name)


def imported(where: object, name: str) -> Any:
    """Import a package.

    Args:
        where: what the error calls it.
        name: of its top-level module.

    Raises:
        InputError: it is not there, or cannot be imported.

    Example:
        >>> imported("--include onnx", "onnx").__name__
        'onnx'
    """
    check_installed(where, [name])
    _prepare(name)
    try:
        import_module(LIBRARIES.get(name, name))
        return import_module(name)
    except Exception as error:  # a shared library, another version of numpy, half a package
        why = " ".join(str(error).split())[:LONGEST] or type(error).__name__
        expected = f"pip install --force-reinstall {_on_pypi(name)}"
        raise InputError(where, f"{name} cannot be imported ({why})", expected) from error


def check_imports(where: object, needs: Iterable[str]) -> None:
    """`imported` for several."""
    for name in needs:
        imported(where, name)


def report_nothing_home() -> None:
    """What must hold before the runtimes are first imported; a value that the user set stays."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reports from 1.29 on
    # OpenVINO has no variable: it does without its reporter where that cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def _prepare(name: str) -> None:
    """What must hold before a package is first imported: nothing is reported home, none warns."""
    report_nothing_home()
    if name == "nncf":  # it imports torch's compiler, which warns without a GPU
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _missing(where: object, name: str) -> InputError:
    """That a package is not there, and what installs it."""
    extra = EXTRAS.get(name)
    pip = f'pip install "yolo-slim[{extra}]"' if extra else f"pip install {_on_pypi(name)}"
    return InputError(where, f"{name} is not installed", pip)


def _on_pypi(name: str) -> str:
    """What pip calls a package."""
    return name.replace("_", "-")
