"""From scores and the table of a device to masks: the cut that knows what channels cost there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.device.layers import Exported
from yolo_slim.device.table import DeviceTable
from yolo_slim.errors import InputError
from yolo_slim.pruning.budget.blocks import Blocks
from yolo_slim.pruning.budget.knapsack import Knapsack, Term
from yolo_slim.pruning.masks import Masks


class Timed:
    """The time of a model under masks, by the table of a device.

    Args:
        exported: the dense model, as it is exported.
        graph: its channel graph.
        table: made for this model.
    """

    def __init__(self, exported: Exported, graph: ChannelGraph, table: DeviceTable) -> None:
        self._graph = graph
        free = np.zeros(0, int)
        self.rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]] = []
        convs, ops, self.fixed = table.scales
        for name, conv in exported.convs.items():
            node, seconds = graph.convs.get(name), convs * table.conv(conv.key)
            sides = (node.inputs, node.outputs) if node else (free, free)
            base = (0, 0) if node else (conv.inputs, conv.outputs)
            self.rows.append((seconds, *sides, base))
        for op in exported.ops:
            most = len(op.ids)
            if not most:
                self.fixed += ops * float(table.op(op.key, 0)[0])
            else:
                self.rows.append((ops * table.op(op.key, most)[None], free, op.ids, (0, 0)))

    def seconds(self, keep: np.ndarray) -> float:
        """Predicted time; `keep` (ids + 1,) bool, see `keep_vector`."""
        total = self.fixed
        for seconds, inputs, outputs, base in self.rows:
            total += seconds[base[0] + keep[inputs].sum(), base[1] + keep[outputs].sum()]
        return float(total)

    def terms(self, stack_of: np.ndarray, size: np.ndarray) -> list[Term]:
        """The same as terms of a knapsack.

        Args:
            stack_of: (ids + 1,) the stack of each channel, -1 where it stays.
            size: (stacks,) groups of each.
        """
        terms = []
        for seconds, inputs, outputs, base in self.rows:
            counts = [np.bincount(s[s >= 0], minlength=len(size)) for s in
                      (stack_of[inputs], stack_of[outputs])]
            fixed = [int((stack_of[ids] < 0).sum()) for ids in (inputs, outputs)]
            stacks = np.flatnonzero(counts[0] + counts[1])
            weights = np.stack([c[stacks] // size[stacks] for c in counts])
            terms.append(Term(seconds, np.array(base) + fixed, stacks, weights))
        return terms


def timed_masks(
    graph: ChannelGraph,
    scores: Mapping[str, torch.Tensor],
    timed: Timed,
    block: int,
    share: float,
    *,
    min_channels: int = 1,
    held: Collection[str] = (),
) -> Masks:
    """Masks with the most score among those that take a share of the dense model's time.

    Args:
        graph, scores: see `choose_masks`.
        timed: the time of masks.
        block: what is kept of a stack is a multiple of it, or all.
        share: of the time, in (0, 1].
        min_channels: see `choose_masks`.
        held: BNs that stay as they are.

    Raises:
        InputError: out of reach; the message has the range.
    """
    cut = Blocks(graph, scores, min_channels)
    stays = {g for name in held for g in cut.groups(name)}
    values, options, stack_of = [], [], np.full(graph.channels + 1, -1)
    place = {group: index for index, stack in enumerate(cut.stacks) for group in stack}
    stack_of[cut.ids] = [place[group] for group in cut.group]
    for stack in cut.stacks:
        size = len(stack)
        least = size if any(g in stays for g in stack) else min(max(min_channels, block), size)
        steps = {k for k in range(block, size, block) if k >= least} | {size}
        values.append(cut.score[stack])
        options.append(sorted(steps))
    size = np.array([len(stack) for stack in cut.stacks])
    knapsack = Knapsack(values, options, timed.terms(stack_of, size), timed.fixed)
    dense = knapsack.seconds(knapsack.all)
    kept = knapsack.solve(share * dense)
    if kept is None:
        least = knapsack.seconds(knapsack.least) / dense
        raise InputError("--latency", f"{share:g}", f"{least:.2f} to 1, by the table of the device")
    for stack, count in zip(cut.stacks, kept, strict=True):
        cut.cut(stack[: len(stack) - int(count)])
    return cut.masks()
