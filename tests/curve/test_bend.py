"""Kneedle: laws, and points set by hand."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_slim.curve.bend import knee

BENT = [(0.2, 0.1), (0.4, 0.48), (0.6, 0.5), (0.8, 0.51), (1.0, 0.52)]


def test_the_example_of_the_paper() -> None:
    """y = -1/x + 5 on 0 to 9 (Satopaa et al. 2011, figure 2): the knee is at x = 0.22 of 1."""
    x = np.linspace(0, 1, 10)
    points = list(zip(x, -1 / (x + 0.1) + 5, strict=True))
    assert knee(points) == 2


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (BENT, 1),
        ([(0.3, 0.0), (0.5, 0.1), (0.7, 0.2), (0.9, 0.3)], None),  # straight
        ([(0.3, 0.0), (0.5, 0.02), (0.7, 0.1), (0.9, 0.5)], None),  # bent the other way
        ([(0.3, 0.5), (0.5, 0.5), (0.7, 0.5)], None),  # level
        ([(0.5, 0.1), (0.5, 0.2), (0.5, 0.3)], None),  # one share
        ([(0.5, 0.1), (1.0, 0.3)], None),
        ([], None),
    ],
)
def test_set_by_hand(points: list[tuple[float, float]], expected: int | None) -> None:
    assert knee(points) == expected


def test_the_order_of_the_points_does_not_matter() -> None:
    assert knee(BENT[::-1]) == len(BENT) - 2
    assert knee([BENT[i] for i in (3, 1, 4, 0, 2)]) == 1


def test_the_scale_of_the_axes_does_not_matter() -> None:
    assert knee([(100 * x + 7, 3 * y - 1) for x, y in BENT]) == 1


def test_a_chance_rise_of_a_smaller_model_moves_nothing() -> None:
    noisy = [(0.2, 0.1), (0.4, 0.48), (0.6, 0.47), (0.8, 0.49), (1.0, 0.52)]
    assert knee(noisy) == 1


def test_a_weak_bend_is_none_where_more_is_asked_for() -> None:
    weak = [(0.0, 0.0), (0.25, 0.35), (0.5, 0.6), (0.75, 0.8), (1.0, 1.0)]
    assert knee(weak) is None
    assert knee(weak, sensitivity=0.3) == 1


def test_of_two_knees_the_one_that_stands_out() -> None:
    steps = [(0, 0.0), (1, 0.2), (2, 0.2), (3, 0.2), (4, 0.9), (5, 0.95), (6, 1.0)]
    assert knee(steps, sensitivity=0.2) == 4
