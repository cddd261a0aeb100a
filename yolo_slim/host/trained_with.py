"""What the training of a checkpoint means for the steps after it: its image size and its classes.

YOLOv5's options say what was asked for, not always what was done: --imgsz is rounded up to the
stride of the model, and with --single-cls the data has more classes than the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from yolo_slim.errors import InputError, check_imgsz
from yolo_slim.host.checkpoint import Checkpoint

USUAL = 640  # px, where nothing is known


def stride_of(model: nn.Module) -> int:
    """What the sides of an image must be a multiple of, px, as the host has it."""
    return max(int(model.stride.max()), 32)


def imgsz_of(source: Checkpoint, given: int | None = None) -> int:
    """The image size of a step, px: the given one, or that of the training as the host rounded it.

    Raises:
        InputError: the given one is no multiple of the model's stride.
    """
    stride = stride_of(source.model)
    if given is not None:
        return check_imgsz(given, stride)
    trained = int(source.train.get("imgsz") or USUAL)
    return max(-(-trained // stride), 1) * stride


def check_trained_imgsz(imgsz: int, model: nn.Module) -> int:
    """An image size that the host trains at as it is: it takes two strides or more.

    Raises:
        InputError: the host would train at another size, and the next step would not know.
    """
    stride = stride_of(model)
    check_imgsz(imgsz, stride)
    if imgsz < 2 * stride:
        raise InputError("--imgsz", imgsz, f"{2 * stride} or more: YOLOv5 trains at no less")
    return imgsz


def all_as_one(train: Mapping[str, Any], model: nn.Module) -> bool:
    """True if a model was trained with --single-cls: it takes all classes of the data for one."""
    return bool(train.get("single_cls")) and model.model[-1].nc == 1


def classes_of(source: Checkpoint) -> int | None:
    """How many classes the data of a model has; None: any number, see `all_as_one`."""
    return None if all_as_one(source.train, source.model) else int(source.model.model[-1].nc)
