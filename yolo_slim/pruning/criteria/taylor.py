"""Taylor scores: what the loss would change by, to first order, if a channel were silenced.

Molchanov et al. 2019, section 3.1: the gate of a channel is its BN, so its importance is
(gamma * dL/dgamma + beta * dL/dbeta)^2, summed over the calibration batches: of one image each by
default, so that what images disagree on does not cancel out. Departure: BN works with its running
statistics, as the model that is cut does.

Scores of all layers are in one unit, that of the loss: they are compared as they are, by default
over the MACs that a channel takes.
"""

from __future__ import annotations

import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.pruning.masks import Scores


def taylor_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration) -> Scores:
    """(gamma * dL/dgamma + beta * dL/dbeta)^2, summed over batches.

    Raises:
        InputError: there is no loss to derive.
    """
    if calibration.loss is None:
        raise InputError("--criterion taylor", "calibration images without a loss", "a loss")
    if not graph.prunable:
        return {}
    norms = [model.get_submodule(n.name) for n in graph.prunable]
    gates = [parameter for norm in norms for parameter in (norm.weight, norm.bias)]
    model.requires_grad_(False)
    for gate in gates:  # of these alone the gradients are computed
        gate.requires_grad_()
    total = [torch.zeros_like(norm.weight, dtype=torch.float64) for norm in norms]
    for batch in tqdm(calibration.batches, desc="taylor", unit="batch", leave=False):
        loss = calibration.loss(model, batch)
        slopes = torch.autograd.grad(loss, gates, allow_unused=True, materialize_grads=True)
        pairs = zip(gates, slopes, strict=True)
        change = [(gate.detach() * slope).double() for gate, slope in pairs]
        for sums, weight, bias in zip(total, change[::2], change[1::2], strict=True):
            sums += (weight + bias) ** 2
    return {n.name: sums for n, sums in zip(graph.prunable, total, strict=True)}
