"""How far detections move in 8 bits: a cost that needs neither labels nor validation images.

Of each place that the float model would report something at, weighted by the score that it reports:
how much the scores change, and how much of the box is another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Outputs = Sequence[np.ndarray]


@dataclass(frozen=True)
class Movement:
    """Changes of detections, each as a share of all scores of the float model.

    Attributes:
        scores: sum |s' - s| over sum s, of objectness times class score.
        boxes: sum s (1 - IoU) over sum s.
        masks: the same of mask coefficients, |c' - c| over |c|; 0 for a model without.
    """

    scores: float
    boxes: float
    masks: float = 0.0

    @property
    def cost(self) -> float:
        """The sum: 0 where nothing moves."""
        return self.scores + self.boxes + self.masks


def movement(expected: Iterable[Outputs], actual: Iterable[Outputs], classes: int) -> Movement:
    """Compare what two models return for the same images.

    Args:
        expected, actual: for each batch output0 (n, anchors, 5 + classes [+ coefficients]), x, y,
            w, h in px; what follows is not looked at.
        classes: number of classes.
    """
    moved, scale = np.zeros(3), 0.0
    for (before, *_), (after, *_) in zip(expected, actual, strict=True):
        end = 5 + classes
        s, t = (out[..., 5:end] * out[..., 4:5] for out in (before, after))
        weight = s.sum(-1)
        masks = 0.0
        if before.shape[-1] > end:
            c, d = before[..., end:], after[..., end:]
            size = np.maximum(np.abs(c).sum(-1), 1e-9)
            masks = float((weight * np.abs(d - c).sum(-1) / size).sum())
        scores = float(np.abs(t - s).sum())
        boxes = float((weight * (1 - overlap(before[..., :4], after[..., :4]))).sum())
        moved += (scores, boxes, masks)
        scale += float(weight.sum())
    return Movement(*(moved / max(scale, 1e-9)).tolist())


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes (..., 4): x, y of the centre, w, h.

    Example:
        >>> import numpy as np
        >>> overlap(np.array([5, 5, 10, 10.0]), np.array([10, 5, 10, 10.0])).round(3)
        np.float64(0.333)
    """
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    common = np.clip(high - low, 0, None).prod(-1)
    return common / np.maximum(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common, 1e-9)


def outputs_of(run: Callable[[np.ndarray], Outputs], images: Iterable[np.ndarray]) -> list[Outputs]:
    """What a model returns for each batch, without prototypes."""
    return [run(batch)[:1] for batch in images]
