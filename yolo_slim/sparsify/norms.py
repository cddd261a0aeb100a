"""The prunable BatchNorms of a model, their weights and biases side by side in one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.residual import Residual
from yolo_slim.channels.rules import channel_graph
from yolo_slim.errors import InputError
from yolo_slim.pruning.budget.globs import kept_by
from yolo_slim.sparsify.readiness import layer_median


class PrunableNorms:
    """Those BNs that a penalty acts on. A channel is a place in a vector (channels,).

    Args:
        model: a detector, or another model with a rule (see `channel_graph`).
        residual: see `channel_graph`.
        keep: globs over BN and module names that are left out.

    Attributes:
        graph: of the model.
        excluded: names of the BNs that `keep` leaves out.
        names, modules: the BNs; of those that share a gamma the first.
        sizes: channels of each.
        layer: (channels,) index of each channel's BN.
        unit: (channels,) median |gamma| of its BN when this was made: what near zero means.

    Raises:
        InputError: a glob matches nothing, or no BN is left.
    """

    def __init__(self, model: nn.Module, residual: Residual, keep: Sequence[str]) -> None:
        self.graph = channel_graph(model, residual)
        self.excluded = kept_by(self.graph, keep)
        norms = [norm for norm in self.graph.prunable if norm.name not in self.excluded]
        gammas = [model.get_submodule(norm.name).weight for norm in norms]  # a shared one is one
        first = {id(gamma): index for index, gamma in reversed([*enumerate(gammas)])}
        norms = [norms[index] for index in sorted(first.values())]
        if not norms:
            pins = self.graph.pins() or "the model has none"
            what = "left by --keep" if self.excluded else f"that may be pruned ({pins})"
            raise InputError("model", f"no BatchNorm {what}", "at least one")
        self.names = [norm.name for norm in norms]
        self.modules = [model.get_submodule(name) for name in self.names]
        self.sizes = [norm.channels for norm in norms]
        device = self.modules[0].weight.device
        self.layer = torch.repeat_interleave(torch.arange(len(norms)), torch.tensor(self.sizes)).to(
            device
        )
        self.unit = self.medians()
        self._ties(self.graph, [norm.ids for norm in norms])

    def _ties(self, graph: ChannelGraph, ids: list[np.ndarray]) -> None:
        """Which channels go together: `group` (channels,), and the `size` of each group."""
        groups = graph.group[np.concatenate(ids)]
        _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
        self.group = torch.from_numpy(group).to(self.layer.device)
        self.size = torch.from_numpy(size).to(self.unit)
        self.tied = bool((size > 1).any())

    @property
    def trained(self) -> list[bool]:
        """False for BNs that are frozen."""
        return [module.weight.requires_grad for module in self.modules]

    def flat(self, attribute: str) -> torch.Tensor:
        """ "weight" or "bias" of all channels: a copy, (channels,)."""
        return torch.cat([getattr(module, attribute).detach() for module in self.modules])

    def slopes(self, attribute: str) -> torch.Tensor:
        """The gradients of "weight" or "bias": a copy, (channels,), zeros where there is none."""
        parameters = [getattr(module, attribute) for module in self.modules]
        return torch.cat([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])

    @torch.no_grad()
    def scale_(self, attribute: str, factor: torch.Tensor) -> None:
        """Multiply "weight" or "bias" by (channels,); those of frozen BNs stay."""
        pairs = [
            (getattr(module, attribute), part)
            for module, part in zip(self.modules, factor.split(self.sizes), strict=True)
            if getattr(module, attribute).requires_grad
        ]
        if pairs:
            torch._foreach_mul_(*map(list, zip(*pairs, strict=True)))

    def medians(self) -> torch.Tensor:
        """(channels,) median |gamma| of each channel's BN; 1 where that is zero."""
        parts = self.flat("weight").split(self.sizes)
        return torch.stack([layer_median(part) for part in parts])[self.layer]

    def over_groups(self, values: torch.Tensor) -> torch.Tensor:
        """(channels,) the root mean square of |values| over the channels that go together."""
        if not self.tied:
            return values.abs()
        square = torch.zeros_like(self.size).index_add_(0, self.group, values.square())
        return (square / self.size).sqrt()[self.group]

    def by_name(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """BN name to its part of a vector (channels,)."""
        return dict(zip(self.names, values.split(self.sizes), strict=True))

    def joined(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The vector (channels,) of parts by BN name."""
        return torch.cat([parts[name].to(self.layer.device) for name in self.names])
