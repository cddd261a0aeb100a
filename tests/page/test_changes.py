"""What was lost and found, by hand-set boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yolo_slim.host.predictions import Objects
from yolo_slim.page.changes import changed, hit, matches, tally
from yolo_slim.page.images import order


def objects(*rows: tuple[int, float, float, float, float]) -> Objects:
    """Objects of (class, left, top, right, bottom), the first the surest."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 5)
    scores = np.linspace(1, 0.3, len(table))
    return Objects(Path("a.jpg"), (99, 99), table[:, 1:], table[:, 0].astype(int), scores)


def test_half_of_the_union_is_enough_and_less_is_not() -> None:
    truth = objects((0, 0, 0, 10, 10))
    assert matches(truth, objects((0, 0, 0, 10, 5))).tolist() == [0]  # IoU 0.5
    assert matches(truth, objects((0, 0, 0, 10, 4.9))).tolist() == [-1]


def test_another_class_is_no_match() -> None:
    assert matches(objects((0, 0, 0, 9, 9)), objects((1, 0, 0, 9, 9))).tolist() == [-1]


def test_an_object_is_met_once_by_the_surest_box() -> None:
    truth = objects((0, 0, 0, 10, 10), (0, 20, 0, 30, 10))
    found = objects((0, 0, 0, 10, 9), (0, 0, 0, 10, 10), (0, 20, 0, 30, 10))
    assert matches(truth, found).tolist() == [0, -1, 1]


def test_a_box_takes_the_object_that_it_covers_best() -> None:
    truth = objects((0, 0, 0, 10, 10), (0, 1, 0, 11, 10))
    assert matches(truth, objects((0, 1, 0, 11, 10))).tolist() == [1]


def test_nothing_is_found_and_nothing_is_there() -> None:
    assert matches(objects(), objects((0, 0, 0, 1, 1))).tolist() == [-1]
    assert matches(objects((0, 0, 0, 1, 1)), objects()).tolist() == []


def test_tally_by_hand() -> None:
    """Two images: the first model finds objects 0 and 1 of the first, the other 1 and 2."""
    truths = [objects(*((0, 20 * i, 0, 20 * i + 10, 10) for i in range(3))), objects()]
    first = [np.array([0, 1]), np.array([], dtype=int)]
    other = [np.array([2, 1, -1]), np.array([-1])]
    counted = tally(truths, other, first)
    assert (counted.hits, counted.lost, counted.gained, counted.false) == (2, 1, 1, 2)
    assert counted.truths == 3
    assert changed(truths, other, first) == [2, 0]
    same = tally(truths, first, first)
    assert (same.lost, same.gained) == (0, 0)


@given(st.data())
def test_hits_before_and_after_differ_by_what_was_lost_and_gained(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 6))
    truth = objects(*((0, 20 * i, 0, 20 * i + 10, 10) for i in range(count)))
    pick = st.lists(st.integers(-1, count - 1), unique_by=lambda i: i if i >= 0 else object())
    one, two = (np.array(data.draw(pick), dtype=int) for _ in range(2))
    counted = tally([truth], [two], [one])
    assert counted.hits == hit(truth, one).sum() - counted.lost + counted.gained


def test_pictures_with_most_changes_come_first() -> None:
    assert order([0, 3, 1, 3, 0]) == [1, 3, 2, 0, 4]
