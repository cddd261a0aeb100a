"""How far a penalty can move gamma in a given training: arithmetic on YOLOv5's learning rates."""

from __future__ import annotations

import math


def reach(
    *,
    epochs: int,
    batches: int,
    batch_size: int,
    lr0: float = 0.01,
    lrf: float = 0.01,
    momentum: float = 0.937,
    warmup_epochs: float = 3.0,
    optimizer: str = "SGD",
) -> float:
    """The way that a gamma goes under a penalty of sr = 1 with no other gradient.

    Sums the learning rates of the optimizer steps (warm-up, accumulation to 64 images and linear
    decay as in YOLOv5's train.py), weighted with the penalty's own decay. SGD's momentum multiplies
    a steady gradient by 1 / (1 - momentum); Adam takes steps of lr whatever sr is.

    Args:
        epochs: length of the training.
        batches: batches an epoch.
        batch_size: images a batch.
        lr0, lrf, momentum, warmup_epochs: as in YOLOv5's hyp yaml.
        optimizer: SGD, Adam or AdamW.

    Returns:
        The way in units of gamma. sr * reach is how far |gamma| falls; for Adam sr cancels out.
    """
    warmup = max(round(warmup_epochs * batches), 100)
    way, last = 0.0, -1
    for index in range(epochs * batches):
        progress = index // batches / epochs
        rate = lr0 * ((1 - progress) * (1 - lrf) + lrf)
        share = min(index / warmup, 1.0)
        accumulate = max(1, round(1 + share * (max(64 / batch_size, 1) - 1)))
        if index - last >= accumulate:
            way += rate * share * (1 - 0.9 * progress)
            last = index
    return way / (1 - momentum) if optimizer == "SGD" else way


def suggest(quantile: float, way: float) -> float:
    """The sr that takes gammas of this size to zero, to two digits.

    Twice what the L1 alone would need, since the loss pulls the other way: on BCCD
    (docs/results.md) 0.2 = quantile / way left 19% of the channels near zero
    at the 60% quantile, 0.4 left 57%.

    Args:
        quantile: |gamma| that is to reach zero.
        way: see `reach`.
    """
    exact = 2 * quantile / max(way, 1e-12)
    digits = 1 - math.floor(math.log10(exact)) if exact > 0 else 0
    return round(exact, digits)
