"""From scores and the table of a device to masks: the cut that knows what channels cost there.

The other budgets rank channels by a key (see `spread`) and cut those with the lowest until enough
is gone. The same cut comes out of a knapsack in which a channel costs its MACs and is worth its
MACs times its key. So this is what a channel is worth here; what changes is the price, which is the
time by the table. A layer that takes long for its MACs then loses more, one that is quick less.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.device.layers import Exported
from yolo_slim.device.table import DeviceTable
from yolo_slim.errors import InputError
from yolo_slim.pruning.budget.blocks import Blocks
from yolo_slim.pruning.budget.choose import cut_layer_
from yolo_slim.pruning.budget.knapsack import Knapsack, Term
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.spread import GONE, Spread, keys_of, spending
from yolo_slim.pruning.masks import Masks

SLACK = 0.02  # by how much --ratio may leave less time than asked for


@dataclass(frozen=True)
class Row:
    """A layer, and its time by what is kept.

    Attributes:
        name: of a conv, or of what is no conv ("Concat of 2 at 40x40").
        seconds: (inputs + 1, outputs + 1).
        inputs, outputs: ids of its channels.
        base: inputs and outputs besides, which no BatchNorm scales.
    """

    name: str
    seconds: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    base: tuple[int, int] = (0, 0)

    def at(self, keep: np.ndarray) -> float:
        """Seconds; `keep` (ids + 1,) bool."""
        inputs, outputs = keep[self.inputs].sum(), keep[self.outputs].sum()
        return float(self.seconds[self.base[0] + inputs, self.base[1] + outputs])

    def term(self, stack_of: np.ndarray, size: np.ndarray) -> Term:
        """The same for a knapsack.

        Args:
            stack_of: (ids + 1,) the stack of each channel, -1 where it stays.
            size: (stacks,) groups of each.
        """
        both = [stack_of[ids] for ids in (self.inputs, self.outputs)]
        counts = [np.bincount(stack[stack >= 0], minlength=len(size)) for stack in both]
        stay = [int((stack < 0).sum()) for stack in both]
        stacks = np.flatnonzero(counts[0] + counts[1])
        weights = np.stack([count[stacks] // size[stacks] for count in counts])
        return Term(self.seconds, np.array(self.base) + stay, stacks, weights)


class Timed:
    """The time of a model under masks, by the table of a device.

    Args:
        exported: the model, as it is exported.
        graph: its channel graph.
        table: made for this model, or for one that it is a cut of.

    Attributes:
        rows: the layers that a cut changes.
        fixed: seconds of all else: the decoding, and what lies between the layers.
        decoding: seconds of it.
        dense: seconds of the model as it is.
    """

    def __init__(self, exported: Exported, graph: ChannelGraph, table: DeviceTable) -> None:
        self.graph, self.table, self.rows, free = graph, table, [], np.zeros(0, int)
        self.decoding = 0.0
        convs, ops, between = table.scales
        inner = {branch.convs[1]: branch.inner for branch in graph.branches.values()}
        for name, conv in exported.convs.items():
            node, seconds = graph.convs.get(name), convs * table.conv(conv.key)
            if node:
                seconds[0], seconds[:, 0] = 0.0, 0.0  # it is gone with its residual Bottleneck
                self.rows.append(Row(name, seconds, node.inputs, node.outputs))
            else:
                self.rows.append(Row(name, seconds, free, free, (conv.inputs, conv.outputs)))
        for op in exported.ops:
            if most := len(op.ids):
                seconds = ops * table.op(op.key, most)[None]
                gates = [graph.norms[inner[name]].ids for name in op.convs if name in inner]
                if gates and op.key.startswith("Add"):  # it is gone with its residual Bottleneck
                    seconds = np.repeat(seconds, len(gates[0]) + 1, 0)
                    seconds[0] = 0.0
                self.rows.append(Row(op.key, seconds, gates[0] if gates else free, op.ids))
            else:
                self.decoding += ops * float(table.op(op.key, 0)[0])
        self.fixed = self.decoding + between
        self.dense = self.seconds(np.ones(graph.channels + 1, dtype=bool))

    def seconds(self, keep: np.ndarray) -> float:
        """Predicted time; `keep` (ids + 1,) bool, see `keep_vector`."""
        return self.fixed + sum(row.at(keep) for row in self.rows)


def timed_masks(
    scores: Mapping[str, torch.Tensor],
    timed: Timed,
    counted: MaskCost,
    share: float,
    **how: Any,
) -> Masks:
    """Masks with the most worth among those that take a share of the model's time.

    Args:
        scores, timed, counted, how: see `knapsack_of`.
        share: of the time, in (0, 1].

    Raises:
        InputError: out of reach; the message has the range.
    """
    cut, knapsack = knapsack_of(scores, timed, counted, **how)
    low, high = (knapsack.seconds(k) / timed.dense for k in (knapsack.least, knapsack.all))
    kept = knapsack.solve(share * timed.dense)
    if kept is None or high < (1 - SLACK) * share:
        can = f"{math.ceil(1000 * low) / 1000:g} to {high:.3g}, by the table of the device"
        raise InputError("--latency", f"{share:g}", can)
    for stack, count in zip(cut.stacks, kept, strict=True):
        cut.cut([g for g in stack[: len(stack) - int(count)] if not cut.taken[g]])
    return cut.masks()


def knapsack_of(
    scores: Mapping[str, torch.Tensor],
    timed: Timed,
    counted: MaskCost,
    *,
    min_channels: int = 1,
    keep: Collection[str] = (),
    ratios: Mapping[str, float] | None = None,
    spread: Spread = "global",
    worth: Mapping[str, float] | None = None,
) -> tuple[Blocks, Knapsack]:
    """The stacks of a model, with what they are worth and what they cost.

    Args:
        scores: see `choose_masks`.
        timed: the time of masks.
        counted: the MACs of masks.
        min_channels, keep, ratios, spread, worth: see `choose_masks`. What a layer keeps is a
            multiple of the device's step, or all; a residual Bottleneck that may go has 0, too.
    """
    graph, step = timed.graph, timed.table.step
    cut = Blocks(graph, scores, min_channels, worth)
    stays = {g for name in keep for g in cut.groups(name)}
    for name, part in (ratios or {}).items():
        cut_layer_(cut, name, part, stays, step)
        stays |= cut.groups(name)
    size = np.array([len(stack) for stack in cut.stacks])
    stack_of, place = np.full(graph.channels + 1, -1), np.zeros(len(cut.size), int)
    for index, stack in enumerate(cut.stacks):
        place[stack] = index
    stack_of[cut.ids] = place[cut.group]
    losses, whole = _losses(cut, counted, spread)
    values, options = [], []
    for stack in cut.stacks:
        least = most = int((~cut.taken[stack]).sum())
        if not stays.intersection(stack):
            most = int((cut.score[stack] > GONE / 2).sum())  # the rest went in a step before
            least = min(max(min_channels, step), most)
        steps = sorted({*range(step, most, step), least, most})
        options.append([k for k in steps if k >= least])
        lost = np.concatenate([[0.0], np.cumsum(losses[stack])])
        values.append(-lost[len(stack) - np.array(options[-1])])
        if stack[0] in whole and not stays.intersection(stack):
            options[-1].insert(0, 0)
            values[-1] = np.concatenate([[-whole[stack[0]]], values[-1]])
    terms = [row.term(stack_of, size) for row in timed.rows]
    return cut, Knapsack(values, options, terms, timed.fixed)


def _losses(cut: Blocks, counted: MaskCost, spread: Spread) -> tuple[np.ndarray, dict[int, float]]:
    """What is lost.

    Returns:
        (groups,) with each group, once those of its stack that go before it are gone; and first
        group of a stack that may be emptied, to what is lost with all of it.
    """
    blocks = cut.blocks(1)
    spent = spending(cut.graph, counted)
    losses, whole = np.zeros(len(cut.size)), dict[int, float]()
    for key, block in zip(keys_of(cut, blocks, spread), blocks, strict=True):
        loss = key * spent[cut.norms[block.owners[0]].name] if key > GONE / 2 else 0.0
        if block.removes:
            whole[block.groups[0]] = loss * len(block.groups)
        else:
            losses[list(block.groups)] = loss
    return losses, whole
