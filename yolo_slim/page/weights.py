"""How the weights of each conv are spread, model by model, over the same bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from yolo_slim.page.model import Histogram

BINS = 48


def histograms(models: Sequence[nn.Module]) -> tuple[Histogram, ...]:
    """A histogram of each conv of the first model, with the conv of that name in the others.

    Args:
        models: the first one is the one before any cut.
    """
    convs = [
        {name: m.weight for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
        for model in models
    ]
    rows = []
    for name in convs[0] if convs else ():
        values = [_flat(own[name]) if name in own else None for own in convs]
        there = [v for v in values if v is not None and len(v)]
        low, high = min(map(np.min, there)), max(map(np.max, there))
        high = high if high > low else low + 1e-6
        counts = tuple(None if v is None else _counts(v, low, high) for v in values)
        rows.append(Histogram(name, float(low), float(high), counts))
    return tuple(rows)


def _flat(weight: nn.Parameter) -> np.ndarray:
    return weight.detach().float().cpu().numpy().ravel()


def _counts(values: np.ndarray, low: float, high: float) -> tuple[int, ...]:
    return tuple(map(int, np.histogram(values, BINS, (low, high))[0]))
