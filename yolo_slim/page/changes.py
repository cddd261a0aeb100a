"""What a model finds, and what it lost and gained: boxes against true objects at IoU 0.5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import box_iou

from yolo_slim.host.predictions import Objects
from yolo_slim.page.model import Tally

IOU = 0.5


def matches(truth: Objects, found: Objects) -> np.ndarray:
    """Which true object each box meets: the one that it covers best, of its class.

    Args:
        truth: the true objects of an image.
        found: boxes of a model, the surest first: it is the first to choose.

    Returns:
        (n,) index of a true object, -1 for none; no index twice.

    Example:
        >>> from pathlib import Path
        >>> def objects(*corners):
        ...     n = len(corners)
        ...     boxes = np.array(corners, dtype=np.float32).reshape(n, 4)
        ...     return Objects(Path("a.jpg"), (9, 9), boxes, np.zeros(n, dtype=int), np.ones(n))
        >>> matches(objects([0, 0, 4, 4]), objects([0, 0, 4, 3], [0, 0, 4, 4], [5, 5, 9, 9]))
        array([ 0, -1, -1])
    """
    match = np.full(len(found.labels), -1)
    if not len(truth.labels) or not len(match):
        return match
    iou = box_iou(torch.from_numpy(truth.corners), torch.from_numpy(found.corners)).numpy()
    iou[truth.labels[:, None] != found.labels[None]] = 0
    for box in range(len(match)):
        best = int(iou[:, box].argmax())
        if iou[best, box] >= IOU:
            match[box] = best
            iou[best] = 0
    return match


def hit(truth: Objects, match: np.ndarray) -> np.ndarray:
    """Which true objects were met; bool (n,)."""
    met = np.zeros(len(truth.labels), dtype=bool)
    met[match[match >= 0]] = True
    return met


def tally(
    truths: Sequence[Objects],
    match: Sequence[np.ndarray],
    first: Sequence[np.ndarray],
) -> Tally:
    """Count over all images.

    Args:
        truths: true objects of each image.
        match: `matches` of the model.
        first: `matches` of the model that it is compared with.
    """
    own = [hit(truth, each) for truth, each in zip(truths, match, strict=True)]
    theirs = [hit(truth, each) for truth, each in zip(truths, first, strict=True)]
    pairs = list(zip(own, theirs, strict=True))
    return Tally(
        hits=sum(int(a.sum()) for a in own),
        lost=sum(int((b & ~a).sum()) for a, b in pairs),
        gained=sum(int((a & ~b).sum()) for a, b in pairs),
        false=sum(int((each < 0).sum()) for each in match),
        truths=sum(map(len, own)),
    )


def changed(
    truths: Sequence[Objects], match: Sequence[np.ndarray], first: Sequence[np.ndarray]
) -> list[int]:
    """Of each image, how many true objects were lost or gained between two models."""
    return [
        int((hit(truth, a) ^ hit(truth, b)).sum())
        for truth, a, b in zip(truths, match, first, strict=True)
    ]
