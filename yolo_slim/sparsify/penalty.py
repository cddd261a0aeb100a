"""Decaying L1 on BatchNorm weights and biases (Liu et al. 2017, Network Slimming, section 3).

At each optimizer step, to the gradient that the optimizer is about to use:

    gamma.grad += sr * decay * sign(gamma)        decay = 1 - 0.9 * progress
    beta.grad  += bias_sr * sign(beta)            bias_sr = 10 * sr

The paper penalises gamma alone and does not decay; both departures are those of the YOLOv5 pruners
that users come from. The penalty hangs on the optimizer, not on a training loop: it sees gradients
that are unscaled, clipped and all-reduced, and is not called when GradScaler skips a step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from yolo_slim.channels.graph import Residual
from yolo_slim.channels.rules import channel_graph
from yolo_slim.errors import InputError


class SparsityPenalty:
    """The L1 penalty, for any training loop.

        penalty = SparsityPenalty(model, sr=2e-4).attach(optimizer)
        for epoch in range(epochs):
            penalty.progress = epoch / epochs
            ...  # forward, backward, optimizer.step()

    Args:
        model: a YOLOv5 detector; the BNs of its residual Bottlenecks are left out (`residual`).
        sr: strength of the L1 on gamma, per optimizer step. 0 changes nothing, bit for bit.
        bias_sr: strength on beta, which does not decay; None: 10 * sr.
        residual: see `channel_graph`.

    Raises:
        InputError: a strength is negative or not finite, or the model has no prunable BN.
    """

    def __init__(
        self,
        model: nn.Module,
        sr: float = 2e-4,
        *,
        bias_sr: float | None = None,
        residual: Residual = "skip",
    ) -> None:
        bias_sr = 10 * sr if bias_sr is None else bias_sr
        for name, value in (("sr", sr), ("bias_sr", bias_sr)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(name, value, "a finite number, 0 or more")
        modules = dict(model.named_modules())
        self.names = [norm.name for norm in channel_graph(model, residual).prunable]
        if not self.names:
            raise InputError("model", "no BatchNorm that may be pruned", "at least one")
        self.sr, self.bias_sr, self.progress = sr, bias_sr, 0.0
        self._norms = [modules[name] for name in self.names]
        self._handle: Any = None

    @property
    def strength(self) -> float:
        """The present strength on gamma: sr, decayed by progress."""
        return self.sr * (1 - 0.9 * self.progress)

    def attach(self, optimizer: torch.optim.Optimizer) -> SparsityPenalty:
        """Add the penalty's gradient before each step of this optimizer, until `detach`."""
        self.detach()
        if self.sr or self.bias_sr:
            self._handle = optimizer.register_step_pre_hook(lambda *_: self.add_to_gradients_())
        return self

    def detach(self) -> None:
        """Take the penalty off its optimizer."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @torch.no_grad()
    def add_to_gradients_(self) -> None:
        """Add the penalty's gradient to the .grad of each BN; frozen ones are left."""
        for attribute, strength in (("weight", self.strength), ("bias", self.bias_sr)):
            params = [getattr(norm, attribute) for norm in self._norms]
            params = [p for p in params if p.grad is not None]
            if params and strength:
                signs = torch._foreach_sign(params)
                torch._foreach_add_([p.grad for p in params], signs, alpha=strength)
