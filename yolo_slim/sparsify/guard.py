"""Sees that a sparse training does not come to nothing: NaN, or an mAP that the penalty destroys.

What it finds sends the run back to its last good epoch, with a weaker penalty. An mAP that falls
again with that penalty may come back by itself, and the penalty may not be its cause: the run goes
on, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

FALLEN = 0.5  # of the best mAP50: below it a model is taken to be broken
LEAST = 0.05  # best mAP50 before which a fall says nothing
TWICE = 2  # epochs on end that a fall has to last: mAP of one epoch may be an accident
TRIES = 3  # times that a run goes back
SOON = 4  # epochs after going back in which a fall is still the same one


class Guard:
    """What it remembers of a run.

    Args:
        warmup: epochs at the start in which a fall is no failure.
        settled: epochs at the start whose mAP is not yet what later ones are measured by: while the
            learning rate rises it jumps about, with no penalty too.

    Attributes:
        best: the best mAP50 so far.
        low: epochs on end, up to the last one, with less than half of it.
        borne: such a fall has been warned of, and is not over.
    """

    def __init__(self, warmup: float, settled: float = 0.0) -> None:
        self.warmup, self.settled, self.best, self.low = warmup, settled, 0.0, 0
        self.borne = False

    @staticmethod
    def numbers(losses: tuple[float, ...]) -> str:
        """What is wrong with losses; nothing if all are finite."""
        wrong = [value for value in losses if not math.isfinite(value)]
        return f"the loss is {wrong[0]}" if wrong else ""

    @staticmethod
    def gammas(gamma: torch.Tensor) -> str:
        """What is wrong with gammas (channels,); nothing if all are finite."""
        count = int((~torch.isfinite(gamma)).sum())
        return f"{count} of {len(gamma)} gammas are NaN or Inf" if count else ""

    def accuracy(self, epoch: int, map50: float, acts: bool) -> str:
        """What is wrong with an epoch's mAP50; nothing if it is as ever.

        Args:
            epoch: counted from 0.
            map50: after it.
            acts: the penalty moves gammas; a fall is laid to it then alone.

        Returns:
            What is wrong; nothing while the fall is borne.
        """
        fallen = acts and self.best >= LEAST and map50 < FALLEN * self.best
        self.low = self.low + 1 if fallen else 0
        self.borne = self.borne and fallen
        if epoch >= self.settled:
            self.best = max(self.best, map50)
        if self.low < TWICE or epoch < self.warmup or self.borne:
            return ""
        return f"mAP50 fell to {map50:.3f}, under half of its best, {self.best:.3f}"

    def goes_on(self, epoch: int, backs: Sequence[int]) -> bool:
        """Whether going back once more for a fall of mAP would not help.

        Args:
            epoch: that was found wrong, counted from 0.
            backs: the epochs behind which the run has gone on; -1: from the start.
        """
        same = bool(backs) and epoch <= max(backs[-1] + SOON, self.warmup)
        return same or len(backs) >= TRIES

    @property
    def doubts(self) -> bool:
        """Whether the last epoch is none to go back to."""
        return self.low > 0 and not self.borne

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to go on."""
        return {"best": self.best, "low": self.low, "borne": self.borne}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.best, self.low = state.get("best", 0.0), state.get("low", 0)
        self.borne = state.get("borne", False)
