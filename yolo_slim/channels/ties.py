"""A letter for each group of tied BatchNorms: names too long to repeat, in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping

from yolo_slim.channels.graph import Norm


def tie_letters(norms: Mapping[str, Norm]) -> dict[str, str]:
    """BN name to the letter of its group, A to Z, then AA; a BN that is not tied has none."""
    found: dict[str, str] = {}
    count = 0
    for start in norms.values():
        if not start.tied or start.name in found:
            continue
        letter, open_names = _letter(count), [start.name]
        count += 1
        while open_names:
            name = open_names.pop()
            if name not in found:
                found[name] = letter
                open_names += norms[name].tied
    return found


def _letter(index: int) -> str:
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)
