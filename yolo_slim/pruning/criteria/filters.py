"""Scores from the weights of convs: of those that write a channel, and of those that read it.

l1 and l2: the norm of a channel's filter (Li et al. 2017, section 3.1). next-l2: the Frobenius norm
of what the next convs read the channel with, their weights over the dims (0, 2, 3), as in lab 1 of
MIT 6.5940. Departures: a channel that several convs read, or one conv several times (SPPF, Focus,
Concat), has the norm of all these weights together; each layer's scores are divided by their mean,
so that layers can be compared.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.pruning.masks import Scores


def l1_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """Sum of |w| of the filter that writes the channel."""
    return weight_norms(model, graph, "outputs", 1)


def l2_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """L2 norm of the filter that writes the channel."""
    return weight_norms(model, graph, "outputs", 2)


def next_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """L2 norm of all weights that the channel is read with."""
    return weight_norms(model, graph, "inputs", 2)


def weight_norms(
    model: nn.Module, graph: ChannelGraph, side: Literal["inputs", "outputs"], p: int
) -> Scores:
    """Norms of the weights that belong to each channel.

    Args:
        model, graph: the model and its graph.
        side: "outputs": of the convs that write it; "inputs": of those that read it.
        p: of the norm.

    Returns:
        BN name to (C,), float64. A channel that has no such conv itself (a BN on its own, a branch
        that is read after an add only) has the mean of the channels that it goes with.
    """
    total, seen = np.zeros(graph.channels + 1), np.zeros(graph.channels + 1)  # last: FREE, -1
    for node in graph.convs.values():
        conv = model.get_submodule(node.name)
        if not node.depthwise and getattr(conv, "groups", 1) > 1:
            continue  # all its channels are pinned
        weight = conv.weight.detach().double().cpu().abs() ** p
        first = node.depthwise or (side == "outputs") != getattr(conv, "transposed", False)
        weight = weight if first else weight.transpose(0, 1)
        ids = getattr(node, side)
        np.add.at(total, ids, weight.flatten(1).sum(1).numpy())
        seen[ids] = 1
    norm, known = total[:-1] ** (1 / p), seen[:-1]
    members = np.maximum(np.bincount(graph.group, known), 1)
    mean = np.bincount(graph.group, norm) / members
    value = torch.from_numpy(np.where(known, norm, mean[graph.group]))
    return {n.name: value[n.offset : n.offset + n.channels] for n in graph.prunable}
