"""The sparsity penalty on BatchNorm weights and biases, for any training loop.

It hangs on the optimizer, not on a loop: it sees gradients that are unscaled, clipped and
all-reduced, counts once a step with accumulation, and is not called when GradScaler skips a step.
What it does there is in lasso.py (L1 by its subgradient, before the step), proximal.py (by soft
thresholding, after it) and thinning.py (sr = "auto").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.residual import Residual
from yolo_slim.errors import InputError
from yolo_slim.host.image import is_detector, smallest_image
from yolo_slim.pruning.budget.choose import DEFAULT, ROUND_TO, check_percent
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.targets import check_target
from yolo_slim.sparsify.lasso import add_l1_
from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.pace import Pace
from yolo_slim.sparsify.proximal import gain, shrink_, shrink_biases_
from yolo_slim.sparsify.thinning import Thinning

Method = Literal["l1", "prox"]
METHODS: tuple[Method, ...] = get_args(Method)
AUTO: Literal["auto"] = "auto"
WEAKER, WEAKER_SHARE = 0.3, 0.75  # of the strength, or the share, is left after a failure


class SparsityPenalty:
    """Drives gammas to zero.

        penalty = SparsityPenalty(model, percent=0.6).attach(optimizer)
        for epoch in range(epochs):
            penalty.progress = epoch / epochs      # or after each batch, which is smoother
            ...  # forward, backward, optimizer.step()

    Args:
        model: a YOLOv5 detector; the BNs of its residual Bottlenecks are left out (`residual`).
        sr: "auto": as strong as it takes to have `percent` of the channels at zero when three
            quarters of the training are over. A number: strength of the L1 on gamma, per optimizer
            step; 0 changes nothing, bit for bit.
        penalty: "prox", soft thresholding after the step, or "l1", its gradient before the step.
            None: "prox" with "auto", else "l1", the decaying L1 of network slimming.
        percent: share of the prunable channels that is to be cut, in [0, 1); with "auto".
        macs: share of the MACs that is to be left, in (0, 1], in place of a percent; with "auto"
            and "prox".
        bias_sr: strength on beta, which does not decay; 0 leaves beta alone. None: with "l1"
            10 * sr (sr itself with "auto"), with "prox" beta shrinks with its gamma.
        residual: see `channel_graph`.
        keep: globs over BN and module names that are left out too.
        round_to: what a layer keeps is a multiple of it where `prune` makes it so; with "auto".

    Attributes:
        progress: share of the training that is done, in [0, 1]; to be set as it goes.
        names: the BNs that are penalised.

    Raises:
        InputError: an argument is out of range, a glob matches nothing, or the model has no
            prunable BN.
    """

    def __init__(
        self,
        model: nn.Module,
        sr: float | Literal["auto"] = AUTO,
        *,
        penalty: Method | None = None,
        percent: float | None = None,
        macs: float | None = None,
        bias_sr: float | None = None,
        residual: Residual = "skip",
        keep: Sequence[str] = (),
        round_to: int = ROUND_TO,
    ) -> None:
        check_strengths(sr, bias_sr)
        if penalty not in (None, *METHODS):
            raise InputError("penalty", repr(penalty), " or ".join(METHODS))
        if isinstance(round_to, bool) or not isinstance(round_to, int) or round_to < 1:
            raise InputError("round_to", round_to, "1 or more")
        self.method: Method = penalty or ("prox" if sr == AUTO else "l1")
        if macs is not None:
            if percent is not None:
                raise InputError("--macs", "given besides --percent", "one target")
            if sr != AUTO or self.method != "prox":
                raise InputError("--macs", "given with another --sr or --penalty", "auto and prox")
            check_target("macs", macs)
        self.sr, self.bias_sr = sr, bias_sr
        self.percent = check_percent(DEFAULT if percent is None else percent)
        self.norms = PrunableNorms(model, residual, keep)
        self.names, self.progress, self.weaker = self.norms.names, 0.0, 1.0
        self._handles: list[Any] = []
        self.auto: Thinning | Pace | None = None
        if sr == AUTO and self.method == "prox":
            counted = None if macs is None else costs(model, self.norms.graph)
            self.auto = Thinning(
                self.norms, self.percent, round_to, bias_sr is None, macs=macs, counted=counted
            )
        elif sr == AUTO:
            self.auto = Pace(self.norms, self.percent)

    @property
    def strength(self) -> float:
        """The present strength: sr, decayed; with "auto" that of the last step.

        Of soft thresholding by "auto" it is the mean threshold of a step, in units of gamma.
        """
        if self.auto is not None:
            return float(self.auto.strength)
        return float(self.sr) * self.weaker * (1 - 0.9 * self.progress)

    @property
    def bias_strength(self) -> float:
        """The strength on beta that belongs to a number: it does not decay."""
        bias_sr = 10 * float(self.sr) if self.bias_sr is None else self.bias_sr
        return bias_sr * self.weaker

    @property
    def due(self) -> float | None:
        """How much of the way should be done by now, in [0, 1]; None for an sr that is a number."""
        return None if self.auto is None else self.auto.due

    @property
    def target(self) -> float:
        """Share of the channels that is to be cut: `percent`, or less after a failure; with `macs`
        what it comes to, by what is known so far."""
        return self.percent if self.auto is None else self.auto.percent

    @property
    def holds(self) -> bool:
        """True from the end of the way on, with "auto": what is zero is held at zero."""
        return self.auto is not None and self.auto.gone == 1

    def follow(self, descent: Callable[[float], float]) -> SparsityPenalty:
        """With "auto": go the way to zero as learning rates add up, see `schedule.descent`."""
        if self.auto is not None:
            self.auto.descent = descent
        return self

    def attach(self, optimizer: torch.optim.Optimizer) -> SparsityPenalty:
        """Act before and after each step of this optimizer, until `detach`."""
        self.detach()
        if self.auto is None and not self.sr and not self.bias_sr:
            return self
        groups = {id(p): i for i, g in enumerate(optimizer.param_groups) for p in g["params"]}
        if not any(id(norm.weight) in groups for norm in self.norms.modules):
            raise InputError("optimizer", "none of the model's BatchNorm weights", "some of them")
        self._groups = [groups.get(id(norm.weight), 0) for norm in self.norms.modules]
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self.before_step_(optimizer)),
            optimizer.register_step_post_hook(lambda *_: self.after_step_(optimizer)),
        ]
        return self

    def detach(self) -> None:
        """Take the penalty off its optimizer."""
        while self._handles:
            self._handles.pop().remove()

    @torch.no_grad()
    def before_step_(self, optimizer: torch.optim.Optimizer) -> None:
        """What is due before an optimizer's step: gradients are there."""
        if isinstance(self.auto, Thinning):
            self.auto.learn_()
        elif self.method == "l1":
            if isinstance(self.auto, Pace):
                sr = self.auto.set_(self.progress, float(self.rates(optimizer).max()))
                bias_sr = sr if self.bias_sr is None else self.bias_sr
            else:
                sr, bias_sr = self.strength, self.bias_strength
            add_l1_(self.norms, sr, bias_sr)

    @torch.no_grad()
    def after_step_(self, optimizer: torch.optim.Optimizer) -> None:
        """What is due after it."""
        if self.method == "l1":
            return
        if isinstance(self.auto, Thinning):
            self.auto.thin_(self.progress)
        elif self.sr:
            shrink_(self.norms, self.strength * self.rates(optimizer), self.bias_sr is None)
        if self.bias_sr:
            shrink_biases_(self.norms, self.bias_strength * self.rates(optimizer))

    def rates(self, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """How far a strength of 1 moves each gamma in a step: () or (channels,)."""
        groups = optimizer.param_groups  # other dicts after load_state_dict
        rates = [groups[i]["lr"] * gain(optimizer, groups[i]) for i in self._groups]
        if len(set(rates)) == 1:
            return torch.tensor(rates[0])
        return torch.tensor(rates, device=self.norms.layer.device)[self.norms.layer]

    @torch.no_grad()
    def silence_(self, other: nn.Module) -> None:
        """Zero in another copy of the model what is exactly zero in this one.

        A moving average comes to zero late: over 10,000 steps in YOLOv5. What is validated, saved
        and cut is the average.

        Args:
            other: the same model with other weights, such as YOLOv5's ema.
        """
        if self.method == "l1":  # which leaves nothing at zero: what is, was before
            return
        for name, norm in zip(self.names, self.norms.modules, strict=True):
            twin, gone = other.get_submodule(name), norm.weight == 0
            twin.weight[gone] = 0
            twin.bias[gone & (norm.bias == 0)] = 0

    def weaken_(self, times: int) -> str:
        """Be weaker after so many failures, and say how: a smaller sr, or share with "auto"."""
        if self.auto is not None:
            self.auto.ask_(WEAKER_SHARE**times)
            return f"aiming at {self.auto.percent:.0%} of the channels"
        self.weaker = WEAKER**times
        return f"with sr {float(self.sr) * self.weaker:.3g}, and as much less on beta"

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to go on: plain values and tensors."""
        auto = {} if self.auto is None else {"auto": self.auto.state()}
        return {**auto, "unit": self.norms.unit.cpu(), "names": self.names, "weaker": self.weaker}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        if not state:  # of a run that kept none
            return
        self.norms.unit = state["unit"].to(self.norms.unit.device)
        self.weaker = state["weaker"]
        if self.auto is not None:
            self.auto.load_state(state["auto"])


def costs(model: nn.Module, graph: ChannelGraph) -> MaskCost:
    """What its channels cost, for shares of the MACs, which are the same at any image size."""
    return MaskCost(model, graph, 64 if is_detector(model) else smallest_image(model)[1])


def check_strengths(sr: Any, bias_sr: Any, prefix: str = "") -> None:
    """Check what can be checked without a model; `prefix` is that of an option's name.

    Raises:
        InputError: sr is neither "auto" nor a finite number, 0 or more; or bias_sr is no such.
    """
    for name, value in (("sr", sr), ("bias_sr", bias_sr)):
        if value is None or (name == "sr" and value == AUTO):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (math.isfinite(value) and value >= 0):
            or_auto = ", or auto" if name == "sr" else ""
            option = f"{prefix}{name.replace('_', '-')}" if prefix else name
            raise InputError(option, value, f"a finite number, 0 or more{or_auto}")
