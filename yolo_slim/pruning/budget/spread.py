"""How a cut spreads over the layers: the order in which blocks go.

Within a layer the scores decide which channels go; between layers they do (global), or the scores
over the MACs that a channel takes (per-mac: most MACs for the least score), or each layer loses the
same share (uniform), or each layer loses as much as costs the same accuracy (sensitivity,
as in the lab of MIT 6.5940 and Li et al. 2017, section 3.2, but with one bound for all layers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.pruning.budget.blocks import Block, Blocks
from yolo_slim.pruning.criteria.table import BUDGETS

if TYPE_CHECKING:
    from yolo_slim.channels.graph import ChannelGraph
    from yolo_slim.pruning.budget.mask_cost import MaskCost

Curve = Sequence[tuple[float, float]]  # (share cut, loss) in rising order, from (0, 0)
Spread = Literal["global", "uniform"] | Mapping[str, Curve]  # or BN name to its curve


class Losses(Protocol):
    """What knows how much accuracy the layers of a model cost, such as a sensitivity scan."""

    def losses(self, graph: ChannelGraph, model: nn.Module) -> Mapping[str, Curve]:
        """Name of each prunable BN to its curve.

        Raises:
            InputError: it is of another model.
        """
        ...


GONE = -1e12  # the score of a channel that is cut already


def ranked(cut: Blocks, blocks: Sequence[Block], spread: Spread = "global") -> list[Block]:
    """Blocks in the order in which they go.

    A block that removes a residual Bottleneck comes before those of its stack that go later than
    it; these are left out. With "uniform" it goes where the average layer loses a channel of its
    score: by the share of all channels that have a lower one.

    Args:
        cut: what they are blocks of.
        blocks: those of each stack in order.
        spread: "global": by score; "uniform": by the share of their stack that is then gone; curves
            of loss, BN name to [(share, loss)]: by the loss that this layer alone then causes.

    Raises:
        InputError: `spread` is none of these, or a BN has no curve.
    """
    blocks = _without_later_ones(cut, blocks, spread)
    keys = keys_of(cut, blocks, spread)
    # equal keys: the layer that has lost less goes first
    cuts = np.array([block.cut for block in blocks])
    first = np.array([block.groups[0] for block in blocks])
    return [blocks[i] for i in np.lexsort((first, cuts, keys))]


def keys_of(cut: Blocks, blocks: Sequence[Block], spread: Spread) -> np.ndarray:
    """(blocks,) what they are ranked by, lowest first.

    Args:
        cut, blocks, spread: see `ranked`.

    Raises:
        InputError: see `ranked`.
    """
    if spread == "global":
        return np.array([block.score for block in blocks])
    if isinstance(spread, Mapping):
        missing = [n.name for n in cut.norms if n.name not in spread]
        if missing:
            raise InputError("budget", f"no curve for {missing[0]}", "one for each prunable BN")
        return np.array([loss(cut, block, spread) for block in blocks])
    if spread != "uniform":
        raise InputError("budget", repr(spread), f"{', '.join(BUDGETS)} or curves of loss")
    # A Bottleneck goes as early as channels of its score do: its place among all of them.
    scores = np.sort(cut.score)
    lower = np.searchsorted(scores, [block.score for block in blocks]) / max(len(scores), 1)
    cuts = np.array([block.cut for block in blocks])
    return np.where([block.removes for block in blocks], lower, cuts)


def _without_later_ones(cut: Blocks, blocks: Sequence[Block], spread: Spread) -> list[Block]:
    """Each stack up to where what is left of it goes as a whole, if that comes before the rest."""
    of = {group: i for i, b in enumerate(blocks) if b.removes for group in b.groups}
    others: dict[int, list[Block]] = {i: [] for i in of.values()}
    queue = list[Block]()
    for block in blocks:
        if not block.removes:
            others.get(of.get(block.groups[0], -1), queue).append(block)
    for index, mine in others.items():
        left = list(blocks[index].groups)
        for block in mine:
            whole, part = keys_of(cut, [cut.removal(left), block], spread)
            if whole <= part:
                break
            queue.append(block)
            left = [group for group in left if group not in block.groups]
        queue.append(cut.removal(left))
    return queue


def loss(cut: Blocks, block: Block, curves: Mapping[str, Curve]) -> float:
    """The largest loss that one of the BNs of a block causes when the block is gone."""
    losses_there = []
    for owner in block.owners:
        shares, losses = zip(*curves[cut.norms[owner].name], strict=True)
        losses_there.append(float(np.interp(block.cut, shares, losses)))
    return max(losses_there)


def spending(graph: ChannelGraph, counted: MaskCost) -> dict[str, float]:
    """The share of the MACs that the cut of one channel saves, with all that are tied to it.

    Args:
        graph: of the model.
        counted: its costs.

    Returns:
        BN name to its share of the model's MACs.
    """
    spent, whole = {}, counted.macs(counted.everything)
    for norm in graph.prunable:
        keep = counted.everything.copy()
        keep[:-1][graph.group == graph.group[norm.offset]] = False
        spent[norm.name] = max((whole - counted.macs(keep)) / whole, np.finfo(float).tiny)
    return spent


def spread_out(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores of the channels that are left, (kept,), as scores of all, (C,): the others go first.

    Args:
        scores: of the channels that `mask` keeps.
        mask: (C,) bool, True = kept.
    """
    spread = torch.full(mask.shape, GONE, dtype=torch.float64)
    spread[mask] = scores.double()
    return spread
