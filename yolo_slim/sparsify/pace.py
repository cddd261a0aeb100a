"""sr = "auto" for the L1 by its subgradient: a strength that keeps gamma on its way to zero.

The quantile of |gamma| that is to be cut should fall from where it began to zero, as
`schedule.descent` says. The strength is what closes the gap between the two within a few steps, if
the optimizer turns it into a step of learning rate times strength: SGD does; Adam does not, whose
steps hardly depend on it. Then it may come too late, which thinning.py does not.
"""

from __future__ import annotations

from typing import Any

from yolo_slim.sparsify.lasso import add_l1_
from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.strategy import Rates, Scheduled

STEPS = 10  # in which the gap is to close


class PacedL1(Scheduled):
    """An L1 that is as strong as the schedule asks for.

    Args:
        norms: the BNs.
        percent: the quantile, a share of the channels.
        bias_sr: strength on beta; None: that on gamma.

    Attributes:
        sr: the strength of the last step.
        start: the quantile of |gamma| when this was made.
    """

    method = "l1"

    def __init__(self, norms: PrunableNorms, percent: float, bias_sr: float | None = None) -> None:
        super().__init__(norms, percent)
        self.bias_sr, self.sr, self.start = bias_sr, 0.0, self.quantile()

    def strength(self, progress: float) -> float:
        return self.sr

    def quantile(self) -> float:
        """|gamma| that `percent` of the channels are under; 0 if that is none of them."""
        size = self.norms.over_groups(self.norms.flat("weight"))
        count = round(self.percent * len(size))
        return size.kthvalue(count).values.item() if count else 0.0

    def before_step_(self, progress: float, rates: Rates) -> None:
        sr = self.set_(progress, float(rates().max()))
        add_l1_(self.norms, sr, sr if self.bias_sr is None else self.bias_sr)

    def set_(self, progress: float, rate: float) -> float:
        """Choose the strength of the next step.

        Args:
            progress: share of the training that is done.
            rate: how far a strength of 1 moves a gamma in a step.
        """
        self.gone = max(self.gone, self.descent(progress))
        gap = self.quantile() - (1 - self.gone) * self.start
        self.sr = max(gap, 0.0) / (STEPS * rate) if rate > 0 else 0.0
        return self.sr

    def aim_at_part_(self, part: float) -> None:
        self.percent = self.asked * part

    def state(self) -> dict[str, Any]:
        return {"auto": {"gone": self.gone, "start": self.start, "percent": self.percent}}

    def load_state(self, state: dict[str, Any]) -> None:
        kept = state["auto"]
        self.gone, self.start, self.percent = kept["gone"], kept["start"], kept["percent"]
