"""Fronts: what no other point beats in both time and accuracy, and two families side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo_slim.curve.points import CUT, SIZE, TRAINED, Curve, Point


def front(points: Sequence[Point]) -> list[Point]:
    """The points that are beaten by none, by rising time.

    A point is beaten by one that takes no more time and has a higher mAP50-95, or takes less and
    has as much.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.time, -point.map)):
        if not best or point.map > best[-1].map:
            best.append(point)
    return best


def accuracy_at(points: Sequence[Point], time: float) -> float | None:
    """mAP50-95 on the front of some points at a time, between two of them by a straight line.

    Args:
        points: of one family, with the dense model.
        time: ms.

    Returns:
        None where the time is shorter or longer than that of each point on the front.
    """
    line = front(points)
    if not line or not line[0].time <= time <= line[-1].time:
        return None
    return float(np.interp(time, [p.time for p in line], [p.map for p in line]))


def beside_sizes(curve: Curve, family: str = CUT) -> list[tuple[Point, float]]:
    """The points of a family, each with the mAP50-95 that a smaller image has at its time.

    Args:
        curve: with all its times.
        family: cut or trained.

    Returns:
        Those points whose time a smaller image can take, too.
    """
    assert family in (CUT, TRAINED)
    sizes = [curve.dense, *curve.of(SIZE)]
    pairs = [(point, accuracy_at(sizes, point.time)) for point in curve.of(family)]
    return [(point, accuracy) for point, accuracy in pairs if accuracy is not None]
