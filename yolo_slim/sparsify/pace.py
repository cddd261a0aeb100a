"""sr = "auto" for the L1 by its subgradient: a strength that keeps gamma on its way to zero.

The quantile of |gamma| that is to be cut should fall from where it began to zero, as
`schedule.descent` says. The strength is what closes the gap between the two within a few steps, if
the optimizer turns it into a step of learning rate times strength: SGD does; Adam does not, whose
steps hardly depend on it. Then it may come too late, which thinning.py does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.schedule import REACHED

STEPS = 10  # in which the gap is to close


class Pace:
    """The state of it.

    Args:
        norms: the BNs.
        percent: the quantile, a share of the channels.

    Attributes:
        descent: share of the way, from progress; to be set by who knows the learning rates.
        strength: the sr of the last step.
    """

    def __init__(self, norms: PrunableNorms, percent: float) -> None:
        self.norms, self.percent, self.asked = norms, percent, percent
        self.descent: Callable[[float], float] = lambda progress: min(progress / REACHED, 1.0)
        self.strength, self.gone, self.start = 0.0, 0.0, self.quantile()

    @property
    def due(self) -> float:
        """How much of the way to zero should be done by now, in [0, 1]."""
        return self.gone

    def quantile(self) -> float:
        """|gamma| that `percent` of the channels are under; 0 if that is none of them."""
        size = self.norms.over_groups(self.norms.flat("weight"))
        count = round(self.percent * len(size))
        return size.kthvalue(count).values.item() if count else 0.0

    def set_(self, progress: float, rate: float) -> float:
        """Choose the strength of the next step.

        Args:
            progress: share of the training that is done.
            rate: how far a strength of 1 moves a gamma in a step.
        """
        self.gone = max(self.gone, self.descent(progress))
        gap = self.quantile() - (1 - self.gone) * self.start
        self.strength = max(gap, 0.0) / (STEPS * rate) if rate > 0 else 0.0
        return self.strength

    def ask_(self, part: float) -> None:
        """Be content with a part of what was asked for, in (0, 1]."""
        self.percent = self.asked * part

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to go on."""
        return {"gone": self.gone, "start": self.start, "percent": self.percent}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.gone, self.start, self.percent = state["gone"], state["start"], state["percent"]
