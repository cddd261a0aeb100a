"""The image that a model takes: read off a YOLOv5 detector, stated by any other model."""

from __future__ import annotations

from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.checkpoint import yolo


def is_detector(model: nn.Module) -> bool:
    """True for a YOLOv5 DetectionModel or SegmentationModel, pruned or not."""
    return isinstance(model, yolo.DetectionModel)


def smallest_image(model: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of the smallest image that a model takes, px.

    A YOLOv5 detector takes multiples of its largest stride (at least 32). Any other model takes
    images of one size, which it names in an attribute: `image = (3, 32, 32)`.

    Raises:
        InputError: the attribute is missing, or is not three whole numbers from 1 on.
    """
    if is_detector(model):
        stride = max(int(model.stride.max()), 32)
        return int(model.yaml.get("ch", 3)), stride, stride
    name, image = type(model).__name__, getattr(model, "image", None)
    expected = "an attribute image = (channels, height, width)"
    if image is None:
        raise InputError(name, "no YOLOv5 detector, and no image", expected)
    sizes = tuple(image) if isinstance(image, tuple | list) else ()
    if len(sizes) != 3 or not all(type(size) is int and size > 0 for size in sizes):
        raise InputError(f"{name}.image", repr(image), expected)
    return sizes[0], sizes[1], sizes[2]
