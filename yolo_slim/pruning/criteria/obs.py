"""The OBS criterion: what the next layers would miss once their other weights have made up for it.

Hassibi & Stork 1993 (optimal brain surgeon), for whole channels and layer by layer as in Frantar &
Alistarh 2022 (OBC): a conv that loses the columns B of its inputs, and whose other weights are then
fitted by least squares, is off by

    trace(W_B (H_BB)^-1 W_B'),  H = (covariance of what it reads)^-1

and its weights and H change in closed form. So channels that others can stand in for go first,
which suits a cut after which the weights are fitted (`--recover weights`).

The errors of a conv's outputs are weighted by the mean square of the loss's gradient there
(the diagonal of the Fisher information, Theis et al. 2018): half of their sum is what the loss
rises by, to second order, so that layers can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.pruning.activations import filters, grams
from yolo_slim.pruning.criteria.units import Units
from yolo_slim.pruning.masks import Scores

POSITIONS = 256
RIDGE = 1e-2  # in units of the mean variance of a column
STEPS = 32  # channels of a unit go in about so many steps
STEP = 1e-12


@dataclass
class Reader:
    """A conv that reads a unit, as channels go.

    Attributes:
        weight: (filters, columns), rows scaled by the root of what their errors count.
        inverse: (columns, columns).
        columns: (groups, b) those of each group; all read a unit's groups equally often.
        places: (groups,) which groups of the unit it reads.
    """

    weight: torch.Tensor
    inverse: torch.Tensor
    columns: torch.Tensor
    places: torch.Tensor

    def errors(self) -> torch.Tensor:
        """(groups,) by how much the error of the outputs rises when one group goes."""
        block = self.inverse[self.columns[:, :, None], self.columns[:, None]]
        rows = self.weight[:, self.columns].movedim(1, 0)  # (groups, filters, b)
        solved = torch.linalg.solve(block, rows.transpose(1, 2))
        return (rows.transpose(1, 2) * solved).sum((1, 2)).clamp(min=0)

    def remove_(self, groups: torch.Tensor) -> None:
        """Fit the other columns to make up for groups (places in `columns`)."""
        gone = self.columns[groups].flatten()
        half = torch.linalg.solve(self.inverse[gone[:, None], gone], self.inverse[gone])
        self.weight -= self.weight[:, gone] @ half
        self.inverse -= self.inverse[:, gone] @ half
        self.inverse[gone, gone] = 1.0  # never looked at again; keeps the blocks solvable
        self.weight[:, gone] = 0


def obs(model: nn.Module, graph: ChannelGraph, calibration: Calibration) -> Scores:
    """Score channels by what the loss rises by when they go and the weights are fitted.

    Args:
        model: gradients are taken in it.
        graph: its channel graph.
        calibration: images and a loss; positions on them are drawn from torch's generator.

    Returns:
        BN name to (C,) float64: by what the loss of an image rises when this channel goes after all
        of its layer that go before it. It rises strictly in the order of removal.

    Raises:
        InputError: there is no loss to derive.
    """
    seed, units = int(torch.randint(1 << 31, ())), Units(graph)
    counts = output_weights(model, units.readers, calibration)
    readers: list[list[Reader]] = [[] for _ in units.norms]
    covariances = grams(
        model, units.readers, calibration, positions=POSITIONS, seed=seed, centred=True
    )
    for name, covariance in covariances:
        conv, inputs = model.get_submodule(name), len(graph.convs[name].inputs)
        weight, inverse = scaled(conv, counts[name]), inverted(covariance)
        for index, mine, places in units.read_by(name):
            readers[index].append(reader(weight, inverse, mine, places, inputs))
    scores: Scores = {}
    for index, theirs in enumerate(tqdm(readers, desc="obs", unit="unit", leave=False)):
        scores |= units.scores(index, removal_losses(len(units.groups[index]), theirs))
    return scores


def removal_losses(count: int, readers: list[Reader]) -> np.ndarray:
    """By how much the error rises with each group, those removed greedily before it being gone.

    Args:
        count: groups of the unit.
        readers: what reads it; changed.

    Returns:
        (count,) float64, rising strictly in the order of removal.
    """
    value, rest, level = np.zeros(count), np.ones(count, dtype=bool), 0.0
    step = max(count // STEPS, 1)
    while rest.any():
        rise = np.zeros(count)
        for each in readers:
            np.add.at(rise, each.places, each.errors().numpy())
        queue = [g for g in np.argsort(rise, kind="stable") if rest[g]][:step]
        for group in queue:
            level = max(level + STEP, rise[group] / 2)
            value[group] = level
        rest[queue] = False
        for each in readers:
            here = torch.from_numpy(np.flatnonzero(np.isin(each.places, queue)))
            if len(here):
                each.remove_(here)
    return value


def reader(
    weight: torch.Tensor, inverse: torch.Tensor, mine: np.ndarray, places: np.ndarray, inputs: int
) -> Reader:
    """A reader of one unit.

    Args:
        weight, inverse: of the conv, see `Reader`.
        mine: its input channels that are of the unit.
        places: the group of each of them.
        inputs: how many input channels it has.
    """
    taps = weight.shape[1] // inputs
    some = np.unique(places)
    columns = [
        np.concatenate([np.arange(i * taps, (i + 1) * taps) for i in mine[places == place]])
        for place in some
    ]
    most = max(map(len, columns))
    spare = np.arange(weight.shape[1], weight.shape[1] + most)  # for groups that it reads less of
    filled = np.stack([np.concatenate([c, spare[: most - len(c)]]) for c in columns])
    wide = torch.cat([weight, weight.new_zeros(len(weight), most)], 1)
    larger = torch.block_diag(inverse, torch.eye(most, dtype=inverse.dtype))
    return Reader(wide, larger, torch.from_numpy(filled), some)


def inverted(covariance: torch.Tensor) -> torch.Tensor:
    """Its inverse, with a ridge."""
    raised = covariance.clone()
    raised.diagonal().add_(RIDGE * covariance.diagonal().mean().clamp(min=1e-12))
    return torch.cholesky_inverse(torch.linalg.cholesky(raised))


def scaled(conv: Any, counts: torch.Tensor) -> torch.Tensor:
    """The filters of a conv times the root of what errors of their outputs count, (C_out,)."""
    weight = filters(conv)
    return weight * counts.repeat_interleave(len(weight) // len(counts)).sqrt()[:, None]


def output_weights(
    model: nn.Module, names: list[str], calibration: Calibration
) -> dict[str, torch.Tensor]:
    """What a mean square error of a conv's outputs counts: squares of the loss's gradient.

    Returns:
        Conv name to (C_out,) float64, sums over positions, means over images.
    """
    if calibration.loss is None:
        raise InputError("--criterion obs", "calibration images without a loss", "a loss")
    total: dict[str, torch.Tensor] = {}

    def gather(name: str, axis: int, gradient: torch.Tensor) -> None:
        squares = gradient.detach().double().square().cpu()
        squares = squares.movedim(axis, 0).flatten(1).sum(1)
        total[name] = total.get(name, 0) + squares

    def look(name: str, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        axis = -1 if isinstance(module, nn.Linear) else 1
        output.register_hook(partial(gather, name, axis))

    handles = [model.get_submodule(n).register_forward_hook(partial(look, n)) for n in names]
    try:
        for batch in tqdm(calibration.batches, desc="gradients", unit="batch", leave=False):
            calibration.loss(model, batch).backward()
    finally:
        for handle in handles:
            handle.remove()
    return {name: value / calibration.images for name, value in total.items()}
