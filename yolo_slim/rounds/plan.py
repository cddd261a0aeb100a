"""How a run is divided: trainings, and a cut after each but the last.

What begins with trained weights is cut before any training: all epochs are then those of the
small model, in one schedule, and nothing that was learned is forgotten in a second warm-up.
Random weights, and sparse trainings, are trained first. Each training has a schedule of its own.
Between two cuts a training is short: what counts is the time after the last one. Sparse trainings
are not: gammas need steps to come to zero. What was tried: docs/results.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EACH = 1 / 6  # of the epochs go to a training before a cut
MOST = 1 / 2  # of the epochs go to all of them

REPORT = "report.json"  # in the run's folder, once the run is finished


@dataclass(frozen=True)
class Leg:
    """A training.

    Attributes:
        epochs: of it; 0: the cut comes at once.
        left: share of the first model's MACs that is left by the cut after it; None: there is none.
    """

    epochs: int
    left: float | None = None


def cut_file(folder: Path, number: int) -> Path:
    """Where a run's model after a cut lies, counted from 1."""
    return folder / f"cut{number}.pt"


def plan(
    epochs: int, rounds: int, macs: float, *, sparse: bool = False, at_once: bool = False
) -> tuple[Leg, ...]:
    """The trainings of a run.

    Args:
        epochs: of all of them, one for each at least.
        rounds: how many cuts.
        macs: share of the MACs that is left in the end, (0, 1]; each cut leaves the same share of
            what was there.
        sparse: the trainings before the cuts get `MOST` of the epochs.
        at_once: the first cut comes before the first training.
    """
    share = MOST / rounds
    each = max(int(epochs * share) if sparse else round(epochs * min(EACH, share)), 1)
    before = [0 if at_once and index == 0 else each for index in range(rounds)]
    legs = [Leg(part, macs ** ((n + 1) / rounds)) for n, part in enumerate(before)]
    return (*legs, Leg(epochs - sum(before)))
