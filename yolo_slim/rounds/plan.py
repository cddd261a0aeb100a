"""How a run is divided: trainings, and a cut after each but the last.

Each training has a learning-rate schedule of its own, with its warm-up. One schedule for all, with
the cuts in the middle of it, was tried: on blood cells (60 epochs, 45% of the MACs, a cut after 10)
it ended at mAP50-95 0.539 where a second warm-up ended at 0.560 (docs/results.md). The first
trainings are short: what counts is the time after the last cut. Sparse ones are not: gammas need
steps to come to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

EACH = 1 / 6  # of the epochs go to a training before a cut
MOST = 1 / 2  # of the epochs go to all of them


@dataclass(frozen=True)
class Leg:
    """A training.

    Attributes:
        epochs: of it.
        left: share of the first model's MACs that is left by the cut after it; None: there is none.
    """

    epochs: int
    left: float | None = None


def plan(epochs: int, rounds: int, macs: float, *, sparse: bool = False) -> tuple[Leg, ...]:
    """The trainings of a run.

    Args:
        epochs: of all of them, more than the rounds.
        rounds: how many cuts.
        macs: share of the MACs that is left in the end, (0, 1]; each cut leaves the same share of
            what was there.
        sparse: the trainings before the cuts get `MOST` of the epochs.
    """
    share = MOST / rounds
    each = max(int(epochs * share) if sparse else round(epochs * min(EACH, share)), 1)
    legs = [Leg(each, macs ** ((index + 1) / rounds)) for index in range(rounds)]
    return (*legs, Leg(epochs - rounds * each))
