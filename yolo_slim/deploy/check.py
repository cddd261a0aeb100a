"""An export is compared with PyTorch on real images before it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.host.classes import yolo
from yolo_slim.host.compat import mend
from yolo_slim.text import counted

mend()


@dataclass(frozen=True)
class Limits:
    """How far an export may be from PyTorch.

    Attributes:
        boxes: px.
        scores: of objectness and class scores.
        masks: share of the largest value.
        least: boxes of lower score do not count.
    """

    boxes: float
    scores: float
    masks: float
    least: float = 0.0


FLOAT32 = Limits(boxes=0.05, scores=1e-4, masks=1e-4)
HALF = Limits(boxes=4.0, scores=0.05, masks=0.05, least=0.1)


@dataclass(frozen=True)
class Agreement:
    """Largest differences between an export and PyTorch.

    Attributes:
        boxes: of x, y, w, h, px.
        scores: of objectness and class scores.
        images: number of images compared.
        masks: of mask coefficients and of prototypes, each as a share of the largest of them in
            PyTorch's; None for a model without masks.
        limits: that hold; boxes of a score below limits.least were not compared.
        seen: False where no box had that score, so that none was compared.
    """

    boxes: float
    scores: float
    images: int
    masks: float | None = None
    limits: Limits = FLOAT32
    seen: bool = True

    @property
    def holds(self) -> bool:
        """True if no difference is larger than its limit."""
        close = self.boxes <= self.limits.boxes and self.scores <= self.limits.scores
        return close and (self.masks is None or self.masks <= self.limits.masks)

    def __str__(self) -> str:
        if not (self.boxes or self.scores or self.masks):
            return f"the same to the bit on {counted(self.images, 'image')}"
        boxes = f"boxes of score {least:g} and more" if (least := self.limits.least) else "boxes"
        close = f"{boxes} within {self.boxes:.2g} px" if self.seen else f"no {boxes}"
        parts = [close, f"scores within {self.scores:.1g}"]
        if self.masks is not None:
            parts.append(f"masks within {self.masks:.1g} of the largest value")
        return f"{', '.join(parts)} on {counted(self.images, 'image')}"


@torch.no_grad()
def compare(
    model: nn.Module,
    exported: Callable[[np.ndarray], Sequence[np.ndarray]],
    batches: Sequence[np.ndarray],
    limits: Limits = FLOAT32,
) -> Agreement:
    """Run both on the same images.

    Args:
        model: the model, eval, unfused.
        exported: images (n, 3, h, w) to the outputs: (n, anchors, 5 + nc), of a segmentation model
            (n, anchors, 5 + nc + nm) and the prototypes (n, nm, h / 4, w / 4).
        batches: images, see `read_images`.
        limits: that hold.
    """
    outputs = 2 if isinstance(model, yolo.SegmentationModel) else 1
    end = 5 + model.model[-1].nc
    worst, seen = np.zeros(3), False
    for batch in tqdm(batches, desc="comparing", unit="batch", leave=False):
        expected = [out.numpy() for out in model(torch.from_numpy(batch))[:outputs]]
        actual = list(exported(batch))
        shapes = [[out.shape for out in outs] for outs in (expected, actual)]
        if shapes[0] != shapes[1] or not all(np.isfinite(out).all() for out in actual):
            return Agreement(inf, inf, len(batch), inf if outputs == 2 else None, limits)
        error = np.abs(expected[0] - actual[0])
        masks = 0.0
        if outputs == 2:
            pairs = [(expected[0][..., end:], actual[0][..., end:]), (expected[1], actual[1])]
            masks = max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs)
        rows = expected[0][..., 4] * expected[0][..., 5:end].max(-1) >= limits.least
        boxes = error[rows][:, :4].max(initial=0)
        seen = seen or bool(rows.any())
        worst = np.maximum(worst, [boxes, error[..., 4:end].max(), masks])
    boxes, scores, mask = worst.tolist()
    count = sum(map(len, batches))
    return Agreement(boxes, scores, count, mask if outputs == 2 else None, limits, seen)
