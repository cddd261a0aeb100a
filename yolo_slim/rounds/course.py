"""How a training went, by its results.csv, and whether its epochs were enough."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.runs import RESULTS
from yolo_slim.text import apart

LAST_PART = 1 / 4  # of the epochs of a training: where mAP should not rise much any more
RISES = 0.05  # a larger share of mAP50-95 that the last part adds says that more would come
MORE = "More --epochs give more."


def course(training: Path) -> list[tuple[float, float]]:
    """mAP50 and mAP50-95 (of boxes), epoch by epoch, of the training in a folder."""
    points = []
    with (training / RESULTS).open() as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            if None in row.values():  # segment/train.py ends with a row of the best model's metrics
                continue
            values = {key.strip(): value for key, value in row.items() if key}
            named = [k for k in values if k.startswith("metrics/mAP") and "(M)" not in k]
            fifty = next(k for k in named if "0.5:0.95" not in k)
            whole = next(k for k in named if "0.5:0.95" in k)
            points.append((float(values[fifty]), float(values[whole])))
    return points


def still_rising(maps: Sequence[float]) -> str:
    """A sentence if a training was over before it had brought what it could; else nothing."""
    rise = rising(maps)
    if rise is None:
        return ""
    before, after = apart(*rise)
    text = "mAP50-95 was still rising when the training ended"
    return f"Too few epochs: {text} ({before}, then {after}). {MORE}"


def rising(maps: Sequence[float]) -> tuple[float, float] | None:
    """The best value before the last part of a training and in it, if it still rose; else None.

    Example:
        >>> rising([0.1, 0.2, 0.3, 0.4]), rising([0.1, 0.39, 0.4, 0.4])
        ((0.3, 0.4), None)
    """
    last = max(round(len(maps) * LAST_PART), 1)
    before, after = max(maps[:-last], default=None), max(maps[-last:], default=0.0)
    if before is None or after <= before + RISES * after:
        return None
    return before, after
