"""What YOLOv5's validation sees on its way to mAP: the boxes of each image, and AP by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.ops import batched_nms

from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.evaluate import Accuracy
from yolo_slim.host.tasks import SEGMENTATION, task_of_model
from yolo_slim.host.validation import Validation

mend()

from yolov5.utils.general import xywh2xyxy  # noqa: E402


@dataclass(frozen=True)
class Objects:
    """The objects of an image: true ones, or those that a model found.

    Attributes:
        file: the image.
        size: its height and width, px.
        corners: left, top, right, bottom of each box, px of the image; (n, 4).
        labels: class of each; (n,).
        scores: confidence of each, 1 for true ones; (n,).
    """

    file: Path
    size: tuple[int, int]
    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Predictions:
    """What a validation saw.

    Attributes:
        accuracy: what it gives as a result.
        classes: class to AP at IoU 0.50 and to AP averaged over IoU 0.50 to 0.95, of boxes, for
            each class that has true objects.
        images: what the model found, image by image, in the order of `true_objects`.
    """

    accuracy: Accuracy
    classes: dict[int, tuple[float, float]]
    images: tuple[Objects, ...]


def predictions(
    validation: Validation, model: nn.Module, *, least: float, overlap: float = 0.45
) -> Predictions:
    """Validate a model, and keep what the host's validation finds on the way.

    Args:
        validation: the images.
        model: left untouched.
        least: lowest confidence of the boxes that are kept; mAP counts all of them.
        overlap: of two boxes of a class with a larger IoU the surer one is kept, as in the host's
            detect; mAP counts what its validation keeps, which is up to 0.6.

    Example:
        seen = predictions(Validation(model, data, imgsz=320), model, least=0.25)
        print(seen.accuracy, seen.classes[0], len(seen.images[0].scores))
    """
    host = task_of_model(model).script("val")
    outlines = task_of_model(model) is SEGMENTATION
    counts = "ap_per_class_box_and_mask" if outlines else "ap_per_class"
    boxes, results = list[torch.Tensor](), list[Any]()
    suppress, count = host.non_max_suppression, getattr(host, counts)

    def non_max_suppression(*args: Any, **kwargs: Any) -> Any:
        kept = suppress(*args, **kwargs)
        boxes.extend(each[:, :6].detach().cpu().clone() for each in kept)
        return kept

    def per_class(*args: Any, **kwargs: Any) -> Any:
        results.append(count(*args, **kwargs))
        return results[-1]

    with replaced(host, **{"non_max_suppression": non_max_suppression, counts: per_class}):
        accuracy = validation(model)
    images = zip(_images(validation), boxes, strict=True)
    seen = tuple(_found(image, each, least, overlap) for image, each in images)
    return Predictions(accuracy, _by_class(results, outlines), seen)


def true_objects(validation: Validation) -> tuple[Objects, ...]:
    """The labels of each image, as the host's validation reads them."""
    objects = []
    for image in _images(validation):
        rows = image.targets.clone()
        height, width = image.shape
        corners = xywh2xyxy(rows[:, 1:5] * torch.tensor([width, height, width, height]))
        labels = rows[:, 0].numpy().astype(int)
        ones = np.ones(len(labels), dtype=np.float32)
        objects.append(Objects(image.file, image.size, image.native(corners), labels, ones))
    return tuple(objects)


@dataclass(frozen=True)
class _Image:
    """An image in a batch.

    Attributes:
        file, size: see `Objects`.
        shape: height and width in the batch, px.
        scaled: how the host has scaled and padded it.
        targets: class, and centre and size as shares of the shape; (n, 5).
    """

    file: Path
    size: tuple[int, int]
    shape: tuple[int, int]
    scaled: Any
    targets: torch.Tensor

    def native(self, corners: torch.Tensor) -> np.ndarray:
        """Corners (n, 4) in the batch as px of the image.

        The host's scale_boxes takes the ratio of the heights for both sides: on an image that is
        ten times as wide as it is high it is off by a tenth.
        """
        (down, along), (left, top) = self.scaled
        gain = torch.tensor([along, down, along, down])
        native = (corners - torch.tensor([left, top, left, top])) / gain
        height, width = self.size
        return native.clamp(min=0).minimum(torch.tensor([width, height, width, height])).numpy()


def _images(validation: Validation) -> Iterator[_Image]:
    """The images of all batches, in their order."""
    for batch, targets, files, sizes, *_ in validation.batches:
        for index, (file, (size, scaled)) in enumerate(zip(files, sizes, strict=True)):
            own = targets[targets[:, 0] == index, 1:6]
            height, width = batch.shape[2:]
            native = (int(size[0]), int(size[1]))
            yield _Image(Path(file), native, (int(height), int(width)), scaled, own)


def _found(image: _Image, boxes: torch.Tensor, least: float, overlap: float) -> Objects:
    """The boxes (n, 6) of an image that are kept, the surest first."""
    kept = boxes[boxes[:, 4] >= least].float()
    kept = kept[batched_nms(kept[:, :4], kept[:, 4], kept[:, 5], overlap)]
    corners, labels = image.native(kept[:, :4]), kept[:, 5].numpy().astype(int)
    return Objects(image.file, image.size, corners, labels, kept[:, 4].numpy())


def _by_class(results: Sequence[Any], outlines: bool) -> dict[int, tuple[float, float]]:
    """AP of the classes that the host counted; of nothing, where no box was right."""
    if not results:
        return {}
    if outlines:
        ap, classes = results[-1]["boxes"]["ap"], results[-1]["boxes"]["ap_class"]
    else:
        ap, classes = results[-1][5], results[-1][6]
    rows = zip(classes, np.asarray(ap), strict=True)
    return {int(label): (float(row[0]), float(row.mean())) for label, row in rows}
