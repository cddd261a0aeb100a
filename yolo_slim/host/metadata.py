"""What an exported file says of itself: strides and names, as data.

YOLOv5 evaluates the names in an ONNX file. It gets ours in the place of `eval`, which reads
literals alone; and `check_metadata` tells what is wrong before a run begins.
"""

from __future__ import annotations

import ast
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.text import counted

STRIDE = 1024  # px, more than any detector has
NAMES = "a list of names, or a dict by class index"


def literal(text: str) -> Any:
    """The value of a Python literal; nothing is called.

    Raises:
        InputError: it is no literal.
    """
    try:
        return ast.literal_eval(text)
    except Exception as error:  # code, or a text that no parser takes
        raise InputError("metadata", repr(text)[:80], "plain values, no code") from error


def check_metadata(stride: Any, names: Any, classes: int | None, file: object) -> None:
    """See that an exported file's stride and names are what YOLOv5 takes them for.

    Args:
        stride: a number, or its text.
        names: of the classes.
        classes: as many as the outputs have; None: not known.
        file: for the error.

    Raises:
        InputError: they are not, or there are fewer names than classes.
    """
    text = str(stride)
    if not (text.isdecimal() and len(text) <= len(str(STRIDE)) and 0 < int(text) <= STRIDE):
        raise InputError(f"{file}, stride", repr(stride)[:80], f"a whole number, 1 to {STRIDE}")
    pairs = dict(enumerate(names)) if isinstance(names, list | tuple) else names
    texts = isinstance(pairs, dict) and all(isinstance(name, str) for name in pairs.values())
    if not texts or not pairs or set(pairs) != set(range(len(pairs))):
        raise InputError(f"{file}, names", repr(names)[:80], NAMES)
    if classes is not None and len(pairs) < classes:
        got = counted(len(pairs), "name")
        raise InputError(f"{file}, names", got, f"one for each of {counted(classes, 'class')}")
