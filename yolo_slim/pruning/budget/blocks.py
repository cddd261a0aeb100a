"""What is cut at a time: a group of tied channels, or a block of several groups.

Channels that are tied are one group; its score is the mean of theirs. Groups whose channels lie in
the same BNs form a stack, ordered by score, lowest first. A stack loses its groups in this order
and `step` of them at a time, so that a multiple of `step` remains. A BN has two stacks if it scales
the outputs of two convs, or if half of its channels are tied to another BN; each conv then reads
and writes a sum of multiples.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.pruning.masks import Masks


@dataclass(frozen=True)
class Block:
    """Groups of one stack that go together.

    Attributes:
        groups: their indices, lowest score first.
        score: their mean.
        cut: share of the stack that is gone when this block is, and all before it.
        owners: indices (in `graph.prunable`) of the BNs that lose channels.
    """

    groups: tuple[int, ...]
    score: float
    cut: float
    owners: tuple[int, ...]


class Blocks:
    """The groups of a graph, and those that are cut so far.

    Args:
        graph: which channels there are and which go together.
        scores: BN name to (C,), for all prunable BNs of the graph.
        min_channels: each part of a BN keeps at least so many, all where it has fewer.

    Attributes:
        size: (groups,) channels of each.
        taken: (groups,) bool, cut so far.
    """

    def __init__(
        self, graph: ChannelGraph, scores: Mapping[str, torch.Tensor], min_channels: int
    ) -> None:
        self.graph, norms = graph, graph.prunable
        self.norms = norms
        value = torch.cat([scores[n.name].double() for n in norms] or [torch.zeros(0)]).numpy()
        self.ids = np.concatenate([np.zeros(0, int), *(n.ids for n in norms)])
        _, self.group = np.unique(graph.group[self.ids], return_inverse=True)
        self.owner = np.repeat(np.arange(len(norms)), [n.channels for n in norms])
        self.size = np.bincount(self.group)
        total = np.bincount(self.group, np.where(np.isfinite(value), value, math.inf))
        self.score = total / np.maximum(self.size, 1)
        # BN, and part of a BN, of each group's members side by side: lists, since `cut` looks one
        # by one; flat, since Python's garbage collector would look at thousands of small ones.
        member, part = np.argsort(self.group, kind="stable"), graph.parts[self.ids]
        self.owners, self.parts = self.owner[member].tolist(), part[member].tolist()
        self.ends = [0, *np.cumsum(self.size).tolist()]
        self.left = np.bincount(part, minlength=1).tolist()
        self.floor = [min(count, min_channels) for count in self.left]
        self.place = {n.name: i for i, n in enumerate(norms)}
        self.taken = np.zeros(len(self.size), dtype=bool)
        stacks: dict[tuple[int, ...], list[int]] = {}
        for group in np.argsort(self.score, kind="stable").tolist():
            stacks.setdefault(tuple(sorted(self.parts[self.span(group)])), []).append(group)
        self.stacks = list(stacks.values())

    def span(self, group: int) -> slice:
        """Where the members of a group are in `owners` and `parts`."""
        return slice(self.ends[group], self.ends[group + 1])

    def groups(self, name: str) -> set[int]:
        """The groups that a BN has a channel in; none of a pinned BN."""
        if name not in self.place:
            return set()
        return set(self.group[self.owner == self.place[name]].tolist())

    def tied(self, name: str) -> set[str]:
        """The BNs that share a group with one, itself included."""
        owners = {o for g in self.groups(name) for o in self.owners[self.span(g)]}
        return {self.norms[o].name for o in owners}

    def gone(self, name: str | None = None) -> int:
        """Channels that are cut: of all BNs, or of one."""
        if name is None:
            return int(self.size[self.taken].sum())
        return int((self.taken[self.group] & (self.owner == self.place[name])).sum())

    def blocks(self, step: int, held: Collection[int] = ()) -> list[Block]:
        """What can go next, `step` groups at a time, stack by stack.

        Args:
            step: what remains of a stack is a multiple of it. Stacks with less than two of it are
                too narrow: they have no block.
            held: groups that stay; their stacks have no block.
        """
        queue = []
        for stack in self.stacks:
            rest = [g for g in stack if not self.taken[g]]
            if len(rest) < 2 * step or any(g in held for g in stack):
                continue
            owners = tuple(sorted(set(self.owners[self.span(stack[0])])))
            last = len(rest) if step == 1 else len(rest) - step  # one by one the floor decides
            for end in range(len(rest) % step or step, last + 1, step):
                groups = tuple(rest[max(end - step, 0) : end])
                score = float(self.score[list(groups)].mean())
                cut = (len(stack) - len(rest) + end) / len(stack)
                queue.append(Block(groups, score, cut, owners))
        return queue

    def next_of_each(self, held: Collection[int] = ()) -> list[int]:
        """The group that is next in each stack, but for stacks with one of `held`."""
        free = [stack for stack in self.stacks if not any(g in held for g in stack)]
        rest = [[g for g in stack if not self.taken[g]] for stack in free]
        return [groups[0] for groups in rest if groups]

    def cut(self, groups: Collection[int]) -> bool:
        """Cut groups, all or, where the floor does not let them, none; True if they are cut."""
        parts = [part for group in groups for part in self.parts[self.span(group)]]
        for part in parts:
            self.left[part] -= 1
        self.taken[list(groups)] = True
        if all(self.left[part] >= self.floor[part] for part in parts):
            return True
        self.restore(groups)
        return False

    def restore(self, groups: Collection[int]) -> None:
        """Take a cut back."""
        for group in groups:
            for part in self.parts[self.span(group)]:
                self.left[part] += 1
        self.taken[list(groups)] = False

    def keep(self, graph: ChannelGraph) -> np.ndarray:
        """(ids + 1,) bool, as `keep_vector` gives it."""
        keep = np.ones(graph.channels + 1, dtype=bool)
        keep[self.ids] = ~self.taken[self.group]
        return keep

    def masks(self) -> Masks:
        """BN name to bool (C,), True = kept."""
        keep = torch.from_numpy(~self.taken[self.group])
        counts = [n.channels for n in self.norms]
        return {
            n.name: part.clone() for n, part in zip(self.norms, keep.split(counts), strict=True)
        }
