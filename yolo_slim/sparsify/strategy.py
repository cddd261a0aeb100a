"""What a sparsity penalty does at the steps of an optimizer: the form that all strategies have.

There are four: the L1 by its subgradient with a strength that is given (lasso.py) or follows a
schedule (pace.py), and soft thresholding with a strength that is given (proximal.py) or of those
channels alone that a cut would take (thinning.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.schedule import REACHED
from yolo_slim.sparsify.strengths import Method

Rates = Callable[[], torch.Tensor]  # how far a strength of 1 moves each gamma: () or (channels,)
WEAKER, WEAKER_SHARE = 0.3, 0.75  # of the strength, or of the share, is left after a failure


class Strategy(ABC):
    """A way to bring gammas to zero.

    Args:
        norms: the BNs.
        percent: share of the prunable channels that is to be cut.

    Attributes:
        method: l1 or prox.
        automatic: the strength follows a schedule; the penalty's sr is "auto".
        percent: the share that is aimed at now.
    """

    method: ClassVar[Method]
    automatic: ClassVar[bool]

    def __init__(self, norms: PrunableNorms, percent: float) -> None:
        self.norms, self.percent = norms, percent

    @abstractmethod
    def strength(self, progress: float) -> float:
        """The present strength on gamma; progress in [0, 1]."""

    @property
    def acts(self) -> bool:
        """False if no step would be changed."""
        return True

    @property
    def due(self) -> float | None:
        """How much of the way should be done by now, in [0, 1]; None if there is no schedule."""
        return None

    @property
    def arrived(self) -> bool:
        """True once all that is to be zero should be."""
        return False

    @property
    def leaves_zeros(self) -> bool:
        """True if this strategy sets gammas to exactly zero. The L1 never does."""
        return self.method == "prox"

    def before_step_(self, progress: float, rates: Rates) -> None:
        """What is due before the optimizer's step: gradients are there."""
        return

    def after_step_(self, progress: float, rates: Rates) -> None:
        """What is due after it."""
        return

    def follow(self, descent: Callable[[float], float]) -> None:
        """Go the way to zero as `schedule.descent` says, if there is a schedule."""
        return

    @abstractmethod
    def weaken_(self, times: int) -> str:
        """Be weaker after so many failures; returns how, in words."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a resumed training needs: entries of the penalty's state, plain values, tensors."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the penalty's state, which may be an older version's."""


class Fixed(Strategy):
    """A strategy whose strength is a number: it decays over the training, that on beta does not.

    Args:
        norms, percent: see `Strategy`.
        sr: strength on gamma, per optimizer step.
        bias_sr: strength on beta; 0: beta is not penalised by itself.
    """

    automatic = False

    def __init__(self, norms: PrunableNorms, percent: float, sr: float, bias_sr: float) -> None:
        super().__init__(norms, percent)
        self.sr, self.bias_sr, self.weaker = sr, bias_sr, 1.0

    def strength(self, progress: float) -> float:
        return self.sr * self.weaker * (1 - 0.9 * progress)

    @property
    def bias_strength(self) -> float:
        """The strength on beta."""
        return self.bias_sr * self.weaker

    @property
    def acts(self) -> bool:
        return bool(self.sr or self.bias_sr)

    def weaken_(self, times: int) -> str:
        self.weaker = WEAKER**times
        return f"with sr {self.sr * self.weaker:.3g}, and as much less on beta"

    def state(self) -> dict[str, Any]:
        return {"weaker": self.weaker}

    def load_state(self, state: dict[str, Any]) -> None:
        self.weaker = state["weaker"]


class Scheduled(Strategy):
    """A strategy that brings a share of the channels to zero by three quarters of a training.

    Attributes:
        asked: the share that was asked for; `percent` is less after a failure.
        descent: progress to the share of the way that should be done; see `schedule.descent`.
        gone: the share of the way that has been gone.
    """

    automatic = True

    def __init__(self, norms: PrunableNorms, percent: float) -> None:
        super().__init__(norms, percent)
        self.asked, self.gone = percent, 0.0
        self.descent: Callable[[float], float] = lambda progress: min(progress / REACHED, 1.0)

    @property
    def due(self) -> float:
        return self.gone

    @property
    def arrived(self) -> bool:
        return self.gone == 1

    def follow(self, descent: Callable[[float], float]) -> None:
        self.descent = descent

    def weaken_(self, times: int) -> str:
        self.aim_at_part_(WEAKER_SHARE**times)
        return f"aiming at {self.percent:.0%} of the channels"

    @abstractmethod
    def aim_at_part_(self, part: float) -> None:
        """Be content with a part of what was asked for, in (0, 1]."""
