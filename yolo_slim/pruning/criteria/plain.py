"""Criteria that need one line: the gammas, chance, and the order of the channels."""

from __future__ import annotations

import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.pruning.masks import Masks, Scores


def bn_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """|gamma|, the criterion of network slimming (Liu et al. 2017, section 3)."""
    return {n.name: model.get_submodule(n.name).weight.abs() for n in graph.prunable}


def loud_share(model: nn.Module, masks: Masks) -> float:
    """Of the channels that masks cut, the share whose |gamma| is more than a tenth of the largest
    of their layer: next to none after a sparse training.
    """
    loud = gone = 0
    for name, mask in masks.items():
        gamma = model.get_submodule(name).weight.detach().abs().cpu()
        loud += int((gamma[~mask] > 0.1 * gamma.max()).sum())
        gone += int((~mask).sum())
    return loud / max(gone, 1)


def random_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """Uniform in [0, 1)."""
    return {n.name: torch.rand(n.channels) for n in graph.prunable}


def first_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """Falls evenly from 1 with the index: the first channels of each layer are kept."""
    return {n.name: 1 - torch.arange(n.channels) / n.channels for n in graph.prunable}
