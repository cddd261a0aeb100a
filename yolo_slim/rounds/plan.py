"""When a run cuts, and down to what: pure functions of the number of rounds.

A run that cuts in the middle keeps one learning-rate schedule: after a cut it goes on where it was,
with no second warm-up and no second start from a high rate (Zhu & Gupta 2017 cut while they train,
too). The model should know something before the first cut, but what counts is the time after the
last one: on blood cells, 60 epochs, a cut to 45% of the MACs after 10, 15, 30 and 40 of them ended
at mAP50-95 0.569, 0.554, 0.540 and 0.531 (docs/results.md).
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST, LAST = 0.1, 0.25  # share of the run before the first cut, and before the last one


@dataclass(frozen=True)
class Round:
    """One cut.

    Attributes:
        epoch: how many epochs the run has done when it comes.
        left: share of the first model's MACs that is left after it.
    """

    epoch: int
    left: float


def plan(epochs: int, rounds: int, macs: float) -> tuple[Round, ...]:
    """The cuts of a run.

    Args:
        epochs: of the whole run, more than the rounds.
        rounds: how many cuts; they are evenly spread from a tenth of the run to its quarter, one
            alone comes at a sixth.
        macs: share of the MACs that is left in the end, (0, 1]; each cut leaves the same share of
            what was there.

    Returns:
        The cuts in order, no two in the same epoch, none before the first epoch.
    """
    found, before = list[Round](), 0
    for index in range(rounds):
        place = (index + 0.5) / rounds if rounds < 3 else index / (rounds - 1)
        epoch = round(epochs * (FIRST + (LAST - FIRST) * place))
        epoch = min(max(epoch, before + 1), epochs - rounds + index)
        found.append(Round(epoch, macs ** ((index + 1) / rounds)))
        before = epoch
    return tuple(found)
