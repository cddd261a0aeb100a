"""The table of recovery parts: what can be done after a cut, in the order in which it is done.

A row here and a function are a part; --help, messages and the docs read the rows. Nothing heavy is
imported for them: a row names its function, which is imported when a model is recovered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolo_slim.errors import InputError


@dataclass(frozen=True)
class Part:
    """A part of a recovery.

    Attributes:
        name: of --recover.
        home: module of this package and function: of a `Cut` to how many layers it changed.
        help: what it does, in a few words.
        data: it looks at calibration images.
        in_all: it belongs to `--recover all`.
    """

    name: str
    home: str
    help: str
    data: bool = True
    in_all: bool = True


_ROWS = (
    Part("constants", "constants.recover_", "what cut channels still send", data=False),
    Part("weights", "reconstruct.recover_", "least squares on images"),
    Part("statistics", "statistics.recover_", "of BatchNorm, on images"),
    Part(
        "distill",
        "distill.recover_",
        "learns from the model before the cut, on images, minutes",
        in_all=False,
    ),
)
PARTS: dict[str, Part] = {row.name: row for row in _ROWS}
ALL = tuple(row.name for row in _ROWS if row.in_all)


def check_parts(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts of a recovery, in their order.

    Raises:
        InputError: an unknown part.
    """
    for part in parts:
        if part not in PARTS:
            text = f"some of {', '.join(PARTS)} and all, or none alone"
            raise InputError("--recover", repr(part), text)
    return tuple(part for part in PARTS if part in parts)


def parse_parts(text: str | None) -> tuple[str, ...] | None:
    """The parts that --recover names, with commas; None where it is not given.

    Raises:
        InputError: it names another one.

    Example:
        >>> parse_parts("all,distill")
        ('constants', 'weights', 'statistics', 'distill')
        >>> parse_parts("none")
        ()
    """
    if text is None or text == "none":
        return None if text is None else ()
    parts = [part.strip() for part in text.split(",")]
    return check_parts([*(ALL if "all" in parts else ()), *(p for p in parts if p != "all")])
