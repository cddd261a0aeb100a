"""Fronts, and two families at the same time."""

from __future__ import annotations

import pytest
from curves import BENT, SIZES, STEEP, made_up, point

from yolo_slim.curve.front import accuracy_at, beside_sizes, front
from yolo_slim.curve.points import CUT, DENSE, SIZE, TRAINED


def test_the_front_is_beaten_by_none() -> None:
    curve = made_up(BENT, SIZES)
    best = front(curve.points)
    assert [p.label for p in best] == ["160 px", "224 px", "0.5", "0.7", "0.9", "dense"]
    for one in curve.points:
        beaten = any(
            p.time <= one.time and p.map >= one.map and p.key != one.key for p in curve.points
        )
        assert beaten == (one not in best)


def test_of_the_same_time_the_better_and_of_the_same_accuracy_the_quicker() -> None:
    same = [point(CUT, "0.9", 5.0, 0.3), point(CUT, "0.8", 5.0, 0.4), point(CUT, "0.7", 6.0, 0.4)]
    assert [p.label for p in front(same)] == ["0.8"]


def test_between_two_points_by_a_straight_line() -> None:
    points = [point(DENSE, "dense", 10.0, 0.5), point(SIZE, "160 px", 4.0, 0.2)]
    assert accuracy_at(points, 7.0) == pytest.approx(0.35)
    assert (accuracy_at(points, 4.0), accuracy_at(points, 10.0)) == (0.2, 0.5)
    assert accuracy_at(points, 3.9) is accuracy_at(points, 10.1) is accuracy_at([], 5) is None


def test_cuts_beside_sizes() -> None:
    pairs = beside_sizes(made_up(STEEP, SIZES, {"runs/slim/exp": (2.0, 0.4)}))
    assert [(p.label, round(other, 4)) for p, other in pairs] == [
        ("0.9", 0.48),
        ("0.7", round(0.35 + 0.11 * 2 / 2.9, 4)),
        ("0.5", round(0.35 + 0.11 * 0.5 / 2.9, 4)),
        ("0.3", 0.26),
    ]
    assert beside_sizes(made_up({}, SIZES, {"runs/slim/exp": (2.0, 0.4)}), TRAINED) == []
