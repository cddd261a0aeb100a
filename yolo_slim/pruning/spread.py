"""How a cut spreads over the layers: the order in which blocks go.

Within a layer the scores decide which channels go; between layers they do (global), or each layer
loses the same share (uniform), or each layer loses as much as costs the same accuracy (sensitivity,
as in the lab of MIT 6.5940 and Li et al. 2017, section 3.2, but with one bound for all layers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from yolo_slim.errors import InputError
from yolo_slim.pruning.blocks import Block, Blocks

Curve = Sequence[tuple[float, float]]  # (share cut, loss) in rising order, from (0, 0)
Spread = Literal["global", "uniform"] | Mapping[str, Curve]  # or BN name to its curve
SPREADS = ("global", "uniform")


def ranked(cut: Blocks, blocks: Sequence[Block], spread: Spread = "global") -> list[Block]:
    """Blocks in the order in which they go.

    Args:
        cut: what they are blocks of.
        blocks: those of each stack in order.
        spread: "global": by score; "uniform": by the share of their stack that is then gone; curves
            of loss, BN name to [(share, loss)]: by the loss that this layer alone then causes.

    Raises:
        InputError: `spread` is none of these, or a BN has no curve.
    """
    if spread == "global":
        keys = np.array([block.score for block in blocks])
    elif spread == "uniform":
        keys = np.array([block.cut for block in blocks])
    elif isinstance(spread, Mapping):
        missing = [n.name for n in cut.norms if n.name not in spread]
        if missing:
            raise InputError("budget", f"no curve for {missing[0]}", "one for each prunable BN")
        keys = np.array([loss(cut, block, spread) for block in blocks])
    else:
        raise InputError("budget", repr(spread), f"{', '.join(SPREADS)} or curves of loss")
    # equal keys: the layer that has lost less goes first
    cuts = np.array([block.cut for block in blocks])
    first = np.array([block.groups[0] for block in blocks])
    return [blocks[i] for i in np.lexsort((first, cuts, keys))]


def loss(cut: Blocks, block: Block, curves: Mapping[str, Curve]) -> float:
    """The largest loss that one of the BNs of a block causes when the block is gone."""
    found = []
    for owner in block.owners:
        shares, losses = zip(*curves[cut.norms[owner].name], strict=True)
        found.append(float(np.interp(block.cut, shares, losses)))
    return max(found)
