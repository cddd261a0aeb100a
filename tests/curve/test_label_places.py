"""Labels in a picture: none lies on another, on a point, or outside, where there is room."""

from __future__ import annotations

import random

from yolo_slim.curve.labels import beside, common, placed

AROUND = (0.0, 0.0, 600.0, 400.0)


def test_none_lies_on_another() -> None:
    draw = random.Random(0)
    for _ in range(50):
        points = [(draw.uniform(60, 540), draw.uniform(40, 360)) for _ in range(14)]
        boxes = placed(points, [(40.0, 10.0)] * 14, AROUND)
        covered = sum(common(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
        marks = [(x - 2.5, y - 2.5, x + 2.5, y + 2.5) for x, y in points]
        assert covered == 0
        assert sum(common(box, mark) for box in boxes for mark in marks) == 0


def test_near_the_edge_it_turns_inwards() -> None:
    ((left, low, right, high),) = placed([(598, 398)], [(40, 10)], AROUND)
    assert 0 <= left < right <= 598 and 0 <= low < high <= 398


def test_what_is_there_already_is_not_covered() -> None:
    (box,) = placed([(100, 100)], [(40, 10)], AROUND, others=[(100, 100, 300, 300)])
    assert common(box, (100, 100, 300, 300)) == 0


def test_beside() -> None:
    assert beside(10, 20, (40, 8), 5, (1, 1)) == (15, 25, 55, 33)
    assert beside(10, 20, (40, 8), 5, (-1, 0)) == (-35, 16, 5, 24)
    assert beside(10, 20, (40, 8), 5, (0, -1)) == (-10, 7, 30, 15)
    assert common((0, 0, 2, 2), (1, 1, 3, 3)) == 1 and common((0, 0, 1, 1), (1, 0, 2, 1)) == 0
