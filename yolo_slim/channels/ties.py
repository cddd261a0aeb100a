"""Groups of tied BatchNorms, and a letter for each in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping

from yolo_slim.channels.graph import Norm


def tie_heads(norms: Mapping[str, Norm]) -> dict[str, str]:
    """BN name to the first BN, in the order of the model, that it is tied to by any way.

    A BN that is not tied is its own.
    """
    heads: dict[str, str] = {}
    for start in norms.values():
        open_names = [] if start.name in heads else [start.name]
        while open_names:
            name = open_names.pop()
            if name not in heads:
                heads[name] = start.name
                open_names += norms[name].tied
    return heads


def tie_letters(norms: Mapping[str, Norm]) -> dict[str, str]:
    """BN name to the letter of its group, A to Z, then AA: for display; others have none."""
    heads = tie_heads(norms)
    tied = list(dict.fromkeys(heads[name] for name, norm in norms.items() if norm.tied))
    return {n: _letter(tied.index(h)) for n, h in heads.items() if norms[n].tied}


def _letter(index: int) -> str:
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)
