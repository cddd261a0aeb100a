"""The defaults of YOLOv5's options in --help, where YOLOv5 itself does not show them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_slim.host.sources import root

DEVICE = "the first GPU, or the CPU where there is none"


def show_defaults_(actions: Iterable[argparse.Action], unset: Mapping[str, str]) -> None:
    """Put defaults at the end of the help texts of options.

    Args:
        actions: the options, with the defaults that they are parsed with.
        unset: by the name of an option that has no default: what is taken in its place, in words.
    """
    for action in actions:
        text = unset.get(action.dest) or in_words(action.default)
        if text and action.help and action.help != argparse.SUPPRESS:
            action.help += f" (default: {text})".replace("%", "%%")


def in_words(default: Any) -> str:
    """A default as it would be typed; "" where there is none, and where a switch is off.

    Example:
        >>> in_words(100), in_words([0, 1]), in_words(False)
        ('100', '0 1', '')
    """
    if default is None or default is False or default == argparse.SUPPRESS:
        return ""
    if isinstance(default, list):
        return " ".join(map(str, default))
    text = str(default)
    if Path(text).is_absolute() and Path(text).is_relative_to(root()):
        return f"YOLOv5's {Path(text).name}"
    return text
