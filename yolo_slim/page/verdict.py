"""What a page says first: what a cut brought and what it cost, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.page.model import Curve, Shown
from yolo_slim.text import apart

EQUAL = 0.0005  # of mAP: what three decimals do not show


def verdict(models: Sequence[Shown], curve: Curve | None = None, *, rough: bool = False) -> str:
    """The sentence.

    Args:
        models: the first is the one before the cut, the last one the result.
        curve: of a run of curve, whose words are the verdict where there is no second model.
        rough: the times say little.

    Example:
        >>> dense = Shown("dense", "a.pt", 1760518, 2100000000, 3_800_000, map=0.539)
        >>> slim = Shown("slim", "b.pt", 264078, 945000000, 790_000, map=0.524)
        >>> print(verdict([dense, slim]))
        The slim model takes 21% of the file of the dense model; mAP50-95 falls by 1.5 points, \
from 0.539 to 0.524.
    """
    if len(models) < 2:
        words = curve.words.split(". ")[0].split(": at ")[0].rstrip(".") if curve else ""
        return f"{words}." if words else "One model, with nothing to compare it with."
    first, last = models[0], models[-1]
    share = f"{last.bytes / first.bytes:.0%} of the file"
    if first.ms and last.ms:
        share = f"{'about ' * rough}{last.ms / first.ms:.2f} of the time and {share}"
    name = _name(first)
    text = f"{_name(last)} takes {share} of {name[0].lower()}{name[1:]}"
    return f"{text}{_accuracy(first, last)}."


def _name(shown: Shown) -> str:
    """A model in a sentence."""
    return f"Model “{shown.label}”" if "," in shown.label else f"The {shown.label} model"


def _accuracy(first: Shown, last: Shown) -> str:
    if last.map is None:
        return ""
    if first.map is None:
        return f"; mAP50-95 is {last.map:.3f}"
    if abs(last.map - first.map) < EQUAL:
        return f"; mAP50-95 stays at {last.map:.3f}"
    verb = "rises" if last.map > first.map else "falls"
    before, after = apart(first.map, last.map)
    points = 100 * abs(float(after) - float(before))  # of what is printed
    return f"; mAP50-95 {verb} by {points:.1f} points, from {before} to {after}"
