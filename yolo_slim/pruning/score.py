"""How much each channel matters."""

from __future__ import annotations

import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph


def bn_scores(model: nn.Module, graph: ChannelGraph) -> dict[str, torch.Tensor]:
    """|gamma|, the criterion of network slimming (Liu et al. 2017, section 3).

    Returns:
        BN name to scores (C,), for the prunable BNs.
    """
    modules = dict(model.named_modules())
    return {n.name: modules[n.name].weight.detach().float().cpu().abs() for n in graph.prunable}
