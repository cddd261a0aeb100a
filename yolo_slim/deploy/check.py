"""An export is compared with PyTorch on real images before it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend

mend()

from yolov5.utils.augmentations import letterbox  # noqa: E402

BOX_LIMIT = 0.05  # px
SCORE_LIMIT = 1e-4


@dataclass(frozen=True)
class Agreement:
    """Largest differences between an export and PyTorch.

    Attributes:
        boxes: of x, y, w, h, px.
        scores: of objectness and class scores.
        images: number of images compared.
    """

    boxes: float
    scores: float
    images: int

    @property
    def holds(self) -> bool:
        """True within 0.05 px and 1e-4."""
        return self.boxes <= BOX_LIMIT and self.scores <= SCORE_LIMIT

    def __str__(self) -> str:
        return (
            f"boxes within {self.boxes:.2g} px, scores within {self.scores:.1g} "
            f"on {self.images} images"
        )


def read_images(files: Sequence[Path], height: int, width: int | None = None) -> np.ndarray:
    """Letterbox images as YOLOv5's detect does: (n, 3, height, width) float32 in [0, 1], RGB.

    Raises:
        InputError: a file is not an image.
    """
    import cv2

    batch = []
    for file in files:
        image = cv2.imread(str(file))
        if image is None:
            raise InputError(file, "not an image", "an image that OpenCV reads")
        image = letterbox(image, (height, width or height), auto=False)[0]
        batch.append(image[:, :, ::-1].transpose(2, 0, 1))
    return np.stack(batch).astype(np.float32) / 255


@torch.no_grad()
def compare(
    model: nn.Module, exported: Callable[[np.ndarray], np.ndarray], batches: Sequence[np.ndarray]
) -> Agreement:
    """Run both on the same images.

    Args:
        model: the detector, eval, unfused.
        exported: images (n, 3, h, w) to output (n, anchors, 5 + nc).
        batches: images, see `read_images`.
    """
    boxes = scores = 0.0
    for batch in batches:
        expected, found = model(torch.from_numpy(batch))[0].numpy(), exported(batch)
        if expected.shape != found.shape or not np.isfinite(found).all():
            return Agreement(float("inf"), float("inf"), len(batch))
        error = np.abs(expected - found)
        boxes, scores = max(boxes, error[..., :4].max()), max(scores, error[..., 4:].max())
    return Agreement(float(boxes), float(scores), sum(len(b) for b in batches))
