"""The search of the knapsack, beside all solutions of small cases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from yolo_slim.pruning.budget.knapsack import Knapsack, Term


def chain(seed: int, *, blocks: bool) -> Knapsack:
    """Four layers in a row and a fifth that reads two of them; times of pairs are drawn.

    Args:
        seed: of what is drawn.
        blocks: a time goes up at every second step only.
    """
    random = np.random.default_rng(seed)
    options = [[1, 2, 3, 4], [2, 4], [1, 3, 4], [0, 2, 4]]
    worth = []
    for row in options:
        lost = np.cumsum(np.sort(random.random(5)))[::-1]
        worth.append(-lost[np.array(row)])
    terms = []
    for pair in ((0, 1), (1, 2), (2, 3)):
        width = np.arange(5) + 1
        seconds = np.outer(width, width) * random.random() + random.random((5, 5)) * 0.2
        if blocks:
            seconds = seconds[-(-np.arange(5) // 2) * 2][:, -(-np.arange(5) // 2) * 2]
        terms.append(Term(seconds, np.zeros(2, int), np.array(pair), np.eye(2, dtype=int)))
    both = np.array([[1, 1], [0, 0]])  # inputs from two stacks, three outputs that stay
    wide = np.outer(np.arange(9) + 1, np.ones(4)) * random.random()
    terms.append(Term(wide, np.array([0, 3]), np.array([0, 3]), both))
    return Knapsack(worth, options, terms, fixed=0.5)


def best_of(knapsack: Knapsack, most: float) -> float:
    """The worth of the best of all solutions."""
    every = (np.array(kept) for kept in product(*knapsack.options))
    return max(knapsack.total(k) for k in every if knapsack.seconds(k) <= most)


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("share", [0.9, 0.75, 0.6])
def test_beside_all_solutions(share: float, blocks: bool) -> None:
    """Never over the time; the best of all in nine of ten cases, and near it in the others."""
    gaps = []
    for seed in range(30):
        knapsack = chain(seed, blocks=blocks)
        most = share * knapsack.seconds(knapsack.all)
        if knapsack.seconds(knapsack.least) > most:
            assert knapsack.solve(most) is None
            continue
        kept = knapsack.solve(most)
        assert kept is not None and knapsack.seconds(kept) <= most
        none, best = knapsack.total(knapsack.least), best_of(knapsack, most)
        gaps.append((best - knapsack.total(kept)) / (best - none) if best > none else 0.0)
    assert len(gaps) >= 15
    assert np.mean(np.array(gaps) < 1e-9) >= 0.9
    assert max(gaps) < 0.25


def test_all_fits() -> None:
    knapsack = chain(0, blocks=False)
    kept = knapsack.solve(knapsack.seconds(knapsack.all))
    assert kept is not None and (kept == knapsack.all).all()


def test_over_is_at() -> None:
    """The times of all options of a stack are those of each by itself."""
    knapsack, kept = chain(1, blocks=True), np.array([2, 4, 3, 2])
    for term in knapsack.terms:
        for stack in term.stacks:
            for count, seconds in zip(
                knapsack.options[stack],
                term.over(kept, stack, knapsack.options[stack]),
                strict=True,
            ):
                other = kept.copy()
                other[stack] = count
                assert term.at(other) == seconds
