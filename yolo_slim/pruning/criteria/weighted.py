"""What the loss rises by without the branch of a residual Bottleneck, in the unit of obs.

obs counts an error of a conv's output by the mean square of the loss's gradient there, half of
their sum being what the loss rises by (see `obs`). Here the error is what the convs that read the
sum miss without the branch, but for its mean, which is moved into them. Their weights are not
fitted: it is at least what obs would say. Where no conv of its layer reads the sum, the loss is
taken with the branch silent, which counts more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import Branch, ChannelGraph, ConvNode
from yolo_slim.pruning.criteria.missing import watch_branches
from yolo_slim.pruning.criteria.obs import output_weights
from yolo_slim.pruning.criteria.silenced import loss_rises


def weighted_errors(
    model: nn.Module, graph: ChannelGraph, calibration: Calibration, names: Sequence[str]
) -> dict[str, float]:
    """By what the loss of an image rises without each branch."""
    branches = [graph.branches[name] for name in names]
    readers = [n.name for n in graph.convs.values() if any(b.read_by(n) for b in branches)]
    with torch.enable_grad():
        counts = output_weights(model.requires_grad_(), readers, calibration)
    model.requires_grad_(False)
    moments: dict[tuple[str, str], torch.Tensor] = {}  # mean and mean square of each filter's error

    def read(branch: Branch, node: ConvNode, without: torch.Tensor, all_: torch.Tensor) -> None:
        errors = without.double()
        now = torch.stack([e.mean((2, 3)).sum(0) for e in (errors, errors.square())])
        key = branch.name, node.name
        moments[key] = moments.get(key, torch.zeros_like(now)) + now / calibration.images

    watch_branches(model, graph, calibration, names, read, lambda name, sent, output: None)
    lost: dict[str, float] = {}
    for (name, conv), (mean, square) in moments.items():
        rise = float(counts[conv] @ (square - mean.square()).clamp(min=0).cpu()) / 2
        lost[name] = lost.get(name, 0.0) + rise
    unread = [name for name in names if name not in lost]
    return lost | (loss_rises(model, graph, calibration, unread) if unread else {})
