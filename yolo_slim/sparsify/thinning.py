"""sr = "auto": as many channels brought to zero as are to be cut, by three quarters of a run.

At each moment a known share of the channels should be on its way out, most of them early, the last
ones slowly: 1 - (1 - s)^3 (Zhu & Gupta 2017, section 3) where s is `schedule.descent`. Which ones,
prune.py's own budget says, with its rounding and its floors, so that what is zero in the end is
what it cuts. It goes by what they do for the loss, from gradients that are there anyway:

    score = mean over steps of (gamma * dL/dgamma + beta * dL/dbeta)^2

(Molchanov et al. 2019, section 3.1.) Those channels are soft-thresholded after each step. The
threshold follows from how far the largest of them still is from zero and how much of the way is
left; what the loss pulls back in a step makes the next one larger. Neither learning rate nor
optimizer is in it. The other channels are left alone: an L1 on all would shrink them too, and the
model with them (the trimmed L1 of Yun et al. 2019). From the end of the way on zeros are held.

Where it is MACs that count, those channels go whose score is small for the MACs that they take, as
many as leave the share that is wanted.
"""

from __future__ import annotations

from typing import Any

import torch

from yolo_slim.pruning.budget.choose import achieved, choose_masks
from yolo_slim.pruning.budget.goals import goal_of
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.spread import spending
from yolo_slim.pruning.budget.target import PERCENT, Target
from yolo_slim.pruning.masks import Masks
from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.proximal import shrink_, shrink_biases_
from yolo_slim.sparsify.strategy import Rates, Scheduled

PLANS = 25  # how often it is decided anew which channels go
FADE = 0.1  # part of the way in which a channel fades out
POWER = 3  # 1 would be a straight line; the larger, the earlier most channels go
SMOOTHING = 0.02  # weight of a step in the running mean of the scores


class Thinning(Scheduled):
    """Soft thresholding of those channels that a cut would take, and of no others.

    Args:
        norms: the BNs.
        target: the share of the prunable channels that is to be zero, those that are kept counted
            too; or the share of the MACs that is to be left.
        round_to: as in `prune`.
        bias_sr: strength on beta; None: beta falls with gamma.
        counted: what channels cost, for a target in MACs.

    Attributes:
        target: as given.
        percent: the share of the channels that it comes to, by the scores so far.
        part: of what is asked for, less than 1 after a failure.
        threshold: the mean threshold of the last step, in units of gamma.
        planned: share of the way at which the channels that go were last chosen; -1: not yet.
        score: (channels,) mean over steps, see the module.
        chosen: (channels,) True for those that are on their way to zero.
        zeroed: (channels,) True for those that are held at zero; None before the way has ended.
    """

    method = "prox"

    def __init__(
        self,
        norms: PrunableNorms,
        target: Target,
        round_to: int,
        bias_sr: float | None = None,
        counted: MaskCost | None = None,
    ) -> None:
        super().__init__(norms, target.value if target.name == "percent" else PERCENT)
        self.target = target
        self.round_to, self.bias_sr, self.with_gamma = round_to, bias_sr or 0.0, bias_sr is None
        self.part, self.counted = 1.0, counted
        self.spent = spending(norms.graph, counted) if counted else {}
        self.threshold: float | torch.Tensor = 0.0
        self.planned, self.steps = -1.0, 0
        self.score = torch.zeros_like(norms.unit, dtype=torch.float32)
        self.chosen = torch.zeros_like(norms.layer, dtype=torch.bool)
        self.zeroed: torch.Tensor | None = None
        self.aim_()

    def strength(self, progress: float) -> float:
        return float(self.threshold)

    @property
    def due(self) -> float:
        """How many of the channels that are to go should be at zero by now, in [0, 1]."""
        return max(self.gone - FADE, 0.0) / (1 - FADE)

    def before_step_(self, progress: float, rates: Rates) -> None:
        self.learn_()

    def after_step_(self, progress: float, rates: Rates) -> None:
        self.thin_(progress)
        if self.bias_sr:
            shrink_biases_(self.norms, self.bias_sr * rates())

    @torch.no_grad()
    def learn_(self) -> None:
        """Take in the gradients of a step, before the optimizer does."""
        if self.zeroed is not None:
            return
        norms = self.norms
        change = norms.flat("weight") * norms.slopes("weight")
        change += norms.flat("bias") * norms.slopes("bias")
        change = change.float().square().nan_to_num_(0.0, 0.0, 0.0)
        change /= change.sum().clamp_min(1e-30)  # a step counts as much as another
        self.steps += 1
        self.score.lerp_(change, max(SMOOTHING, 1 / self.steps))

    @torch.no_grad()
    def thin_(self, progress: float) -> None:
        """Bring the chosen channels nearer to zero, after the optimizer's step."""
        if self.zeroed is None:
            before = self.gone
            self.gone = max(before, 1 - (1 - self.descent(progress)) ** POWER)
            if self.gone - self.planned >= 1 / PLANS or (self.gone == 1 > self.planned):
                self.plan_()
            if self.gone > before:
                part = (self.gone - before) / max(min(FADE, 1 - before), self.gone - before)
                size = self.norms.over_groups(self.norms.flat("weight"))
                far = torch.where(self.chosen, size / self.norms.unit, 0.0).max()
                threshold = torch.where(self.chosen, part * far * self.norms.unit, 0.0)
                shrink_(self.norms, threshold, self.with_gamma)
                self.threshold = threshold.mean()
            if self.gone == 1:
                self.zeroed = self.chosen
        if self.zeroed is not None:
            alive = (~self.zeroed).to(self.norms.unit)
            self.norms.scale_("weight", alive)
            if self.with_gamma:
                self.norms.scale_("bias", alive)
            self.threshold = 0.0

    def plan_(self) -> None:
        """Decide which channels go: those that prune.py would cut, of as many as are due."""
        self.planned = self.gone
        self.aim_()
        self.chosen = ~self.norms.joined(self.masks(min(self.gone / (1 - FADE), 1.0)))

    def aim_(self) -> None:
        """Find the share of the channels that all of it comes to."""
        self.percent = self.asked * self.part
        if self.target.name == "macs" and any(self.norms.trained):
            self.percent = achieved(self.norms.graph, self.masks())

    def aim_at_part_(self, part: float) -> None:
        if part != self.part:
            # More channels than the new part asks for may be held at zero: they are chosen anew.
            self.part, self.planned, self.zeroed = part, -1.0, None
            self.aim_()

    def masks(self, part: float = 1.0, round_to: int | None = None) -> Masks:
        """What prune.py would cut of the model by the scores so far.

        Args:
            part: of all that is to go, in [0, 1].
            round_to: in place of its own.

        Raises:
            InputError: less than this can be cut, see `choose_masks`.
        """
        norms, part = self.norms, part * self.part
        scores = {n.name: torch.zeros(n.channels) for n in norms.graph.prunable}
        scores |= norms.by_name(self.score.cpu())
        round_to = round_to or self.round_to
        if self.spent:
            scores = {name: score / self.spent[name] for name, score in scores.items()}
        goal = goal_of(self.target.part(part), norms.graph, self.counted, round_to)
        return choose_masks(norms.graph, scores, goal, keep=self.fixed(), round_to=round_to)

    def fixed(self) -> set[str]:
        """BNs that cannot be thinned: those that are kept, and frozen ones."""
        frozen = {
            n for n, free in zip(self.norms.names, self.norms.trained, strict=True) if not free
        }
        return self.norms.excluded | frozen

    def state(self) -> dict[str, Any]:
        kept = {"gone": self.gone, "planned": self.planned, "steps": self.steps}
        kept |= {
            "percent": self.percent,
            "part": self.part,
            "score": self.score.cpu(),
            "chosen": self.chosen.cpu(),
        }
        return {"auto": {**kept, "held": self.zeroed is not None}}

    def load_state(self, state: dict[str, Any]) -> None:
        kept, device = state["auto"], self.norms.unit.device
        self.gone, self.planned = kept["gone"], kept["planned"]
        self.steps, self.percent = kept["steps"], kept["percent"]
        self.part = kept["part"] if "part" in kept else self.percent / max(self.asked, 1e-9)
        self.score, self.chosen = kept["score"].to(device), kept["chosen"].to(device)
        self.zeroed = self.chosen if kept["held"] else None
