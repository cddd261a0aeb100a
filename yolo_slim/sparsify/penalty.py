"""The sparsity penalty on BatchNorm weights and biases, for any training loop.

It hangs on the optimizer, not on a loop: it sees gradients that are unscaled, clipped and
all-reduced, counts once a step with accumulation, and is not called when GradScaler skips a step.
What it does there is one of four strategies, see strategy.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.residual import Residual
from yolo_slim.errors import InputError, as_arguments, as_python, check_count
from yolo_slim.host.image import check_model, is_detector, smallest_image
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.target import PERCENT, ROUND_TO, Target
from yolo_slim.sparsify.lasso import FixedL1
from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.pace import PacedL1
from yolo_slim.sparsify.proximal import FixedProx
from yolo_slim.sparsify.schedule import gain
from yolo_slim.sparsify.strategy import Strategy
from yolo_slim.sparsify.strengths import AUTO, METHODS, Method, check_macs, check_strengths
from yolo_slim.sparsify.thinning import Thinning


class SparsityPenalty:
    """Drives gammas to zero.

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
        strategy: what is done at each step.
        names: the BNs that are penalised.

    Raises:
        InputError: an argument is out of range, a glob matches nothing, or the model has no
            prunable BN.

    Example:
        >>> import torch
        >>> from yolo_slim import SparsityPenalty
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> penalty = SparsityPenalty(model, percent=0.6).attach(optimizer)
        >>> for step in range(8):  # of a training loop: forward, backward, then
        ...     penalty.progress = step / 8
        ...     optimizer.step()
        >>> penalty.holds, round(float((penalty.norms.flat("weight") == 0).float().mean()), 1)
        (True, 0.6)
    """

    @as_arguments()
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
        sr, bias_sr = as_python(sr), as_python(bias_sr)
        check_strengths("None" if sr is None else sr, bias_sr)
        if penalty is not None and not (isinstance(penalty, str) and penalty in METHODS):
            raise InputError("penalty", repr(penalty)[:80], " or ".join(METHODS))
        round_to = check_count("round_to", round_to)
        method: Method = penalty or ("prox" if sr == AUTO else "l1")
        target = Target.of(percent=percent, macs=macs)
        if sr == AUTO and target.name == "percent" and not target.value:
            raise InputError(target.option, percent, "a share in (0, 1): 0 brings nothing to zero")
        check_macs(macs, sr, penalty)
        percent = target.value if target.name == "percent" else PERCENT
        self.sr, self.bias_sr = sr, bias_sr
        check_model(model)
        self.norms = PrunableNorms(model, residual, keep)
        self.names, self.progress = self.norms.names, 0.0
        self._handles: list[Any] = []
        self.strategy: Strategy
        if sr != AUTO and method == "l1":
            beta = 10 * sr if bias_sr is None else bias_sr
            self.strategy = FixedL1(self.norms, percent, sr, beta)
        elif sr != AUTO:
            self.strategy = FixedProx(self.norms, percent, sr, bias_sr)
        elif method == "l1":
            self.strategy = PacedL1(self.norms, percent, bias_sr)
        else:
            counted = None if macs is None else channel_costs(model, self.norms.graph)
            self.strategy = Thinning(self.norms, target, round_to, bias_sr, counted)

    @property
    def strength(self) -> float:
        """The present strength: sr, decayed; with "auto" that of the last step.

        Of soft thresholding by "auto" it is the mean threshold of a step, in units of gamma.
        """
        return self.strategy.strength(self.progress)

    @property
    def due(self) -> float | None:
        """How much of the way should be done by now, in [0, 1]; None for an sr that is a number."""
        return self.strategy.due

    @property
    def target(self) -> float:
        """Share of the channels that is to be cut: `percent`, or less after a failure; with `macs`
        what it comes to, by what is known so far."""
        return self.strategy.percent

    @property
    def holds(self) -> bool:
        """True from the end of the way on, with "auto": what is zero is held at zero."""
        return self.strategy.arrived

    def follow(self, descent: Callable[[float], float]) -> SparsityPenalty:
        """With "auto": go the way to zero as learning rates add up, see `schedule.descent`."""
        self.strategy.follow(descent)
        return self

    def attach(self, optimizer: torch.optim.Optimizer) -> SparsityPenalty:
        """Act before and after each step of this optimizer, until `detach`."""
        self.detach()
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError("optimizer", f"{optimizer!r:.80}", "a torch.optim.Optimizer")
        if not self.strategy.acts:
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
        self.strategy.before_step_(self.progress, lambda: self.rates(optimizer))

    @torch.no_grad()
    def after_step_(self, optimizer: torch.optim.Optimizer) -> None:
        """What is due after it."""
        self.strategy.after_step_(self.progress, lambda: self.rates(optimizer))

    def rates(self, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """How far a strength of 1 moves each gamma in a step: () or (channels,)."""
        kind = "SGD" if isinstance(optimizer, torch.optim.SGD) else type(optimizer).__name__
        groups = optimizer.param_groups  # other dicts after load_state_dict
        rates = [groups[i]["lr"] * gain(kind, groups[i].get("momentum", 0.0)) for i in self._groups]
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
        if not self.strategy.leaves_zeros:
            return
        for name, norm in zip(self.names, self.norms.modules, strict=True):
            twin, gone = other.get_submodule(name), norm.weight == 0
            twin.weight[gone] = 0
            twin.bias[gone & (norm.bias == 0)] = 0

    def weaken_(self, times: int) -> str:
        """Be weaker after so many failures, and say how: a smaller sr, or share with "auto"."""
        return self.strategy.weaken_(times)

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to go on: plain values and tensors."""
        own = {"unit": self.norms.unit.cpu(), "names": self.names}
        return {**own, **self.strategy.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        if not state:  # of a run that kept none
            return
        self.norms.unit = state["unit"].to(self.norms.unit.device)
        self.strategy.load_state(state)


def channel_costs(model: nn.Module, graph: ChannelGraph) -> MaskCost:
    """What its channels cost, for shares of the MACs, which are the same at any image size."""
    return MaskCost(model, graph, 64 if is_detector(model) else smallest_image(model)[1])
