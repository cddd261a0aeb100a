"""Layers chosen by hand: globs over the names of BNs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError, check_share


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
    named = [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]
    if not named:
        parts = [name.split(".") for name in names]
        known = {".".join(p[:i]) for p in parts for i in range(2, len(p) + 1)}
        near = get_close_matches(glob.replace("*", ""), sorted(known), n=3, cutoff=0.3)
        text = f"the name of {kind} or of a module with one"
        text += f", such as {', '.join(near or sorted(known)[:1])}"
        raise InputError(where, f"{glob!r}, which matches nothing", text)
    return named


def check_names(where: str, value: Any) -> None:
    """See that a value is a list, or another collection, of names.

    Raises:
        InputError: it is one name, or something else.
    """
    listed = isinstance(value, Collection) and all(isinstance(name, str) for name in value)
    if isinstance(value, str) or not listed:
        raise InputError(where, repr(value)[:80], "a list of names")


def kept_by(graph: ChannelGraph, globs: Iterable[str]) -> set[str]:
    """The BNs that --keep GLOB ... holds, and those tied to them.

    Raises:
        InputError: a glob matches nothing, or they are no list.
    """
    check_names("--keep", globs)
    return {name for glob in globs for name in select(graph, glob, "--keep")}


def shares(graph: ChannelGraph, ratios: Mapping[str, float]) -> dict[str, float]:
    """Prunable BN to the share that is to be cut of it; the last glob that matches decides.

    Args:
        graph: gives the names.
        ratios: glob to share.

    Raises:
        InputError: a glob matches nothing, or nothing that may be cut; a share is not in [0, 1).
    """
    by_norm: dict[str, float] = {}
    for glob, share in ratios.items():
        where = f"--ratio {glob}={share}"
        check_share(where, share, one=False)
        names = select(graph, glob, "--ratio")
        free = [name for name in names if graph.norms[name].pinned is None]
        if not free:
            why = graph.norms[names[0]].pinned
            raise InputError(where, f"{names[0]}, which is pinned ({why})", "a prunable BatchNorm")
        by_norm.update(dict.fromkeys(free, share))
    return by_norm
