"""The one error that a user can cause, what it calls things, and what is said of odd files.

The same functions serve commands, whose users know options (--min-channels), and programs, whose
authors know arguments (min_channels). Messages name options; `as_arguments` translates.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import PurePath
from typing import Any

_COMMAND: ContextVar[bool] = ContextVar("command", default=False)
LONGEST = 240  # bytes in the name of a run: file systems take 255, and a number may follow
ARGUMENTS = {"ratio": "ratios", "data": "calibration", "modules": "admit"}  # unlike the options'


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line: where, what was given, what was expected. Scripts print it to stderr
    and exit with code 2.
    """

    def __init__(self, where: object, got: object, expected: str) -> None:
        super().__init__(" ".join(f"{where}: {got}, expected {expected}".split()))
        self.parts = str(where), str(got), expected

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:  # to come over from a worker
        return type(self), self.parts


@cache
def note(where: object, text: str) -> None:
    """Say what is odd about something that is used all the same: a line on stderr, once a process.

    Args:
        where: what it is about, such as a file.
        text: what is odd, and what is made of it.
    """
    if int(os.getenv("RANK", "-1")) <= 0:  # of torchrun's processes the first one speaks
        print(" ".join(f"note: {where}: {text}".split()), file=sys.stderr)


@contextmanager
def as_options() -> Iterator[None]:
    """In the block, a command, errors speak of options throughout."""
    token = _COMMAND.set(True)
    try:
        yield
    finally:
        _COMMAND.reset(token)


@contextmanager
def as_arguments() -> Iterator[None]:
    """In the block, or the function it decorates, errors speak of arguments, but in a command."""
    try:
        yield
    except InputError as error:
        if _COMMAND.get() or "--" not in str(error):
            raise
        where, got, expected = (
            re.sub(r"--([a-z][a-z-]+)", lambda m: ARGUMENTS.get(m[1], m[1].replace("-", "_")), part)
            for part in (part.replace("a data yaml with --data", "--data") for part in error.parts)
        )
        raise InputError(where, got, expected) from error.__cause__


def as_python(value: Any) -> Any:
    """A number of numpy, or a tensor of one, as Python's own; anything else as it is.

    Example:
        >>> import numpy
        >>> as_python(numpy.float32(0.5)), as_python([1])
        (0.5, [1])
    """
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        return value.item()
    return value


def check_share(
    where: str, value: Any, what: str = "a share", *, zero: bool = True, one: bool = True
) -> float:
    """A share: a finite number from 0 to 1.

    Args:
        where: what the error calls it.
        value: as given.
        what: what it is a share of, in words.
        zero, one: whether these two are allowed.

    Raises:
        InputError: it is something else.

    Example:
        >>> check_share("--percent", 0.6, one=False)
        0.6
    """
    value = as_python(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 <= value <= 1 and (zero or value > 0) and (one or value < 1):
        return float(value)
    ends = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
    meant = number and 2 <= value <= 100 and (one or value < 100)
    text = f" (did you mean {value / 100:g}?)" if meant else ""
    raise InputError(where, repr(value), f"{what} in {ends}{text}")


MOST = {"--imgsz": 16384, "--batch-size": 16384, "--threads": 1024}  # beyond is a slip


def check_count(where: str, value: Any, least: int = 1) -> int:
    """A whole number, so large at least; of threads, images and px not beyond any machine.

    Raises:
        InputError: it is something else.
    """
    value = as_python(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(where, repr(value), f"a whole number, {least} or more")
    if value < least:
        raise InputError(where, value, f"{least} or more")
    if value > MOST.get(where, value):
        raise InputError(where, value, f"{MOST[where]} or less")
    return value


def check_seed(where: str, value: Any) -> int:
    """A seed that torch and numpy both take.

    Raises:
        InputError: it is something else.
    """
    value = as_python(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise InputError(where, value, f"a whole number from 0 to {2**32 - 1}")
    return value


class CheckFailed(RuntimeError):
    """A result is not what it must be (an export that differs, a model of the wrong shapes).

    Scripts print the message to stderr and exit with code 1.
    """


class ParityError(CheckFailed):
    """The pruned model does not compute what the masked model computes: a fault of yolo_slim."""


def option_of(name: str) -> str:
    """The command line's name of an argument."""
    return f"--{name.replace('_', '-')}"


def check_imgsz(imgsz: Any, stride: int = 32) -> int:
    """An image size that the model can take.

    Raises:
        InputError: not a positive multiple of the stride.
    """
    imgsz = as_python(imgsz)
    if not isinstance(imgsz, int) or imgsz < stride or imgsz % stride:
        raise InputError("--imgsz", f"{imgsz!r:.80}", f"a multiple of the stride, {stride}")
    return check_count("--imgsz", imgsz)


def check_place(project: str, name: str) -> None:
    """Results go to a new folder `name` in the folder `project`, by names that any tool can take.

    Raises:
        InputError: one of the two is no such name.
    """
    if not project.strip():
        raise InputError("--project", "an empty name", "a folder")
    if not name.strip() or name in (".", "..") or "/" in name or os.sep in name:
        expected = "the name of a folder"
        expected += "; --project is the folder around it" * bool(name.strip(" ."))
        raise InputError("--name", repr(name)[:80], expected)
    for option, value in (("--project", project), ("--name", name)):
        shown = repr(value)[:80]
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
            raise InputError(option, shown, "a name without line ends and control characters")
        if value != value.strip():
            raise InputError(option, shown, "a name without a space at an end")
        if value.startswith("-"):
            raise InputError(option, shown, "a name that begins otherwise: with - it is an option")
        if any(len(part.encode()) > LONGEST for part in PurePath(value).parts):
            raise InputError(option, shown, f"names of {LONGEST} bytes at most")
