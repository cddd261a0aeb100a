"""What is cut at a time: a group of tied channels, or a block of several groups.

Channels that are tied are one group; its score is the mean of theirs. Groups whose channels lie in
the same BNs form a stack, ordered by score, lowest first. A stack loses its groups in this order
and `step` of them at a time, so that a multiple of `step` remains. A BN has two stacks if it scales
the outputs of two convs, or if half of its channels are tied to another BN; each conv then reads
and writes a sum of multiples.

The stack of the inner channels of a residual Bottleneck may be emptied where the Bottleneck may go
as a whole: one more block then takes all that is left of the stack. No floor forbids it: a floor is
for what stays. Its score is the mean of what goes with it: the groups, and the worth of the
Bottleneck besides them (see `criteria.blocks`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.pruning.masks import Masks, whole_masks, without_branches_


@dataclass(frozen=True)
class Block:
    """Groups of one stack that go together.

    Attributes:
        groups: their indices, lowest score first.
        score: their mean.
        cut: share of the stack that is gone when this block is, and all before it.
        owners: indices (in `graph.prunable`) of the BNs that lose channels.
        removes: a residual Bottleneck goes with it: nothing of the stack is left.
    """

    groups: tuple[int, ...]
    score: float
    cut: float
    owners: tuple[int, ...]
    removes: bool = False


class Blocks:
    """The groups of a graph, and those that are cut so far.

    Args:
        graph: which channels there are and which go together.
        scores: BN name to (C,), for all prunable BNs of the graph.
        min_channels: each part of a BN keeps at least so many, all where it has fewer.
        worth: names of the residual Bottlenecks that may go as a whole (see `removable`), to what
            each is worth besides its inner channels, 0 or more, in the unit of the scores.

    Attributes:
        size: (groups,) channels of each.
        taken: (groups,) bool, cut so far.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        scores: Mapping[str, torch.Tensor],
        min_channels: int,
        worth: Mapping[str, float] | None = None,
    ) -> None:
        self.graph = graph
        norms = self.norms = graph.prunable
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
        inner = {graph.branches[name].inner: value for name, value in (worth or {}).items()}
        # The part of each stack that may be emptied, to the worth of its Bottleneck.
        self._worth = {
            int(graph.parts[graph.norms[name].offset]): value for name, value in inner.items()
        }

    def span(self, group: int) -> slice:
        """Where the members of a group are in `owners` and `parts`."""
        return slice(self.ends[group], self.ends[group + 1])

    def worth(self, stack: Collection[int]) -> float | None:
        """What the residual Bottleneck of a stack is worth besides it; None: it does not go."""
        return self._worth.get(self.parts[self.span(next(iter(stack)))][0])

    def removal(self, groups: Sequence[int]) -> Block:
        """The block of a residual Bottleneck that goes as a whole.

        Args:
            groups: all that is left of its stack.
        """
        worth = self.worth(groups)
        assert worth is not None
        score = (float(self.score[list(groups)].sum()) + worth) / len(groups)
        return Block(tuple(groups), score, 1.0, tuple(self.owners[self.span(groups[0])]), True)

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

        The last block of a stack that may be emptied takes all that is left of it, the groups of
        the blocks before it among them: once these are cut `left_of` says what it takes.

        Args:
            step: what remains of a stack is a multiple of it. Stacks with less than two of it are
                too narrow: they have no block.
            held: groups that stay; their stacks have no block.
        """
        queue = []
        for stack in self.stacks:
            rest = [g for g in stack if not self.taken[g]]
            if not rest or any(g in held for g in stack):
                continue
            removes = self.worth(stack) is not None
            last = len(rest) if step == 1 else len(rest) - step  # one by one the floor decides
            if removes:
                last = min(last, len(rest) - self.floor[self.parts[self.span(rest[0])][0]])
            if len(rest) < 2 * step:
                last = 0
            owners = tuple(sorted(set(self.owners[self.span(stack[0])])))
            for end in range(len(rest) % step or step, last + 1, step):
                groups = tuple(rest[max(end - step, 0) : end])
                score = float(self.score[list(groups)].mean())
                cut = (len(stack) - len(rest) + end) / len(stack)
                queue.append(Block(groups, score, cut, owners))
            if removes:
                queue.append(self.removal(rest))
        return queue

    def left_of(self, block: Block) -> tuple[int, ...]:
        """The groups of a block that are not cut yet: all of the stack if the block removes it."""
        if not block.removes:
            return block.groups
        stack = next(stack for stack in self.stacks if block.groups[0] in stack)
        return tuple(g for g in stack if not self.taken[g])

    def next_of_each(self, held: Collection[int] = ()) -> list[int]:
        """The group that is next in each stack, but for stacks with one of `held`; none empties a
        stack that may be emptied.
        """
        free = [stack for stack in self.stacks if not any(g in held for g in stack)]
        rest = [[g for g in stack if not self.taken[g]] for stack in free]
        return [g[0] for g in rest if len(g) > (bool(g) and self.worth(g) is not None)]

    def cut(self, groups: Collection[int]) -> bool:
        """Cut groups, all or, where the floor does not let them, none; True if they are cut.

        All that is left of a stack that may be emptied can go, whatever the floor.
        """
        parts = [part for group in groups for part in self.parts[self.span(group)]]
        for part in parts:
            self.left[part] -= 1
        self.taken[list(groups)] = True
        if all(
            self.left[part] >= self.floor[part] or (not self.left[part] and part in self._worth)
            for part in parts
        ):
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
        return without_branches_(graph, keep)

    def masks(self) -> Masks:
        """BN name to bool (C,), True = kept; all False for both BNs of a Bottleneck that goes."""
        keep = torch.from_numpy(~self.taken[self.group])
        counts = [n.channels for n in self.norms]
        parts = zip(self.norms, keep.split(counts), strict=True)
        return whole_masks(self.graph, {norm.name: part.clone() for norm, part in parts})
