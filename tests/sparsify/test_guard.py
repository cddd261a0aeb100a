"""What the guard takes for a failure, and what not: by hand."""

from __future__ import annotations

import math

import pytest
import torch

from yolo_slim.sparsify.guard import Guard

NAN, INF = math.nan, math.inf


def lows(guard: Guard, map50s: list[float], acts: bool = True, first: int = 0) -> list[bool]:
    """For each epoch, counted from `first`, whether the guard found its mAP50 wrong."""
    return [bool(guard.accuracy(first + i, value, acts)) for i, value in enumerate(map50s)]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((), ""),
        ((0.1, 0.2, 3e38), ""),
        ((0.1, NAN, 0.2), "the loss is nan"),
        ((0.1, 0.2, INF), "the loss is inf"),
        ((-INF, NAN, 0.2), "the loss is -inf"),
    ],
)
def test_losses_are_finite(losses: tuple[float, ...], expected: str) -> None:
    assert Guard.numbers(losses) == expected


def test_gammas_are_finite() -> None:
    gamma = torch.tensor([0.0, -1.0, 1e38, 0.5])
    assert Guard.gammas(gamma) == ""
    gamma[1], gamma[3] = NAN, -INF
    assert Guard.gammas(gamma) == "2 of 4 gammas are NaN or Inf"


def test_map_under_half_of_the_best_for_two_epochs() -> None:
    guard = Guard(0)
    assert lows(guard, [0.2, 0.6, 0.29]) == [False, False, False]
    assert guard.low == 1
    found = guard.accuracy(3, 0.1, acts=True)
    assert found == "mAP50 fell to 0.100, under half of its best, 0.600"


@pytest.mark.parametrize(
    "map50s",
    [
        [0.6, 0.1, 0.6, 0.1, 0.5, 0.0],  # single dips
        [0.6, 0.31, 0.3, 0.3],  # half is not under half
        [0.049, 0.0, 0.0, 0.0],  # nothing was there to lose
        [0.6, 0.1, 0.35, 0.1, 0.4],  # never two on end
    ],
)
def test_what_is_no_collapse(map50s: list[float]) -> None:
    assert not any(lows(Guard(0), map50s))


def test_a_best_of_a_twentieth_counts() -> None:
    assert lows(Guard(0), [0.05, 0.02, 0.02]) == [False, False, True]


def test_warm_up_says_nothing() -> None:
    """Of three epochs: 1 and 2 are in it, 3 is not; what fell within it, and stays so, counts."""
    assert lows(Guard(3), [0.6, 0.0, 0.0, 0.6, 0.0]) == [False] * 5
    assert lows(Guard(3), [0.6, 0.0, 0.0, 0.0]) == [False] * 3 + [True]


def test_no_epoch_of_the_warm_up_is_what_later_ones_are_measured_by() -> None:
    """mAP jumps while the learning rate rises, with no penalty too (a run on blood cells)."""
    jumps = [0.03, 0.08, 0.27, 0.22, 0.13, 0.13, 0.09, 0.08, 0.09]
    assert any(lows(Guard(3), jumps))
    assert not any(lows(Guard(3, 4.5), jumps))
    assert lows(Guard(0, 2), [0.6, 0.0, 0.5, 0.2, 0.2]) == [False] * 4 + [True]


def test_a_fall_is_not_laid_to_a_penalty_that_does_not_act() -> None:
    assert not any(lows(Guard(0), [0.6, 0.0, 0.0, 0.0], acts=False))
    guard = Guard(0)
    assert lows(guard, [0.6, 0.0]) == [False, False]
    assert not guard.accuracy(2, 0.0, acts=False)
    assert guard.low == 0  # it begins anew
    assert lows(guard, [0.0, 0.0], first=3) == [False, True]


def test_a_resumed_guard_goes_on() -> None:
    guard = Guard(0)
    lows(guard, [0.6, 0.1])
    other = Guard(0)
    other.load_state(guard.state())
    assert (other.best, other.low) == (0.6, 1)
    assert lows(other, [0.1], first=2) == [True]
    other.load_state({})  # of an older run
    assert (other.best, other.low) == (0.0, 0)


def test_a_fall_that_is_borne_is_told_once() -> None:
    """Until mAP is back; then the next one counts anew."""
    guard = Guard(0)
    assert lows(guard, [0.6, 0.1, 0.1]) == [False, False, True]
    assert guard.doubts
    guard.borne = True
    other = Guard(0)
    other.load_state(guard.state())
    assert not other.doubts
    assert lows(other, [0.1, 0.1, 0.5, 0.1], first=3) == [False] * 4
    assert other.doubts
    assert lows(other, [0.1], first=7) == [True]


@pytest.mark.parametrize(
    ("epoch", "backs", "expected"),
    [
        (5, [], False),  # the first time
        (5, [3], True),  # the same fall once more
        (9, [3], False),  # another one
        (4, [-1], True),  # in the warm-up there was no looking
        (30, [3, 9, 20], True),  # it has gone back often enough
    ],
)
def test_when_going_back_does_not_help(epoch: int, backs: list[int], expected: bool) -> None:
    assert Guard(4).goes_on(epoch, backs) == expected
