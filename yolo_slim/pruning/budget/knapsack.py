"""The most worth for the time: a knapsack over stacks of channels whose costs depend on each other.

A layer's time depends on its inputs as well as on its outputs, so what a channel costs depends on
what is kept elsewhere: this is a quadratic knapsack, which is NP-hard. As in HALP (Shen et al.,
NeurIPS 2022) the channels of a stack go in the order of their scores, in the steps of the device.
HALP charges a layer's time to its outputs and takes its inputs from the step before; here both
sides count. For a price of time, worth minus price times time is raised one stack after the other,
from several starts, until no single stack can raise it; the price is found by bisection, and the
time that is left is used up by steps of one stack, or of two at once.

No bound is proven for this search. `benchmarks/knapsack.py` compares it with a MILP solver, the
tests with all solutions of small cases; docs/results.md has what came out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PRICES = 40  # bisection of the price
SWEEPS = 30  # over all stacks, for one price


@dataclass(frozen=True)
class Term:
    """A layer's time, by what is kept.

    Attributes:
        seconds: (inputs + 1, outputs + 1), or (1, channels + 1).
        base: (2,) inputs and outputs that no stack decides.
        stacks: (n,) indices of the stacks that count.
        weights: (2, n) inputs and outputs that come with each kept group of a stack.
    """

    seconds: np.ndarray
    base: np.ndarray
    stacks: np.ndarray
    weights: np.ndarray

    def at(self, kept: np.ndarray) -> float:
        """Seconds; `kept` (stacks,) groups of each stack."""
        inputs, outputs = self.base + self.weights @ kept[self.stacks]
        return float(self.seconds[inputs, outputs])

    def over(self, kept: np.ndarray, stack: int, options: np.ndarray) -> np.ndarray:
        """(options,) seconds where one stack keeps so many, the others what they keep."""
        place = np.flatnonzero(self.stacks == stack)[0]
        weight = self.weights[:, place]
        sides = self.base + self.weights @ kept[self.stacks] - weight * kept[stack]
        inputs, outputs = (sides[i] + weight[i] * options for i in (0, 1))
        seconds: np.ndarray = self.seconds[inputs, outputs]
        return seconds


class Knapsack:
    """Stacks, what they are worth and what they cost.

    Args:
        worth: for each stack (options,) what it is worth with so many groups.
        options: for each stack the numbers of groups that it may keep, rising; the last is all.
        terms: what the time is the sum of.
        fixed: seconds besides.
    """

    def __init__(
        self,
        worth: Sequence[np.ndarray],
        options: Sequence[Sequence[int]],
        terms: Sequence[Term],
        fixed: float = 0.0,
    ) -> None:
        self.terms, self.fixed, self.worth = terms, fixed, worth
        self.options = [np.array(row) for row in options]
        self._of: list[list[Term]] = [[] for _ in worth]
        for term in terms:
            for stack in term.stacks:
                self._of[stack].append(term)
        self.all = np.array([row[-1] for row in self.options])
        self.least = np.array([row[0] for row in self.options])

    def seconds(self, kept: np.ndarray) -> float:
        """Predicted time."""
        return self.fixed + sum(term.at(kept) for term in self.terms)

    def total(self, kept: np.ndarray) -> float:
        """Worth of what is kept."""
        rows = zip(self.options, self.worth, kept, strict=True)
        return float(sum(worth[np.searchsorted(row, k)] for row, worth, k in rows))

    def _times(self, kept: np.ndarray, stack: int) -> np.ndarray:
        """(options,) seconds of the terms that a stack counts in."""
        total = np.zeros(len(self.options[stack]))
        for term in self._of[stack]:
            total += term.over(kept, stack, self.options[stack])
        return total

    def best_at(self, price: float, start: np.ndarray) -> np.ndarray:
        """What is kept where a second costs so much worth: no single stack can do better."""
        kept = start.copy()
        for _ in range(SWEEPS):
            before = kept.copy()
            for stack, row in enumerate(self.options):
                if len(row) > 1:
                    gain = self.worth[stack] - price * self._times(kept, stack)
                    kept[stack] = row[int(np.argmax(gain))]
            if (kept == before).all():
                break
        return kept

    def solve(self, most: float) -> np.ndarray | None:
        """(stacks,) groups that are kept: the most worth within so many seconds.

        None if even the least takes longer.
        """
        if self.seconds(self.all) <= most:
            return self.all.copy()
        if self.seconds(self.least) > most:
            return None
        best, most_worth = self.least.copy(), -np.inf
        for start in (self.all, self.least):
            low, high = 0.0, self._highest_price()
            for _ in range(PRICES):
                price = (low + high) / 2
                kept = self.best_at(price, start)
                if self.seconds(kept) > most:
                    low = price
                    continue
                high = price
                worth = self.total(kept)
                if worth > most_worth:
                    best, most_worth = kept, worth
        return self._filled(best, most)

    def _highest_price(self) -> float:
        """A price at which every stack keeps its least."""
        worth = max(float(np.ptp(value)) for value in self.worth)
        steps = [np.diff(self._times(self.all, s)) for s in range(len(self.options))]
        rising = np.concatenate([step[step > 0] for step in steps] or [np.ones(1)])
        return 2 * worth / max(float(rising.min(initial=np.inf)), 1e-9)

    def _filled(self, kept: np.ndarray, most: float) -> np.ndarray:
        """Steps of one stack, or of two at once, that bring worth and stay within the time."""
        kept = kept.copy()
        while (move := self._best_move(kept, most)) is not None:
            for stack, place in move:
                kept[stack] = self.options[stack][place]
        return kept

    def _best_move(self, kept: np.ndarray, most: float) -> list[tuple[int, int]] | None:
        """The stacks that should keep another number, and the place of that in their options."""
        stacks = range(len(self.options))
        now = [int(np.searchsorted(row, k)) for row, k in zip(self.options, kept, strict=True)]
        times = [self._times(kept, stack) for stack in stacks]
        more = [times[s] - times[s][now[s]] for s in stacks]  # seconds, by option
        gain = [self.worth[s] - self.worth[s][now[s]] for s in stacks]
        room = most - self.seconds(kept)
        best, move = 1e-12 * max(abs(self.total(kept)), 1.0), None
        for first in stacks:
            if len(self.options[first]) < 2:
                continue
            near = {int(s) for term in self._of[first] for s in term.stacks} - {first}
            for one, count in enumerate(self.options[first]):
                if one == now[first]:
                    continue
                left = room - more[first][one]
                if left >= 0 and gain[first][one] > best:
                    best, move = float(gain[first][one]), [(first, one)]
                trial = kept.copy()
                trial[first] = count
                for stack in stacks:
                    if stack == first or len(self.options[stack]) < 2:
                        continue
                    costs = more[stack]
                    if stack in near:  # what it costs depends on the first
                        costs = self._times(trial, stack)
                        costs = costs - costs[now[stack]]
                    both = np.where(costs <= left, gain[stack] + gain[first][one], -np.inf)
                    place = int(np.argmax(both))
                    if both[place] > best:
                        best, move = float(both[place]), [(first, one), (stack, place)]
        return move
