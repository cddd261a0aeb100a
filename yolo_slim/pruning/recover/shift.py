"""Where a constant that is added to a conv's output goes.

A conv with a bias takes it there. One without is followed by a BatchNorm (or pruning would not
know its outputs): adding s before that is subtracting s from its running mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import FREE, ChannelGraph
from yolo_slim.pruning.masks import keep_vector


class Shifts:
    """Constants for the outputs of the convs of a pruned model.

    Args:
        pruned: what `rebuild` made of a model, its graph and masks.
        model: the dense model.
        graph, masks: of that model.
    """

    def __init__(
        self,
        pruned: nn.Module,
        model: nn.Module,
        graph: ChannelGraph,
        masks: Mapping[str, torch.Tensor],
    ) -> None:
        self.graph, self.keep = graph, keep_vector(graph, masks)
        self.pruned, self.dense = dict(pruned.named_modules()), dict(model.named_modules())
        owner = np.repeat(np.arange(len(graph.norms)), [n.channels for n in graph.norms.values()])
        names, written = list(graph.norms), np.zeros(graph.channels, dtype=bool)
        self.norm_of: dict[str, str] = {}  # conv without a bias -> the BN right after it
        for node in graph.convs.values():
            ids = node.outputs
            # A conv whose output multiplies another map writes channels that are written already.
            if (ids == FREE).any() or written[ids].any():
                continue
            written[ids] = True
            owners = np.unique(owner[ids])
            # A BN without running statistics takes every constant away by itself.
            if len(owners) == 1 and self.dense[names[owners[0]]].running_mean is not None:
                self.norm_of[node.name] = names[owners[0]]

    def takes(self, name: str) -> bool:
        """True if the outputs of this conv can be shifted."""
        return self.pruned[name].bias is not None or name in self.norm_of

    @torch.no_grad()
    def set_(self, name: str, values: torch.Tensor) -> None:
        """Add values (kept filters,) to a conv's outputs, in place of what was added before."""
        now, at, then, sign = self._places(name)
        now[at] = (then + sign * values.to(then)).to(now)

    @torch.no_grad()
    def shift_of(self, name: str) -> torch.Tensor:
        """What is added to the outputs of a conv: (kept filters,) float64 on the CPU."""
        if not self.takes(name):
            return torch.zeros(int(self.keep[self.graph.convs[name].outputs].sum())).double()
        now, at, then, sign = self._places(name)
        return sign * (now[at].double() - then).cpu()

    def _places(self, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """The tensor that is changed, where, what stood there in the dense model, and the sign."""
        outputs = self.graph.convs[name].outputs
        if self.pruned[name].bias is not None:
            then = self.dense[name].bias[torch.from_numpy(self.keep[outputs])]
            return self.pruned[name].bias, torch.arange(len(then)), then.double(), 1
        norm = self.graph.norms[self.norm_of[name]]
        at = outputs[self.keep[outputs]] - norm.offset
        then = self.dense[norm.name].running_mean[torch.from_numpy(at)]
        place = torch.from_numpy(np.cumsum(self.keep[norm.ids])[at] - 1)
        return self.pruned[norm.name].running_mean, place, then.double(), -1
