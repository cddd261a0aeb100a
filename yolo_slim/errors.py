"""The one error that a user can cause, and how a script ends on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OPTION = re.compile(r"(?<!\S)--([a-z][a-z-]*)")


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
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 <= value <= 1 and (zero or value > 0) and (one or value < 1):
        return float(value)
    ends = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
    meant = f" ({value / 100:g}?)" if number and 1 < value <= 100 else ""
    raise InputError(where, repr(value), f"{what} in {ends}{meant}")


def check_count(where: str, value: Any, least: int = 1) -> int:
    """A whole number, so large at least.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(where, value, f"{least} or more")
    return value


def check_seed(where: str, value: Any) -> int:
    """A seed that torch and numpy both take.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise InputError(where, value, f"a whole number from 0 to {2**32 - 1}")
    return value


@contextmanager
def named_as_arguments() -> Iterator[None]:
    """Errors in the block are told to a program: they speak of `round_to`, not of --round-to.

    Raises:
        InputError: one that was raised in the block, with arguments in place of options.
    """
    try:
        yield
    except InputError as error:
        parts = (OPTION.sub(lambda m: m[1].replace("-", "_"), part) for part in error.parts)
        raise InputError(*parts) from error.__cause__


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
    if not isinstance(imgsz, int) or imgsz < stride or imgsz % stride:
        raise InputError("--imgsz", imgsz, f"a multiple of the stride, {stride}")
    return imgsz
