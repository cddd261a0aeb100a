"""The ThiNet criterion (Luo et al., ICCV 2017): what the next layers would miss.

Section 3.2, algorithm 1: of a layer's channels, remove next the one with which the output of the
next layer changes least, given those already removed. The change is a quadratic form in what is
removed, so that one matrix of overlaps between channels (from the Gram matrix of real feature maps,
see `activations`) replaces the trials: a step costs O(C).

Departures: a channel that several convs read counts in all of them, each by its mean energy at a
position; tied BNs are one layer, their channels go together; all channels are ordered, not only the
share that is cut; and the scores are shares of the output's energy, so that layers can be compared.
As in the paper, of a residual block only the inner channels are cut (`residual="inner"`), and each
layer loses the same share (`spread="uniform"`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.pruning.activations import POSITIONS, filters, grams
from yolo_slim.pruning.criteria.units import Units
from yolo_slim.pruning.masks import Scores

STEP = 1e-12  # least difference between scores: above what a mean over tied channels rounds off


def thinet(model: nn.Module, graph: ChannelGraph, calibration: Calibration) -> Scores:
    """Score channels by the error that their removal leaves in the convs that read them.

    Args:
        model: left untouched.
        graph: its channel graph.
        calibration: images; positions on them are drawn from torch's generator.

    Returns:
        BN name to (C,) float64: the energy of the change of the next convs' outputs, once a channel
        and all of its layer that go before it are removed, as a share of the energy that the
        layer's channels bring there. It rises strictly in the order of removal; all 0 in a layer
        that nothing reads.
    """
    scores: Scores = {}
    seed, units = int(torch.randint(1 << 31, ())), Units(graph)
    for index, matrix in enumerate(overlaps(model, units, calibration, seed=seed)):
        order, energy = removal_order(matrix)
        value = np.empty(len(order))
        value[order] = shares(energy)
        scores |= units.scores(index, value)
    return scores


def removal_order(overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The greedy order of algorithm 1.

    Args:
        overlap: (C, C) symmetric, inner products of what each channel adds to the output.

    Returns:
        The channels in the order in which they go, (C,) int, and the energy of what is missing
        after each of them went, (C,).
    """
    count = len(overlap)
    order, energy = np.empty(count, dtype=int), np.empty(count)
    own, gone, missing = np.diag(overlap).copy(), np.zeros(count), 0.0
    for step in range(count):  # the energy of a + b is that of a, of b, and twice their product
        more = own + 2 * gone
        order[step] = channel = int(np.argmin(more))
        energy[step] = missing = max(missing + more[channel], 0.0)
        gone += overlap[channel]
        own[channel] = np.inf
    return order, energy


def shares(energy: np.ndarray) -> np.ndarray:
    """Energies in the order of removal as scores in [0, 1): shares of the highest of them.

    What is missing may shrink again when channels that cancel out have both gone; the scores never
    do: they rise strictly.
    """
    highest, count = np.maximum.accumulate(energy), len(energy)
    if not highest[-1:].any():
        return np.zeros(count)
    return highest / highest[-1] * (1 - STEP * count) + STEP * np.arange(count)


def overlaps(
    model: nn.Module,
    units: Units,
    calibration: Calibration,
    *,
    positions: int | None = POSITIONS,
    seed: int = 0,
) -> list[np.ndarray]:
    """For each unit (G, G): inner products of what its groups add to the outputs of their readers.

    They are means over positions, summed over the filters of all readers.
    """
    sums = [np.zeros((len(groups), len(groups))) for groups in units.groups]
    modules = dict(model.named_modules())
    for name, gram in grams(model, units.readers, calibration, positions=positions, seed=seed):
        products = column_overlap(modules[name], gram)
        for index, mine, place in units.read_by(name):
            np.add.at(sums[index], (place[:, None], place), products[np.ix_(mine, mine)])
    return sums


def column_overlap(conv: nn.Module, gram: torch.Tensor) -> np.ndarray:
    """(C_in, C_in): inner products of what the input channels of a conv add to its output."""
    weight = filters(conv)
    products = (weight.T @ weight).mul_(gram)
    channels = conv.in_features if isinstance(conv, nn.Linear) else conv.in_channels
    taps = len(gram) // channels
    return products.view(channels, taps, channels, taps).sum((1, 3)).numpy()
