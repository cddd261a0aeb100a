"""What a page says first: what a cut cost and what it brought, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.page.model import Curve, Shown
from yolo_slim.text import counted, ratio

EQUAL = 0.0005  # of mAP: what three decimals do not show


def verdict(models: Sequence[Shown], curve: Curve | None = None) -> str:
    """The sentence.

    Args:
        models: the first is the one before the cut, the last one the result.
        curve: of a run of curve; its words are the verdict where nothing else was measured.

    Example:
        >>> before = Shown("before the cut", "a.pt", 1760518, 2100000000, 3_800_000, map=0.539)
        >>> after = Shown("slim", "b.pt", 264078, 945000000, 790_000, map=0.524)
        >>> verdict([before, after])
        'slim has 45.0% of the MACs, 15.0% of the parameters and 20.8% of the file of before the \
cut; mAP50-95 falls by 1.5 points, from 0.539 to 0.524.'
    """
    if len(models) < 2:
        words = curve.words.split(". ")[0].rstrip(".") if curve else ""
        return f"{words}." if words else "One model, with nothing to compare it with."
    first, last = models[0], models[-1]
    what = f"{ratio(last.macs, first.macs)} of the MACs, {ratio(last.params, first.params)} of the"
    what += f" parameters and {ratio(last.bytes, first.bytes)} of the file of {first.label}"
    text = f"{last.label} has {what}"
    if first.ms and last.ms:
        text += f" and takes {last.ms / first.ms:.2f} of its time"
    return f"{text}{_accuracy(first, last)}{_objects(last)}."


def _accuracy(first: Shown, last: Shown) -> str:
    if last.map is None:
        return ""
    if first.map is None:
        return f"; mAP50-95 is {last.map:.3f}"
    points = 100 * (last.map - first.map)
    if abs(last.map - first.map) < EQUAL:
        return f"; mAP50-95 stays at {last.map:.3f}"
    verb = "rises" if points > 0 else "falls"
    between = f"from {first.map:.3f} to {last.map:.3f}"
    return f"; mAP50-95 {verb} by {abs(points):.1f} points, {between}"


def _objects(last: Shown) -> str:
    tally = last.tally
    if tally is None or not (tally.lost or tally.gained):
        return ""
    text = f"; of {counted(tally.truths, 'true object')} it loses {tally.lost:,}"
    return f"{text} and gains {tally.gained:,}"
