"""Shares by layer, as a yaml or the command line gives them."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.errors import InputError, check_share
from yolo_slim.files import read_mapping


def read_ratios(path: str | Path, where: str) -> dict[str, float]:
    """A yaml of globs and shares, such as `model.2: 0.3`.

    Args:
        path: the file.
        where: what an error calls it.

    Raises:
        InputError: it is something else, or a share is not in [0, 1).
    """
    expected = "a yaml of globs and shares, such as `model.2: 0.3`"
    ratios = read_mapping(path, expected)
    for glob, share in ratios.items():
        try:
            check_share(where, share if isinstance(glob, str) else None, one=False)
        except InputError as error:
            expected = error.parts[2].replace("a share", "a glob and a share")
            raise InputError(where, f"{glob}: {share!r}"[:80], expected) from error
    return {glob: float(share) for glob, share in ratios.items()}


def parse_ratio(text: str) -> tuple[str, float]:
    """GLOB=SHARE of the command line.

    Raises:
        InputError: there is no "=", or the share is not a number in [0, 1).
    """
    glob, equals, share = text.rpartition("=")
    expected = "a share in [0, 1)"
    try:
        if not equals or not glob:
            raise ValueError(text)
        return glob, check_share("--ratio", float(share), one=False)
    except ValueError as error:  # an InputError is one
        expected = error.parts[2] if isinstance(error, InputError) else expected
        raise InputError("--ratio", repr(text), f"GLOB=SHARE with {expected}") from error
