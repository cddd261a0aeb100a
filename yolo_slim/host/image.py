"""Images: the size that a model takes, and files as YOLOv5 letterboxes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.classes import yolo
from yolo_slim.host.compat import mend
from yolo_slim.host.data_yaml import tell
from yolo_slim.host.loading import decodes, read_image
from yolo_slim.host.soundness import check_detector, check_strides
from yolo_slim.text import counted

mend()

from yolov5.utils.augmentations import letterbox  # noqa: E402


def sides(imgsz: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image, px; one number is both."""
    return imgsz if isinstance(imgsz, tuple) else (imgsz, imgsz)


def is_detector(model: nn.Module) -> bool:
    """True for a YOLOv5 DetectionModel or SegmentationModel, pruned or not."""
    return isinstance(model, yolo.DetectionModel)


def check_model(model: Any) -> None:
    """See that it is a module, and of a detector that it fits itself.

    Raises:
        InputError: it is what holds one, or something else; or see `check_detector`.
    """
    check_module(model)
    if is_detector(model):
        check_detector(model, "model")
        strides = getattr(model, "stride", None)
        check_strides(strides, len(model.model[-1].m), "model.stride")


def check_module(model: Any) -> None:
    """See that it is a module.

    Raises:
        InputError: it is what holds one, or something else.
    """
    if isinstance(model, nn.Module):
        return
    kind = type(model).__name__
    if isinstance(getattr(model, "model", None), nn.Module):
        raise InputError("model", f"a {kind}", f"the model that it holds: {kind.lower()}.model")
    a_file = isinstance(model, str | Path)
    expected = f"load({str(model)!r}).model" if a_file else "an nn.Module, such as load(...).model"
    raise InputError("model", repr(model)[:80], expected)


def check_rgb(model: nn.Module, where: str | Path) -> None:
    """See that a detector takes images of three channels: YOLOv5 reads no others.

    Raises:
        InputError: it takes others.
    """
    channels = int(model.yaml.get("ch", 3)) if is_detector(model) else 3
    if channels != 3:
        raise InputError(where, f"images of {counted(channels, 'channel')}", "3, RGB")


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


def readable(files: Iterable[Path], count: int, where: str) -> list[Path]:
    """The first of some files that are images; what is passed over is told in a line.

    Args:
        files: paths.
        count: so many, or all that are readable where there are fewer.
        where: what an error calls them.

    Raises:
        InputError: there are some, and none is readable.
    """
    chosen: list[Path] = []
    bad: list[Path] = []
    for file in files:
        if len(chosen) == count:
            break
        (chosen if decodes(file) else bad).append(file)
    if bad and not chosen:
        got = f"none of {counted(len(bad), 'image')} can be read, such as {bad[0]}"
        raise InputError(where, got, "images that OpenCV reads")
    if bad:
        more = f" and {len(bad) - 1} more" * (len(bad) > 1)
        tell(f"{bad[0]}{more}: not an image that OpenCV reads, skipped")
    return chosen


def read_images(files: Sequence[Path], height: int, width: int | None = None) -> np.ndarray:
    """Letterbox images as YOLOv5's detect does: (n, 3, height, width) float32 in [0, 1], RGB.

    Raises:
        InputError: a file is not an image.
    """
    batch = []
    for file in files:
        image = read_image(file)
        if image is None:
            raise InputError(file, "not an image", "an image that OpenCV reads")
        image = letterbox(image, (height, width or height), auto=False)[0]
        batch.append(image[:, :, ::-1].transpose(2, 0, 1))
    return np.stack(batch).astype(np.float32) / 255
