"""Layers chosen by hand: globs over the names of BNs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.host.data import read_mapping


def select(graph: ChannelGraph, glob: str, where: str = "glob") -> list[str]:
    """The BNs that a glob names, or whose enclosing module it names: "model.2" means all within.

    Args:
        graph: gives the names.
        glob: as in a shell: *, ?, [ab]. The "model." at the beginning may be left out.
        where: what an error calls it.

    Raises:
        InputError: nothing matches; the nearest names are in the message.
    """
    return matching(graph.norms, glob, where, "a BatchNorm")


def matching(names: Collection[str], glob: str, where: str, kind: str) -> list[str]:
    """As `select`, over any names; `kind` is what an error calls them."""
    patterns = [glob, f"{glob}.*", f"model.{glob}", f"model.{glob}.*"]
    found = [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]
    if not found:
        parts = [name.split(".") for name in names]
        known = {".".join(p[:i]) for p in parts for i in range(2, len(p) + 1)}
        near = get_close_matches(glob.replace("*", ""), sorted(known), n=3, cutoff=0.3)
        text = f"the name of {kind} or of a module with one"
        text += f", such as {', '.join(near or sorted(known)[:1])}"
        raise InputError(where, f"{glob!r}, which matches nothing", text)
    return found


def kept_by(graph: ChannelGraph, globs: Iterable[str]) -> set[str]:
    """The BNs that --keep GLOB ... holds, and those tied to them.

    Raises:
        InputError: a glob matches nothing.
    """
    return {name for glob in globs for name in select(graph, glob, "--keep")}


def shares(graph: ChannelGraph, ratios: Mapping[str, float]) -> dict[str, float]:
    """Prunable BN to the share that is to be cut of it; the last glob that matches decides.

    Args:
        graph: gives the names.
        ratios: glob to share.

    Raises:
        InputError: a glob matches nothing, or nothing that may be cut; a share is not in [0, 1).
    """
    found: dict[str, float] = {}
    for glob, share in ratios.items():
        where = f"--ratio {glob}={share:g}"
        if not 0 <= share < 1:
            raise InputError(where, f"{share:g}", "a share in [0, 1)")
        names = select(graph, glob, "--ratio")
        free = [name for name in names if graph.norms[name].pinned is None]
        if not free:
            why = graph.norms[names[0]].pinned
            raise InputError(where, f"{names[0]}, which is pinned ({why})", "a prunable BatchNorm")
        found.update(dict.fromkeys(free, share))
    return found


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
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not isinstance(glob, str) or not number or not 0 <= share < 1:
            raise InputError(where, f"{glob}: {share!r}"[:80], "a glob and a share in [0, 1)")
    return {glob: float(share) for glob, share in ratios.items()}


def parse_ratio(text: str) -> tuple[str, float]:
    """GLOB=SHARE of the command line.

    Raises:
        InputError: there is no "=", or the share is not a number in [0, 1).
    """
    glob, equals, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = float("nan")
    if not equals or not glob or not 0 <= value < 1:
        raise InputError("--ratio", repr(text), "GLOB=SHARE with a share in [0, 1)")
    return glob, value
