"""Decaying L1 on BatchNorm weights and biases (Liu et al. 2017, Network Slimming, section 3).

At each optimizer step, to the gradient that the optimizer is about to use:

    gamma.grad += sr * decay * sign(gamma)        decay = 1 - 0.9 * progress
    beta.grad  += bias_sr * sign(beta)            bias_sr = 10 * sr

Channels that are cut together (tied by an add with residual="group", or by a depthwise conv) have a
group lasso in its place (Yuan & Lin 2006, eq. 3): for n tied gammas

    gamma.grad += sr * decay * sqrt(n) * gamma / norm of the n gammas

which is the same for n = 1, and as strong as it where the n are equal.

The paper penalises gamma alone and does not decay; both departures are those of the YOLOv5 pruners
that users come from. The penalty hangs on the optimizer, not on a training loop: it sees gradients
that are unscaled, clipped and all-reduced, and is not called when GradScaler skips a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph, Norm, Residual
from yolo_slim.channels.rules import channel_graph
from yolo_slim.errors import InputError
from yolo_slim.pruning.choose import kept_by


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
        keep: globs over BN and module names that are left out too.

    Raises:
        InputError: a glob matches nothing, a strength is negative or not finite, or the model has
            no prunable BN.
    """

    def __init__(
        self,
        model: nn.Module,
        sr: float = 2e-4,
        *,
        bias_sr: float | None = None,
        residual: Residual = "skip",
        keep: Sequence[str] = (),
    ) -> None:
        bias_sr = 10 * sr if bias_sr is None else bias_sr
        for name, value in (("sr", sr), ("bias_sr", bias_sr)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(name, value, "a finite number, 0 or more")
        modules = dict(model.named_modules())
        graph = channel_graph(model, residual)
        held = kept_by(graph, keep)
        norms = [norm for norm in graph.prunable if norm.name not in held]
        self.names = [norm.name for norm in norms]
        if not self.names:
            raise InputError("model", "no BatchNorm that may be pruned", "at least one")
        self.sr, self.bias_sr, self.progress = sr, bias_sr, 0.0
        self._norms = [modules[name] for name in self.names]
        self._handle: Any = None
        self._tied, self._group, self._root = tied_groups(graph, norms)

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
            norms = [(i, getattr(norm, attribute)) for i, norm in enumerate(self._norms)]
            norms = [(i, p) for i, p in norms if p.grad is not None]
            if not norms or not strength:
                continue
            ways = list(torch._foreach_sign([p for _, p in norms]))
            if attribute == "weight" and self._tied:
                self._tie_(dict(zip((i for i, _ in norms), ways, strict=True)))
            torch._foreach_add_([p.grad for _, p in norms], ways, alpha=strength)

    def _tie_(self, ways: dict[int, torch.Tensor]) -> None:
        """Put the group lasso's direction in the place of the sign, for tied BNs."""
        gamma = torch.cat([self._norms[i].weight for i in self._tied])
        group, root = self._group.to(gamma.device), self._root.to(gamma.device)
        square = torch.zeros_like(root).index_add_(0, group, gamma.square())
        scale = torch.where(square > 0, root / square.clamp_min(1e-30).sqrt(), 0.0)
        way = (gamma * scale[group]).split([len(self._norms[i].weight) for i in self._tied])
        for i, part in zip(self._tied, way, strict=True):
            if i in ways:
                ways[i].copy_(part)


def tied_groups(
    graph: ChannelGraph, norms: Sequence[Norm]
) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """The BNs with channels that are tied.

    Args:
        graph: of the model.
        norms: the BNs that are penalised.

    Returns:
        Their indices in `norms`; the group of each of their channels, joined: (channels,) int64,
        from 0; the root of each group's size: (groups,) float32.
    """
    size = np.bincount(graph.group, minlength=1)
    tied = [i for i, norm in enumerate(norms) if (size[graph.group[norm.ids]] > 1).any()]
    ids = np.concatenate([np.zeros(0, int), *(norms[i].ids for i in tied)])
    _, group, count = np.unique(graph.group[ids], return_inverse=True, return_counts=True)
    return tied, torch.from_numpy(group), torch.from_numpy(count).sqrt().float()
