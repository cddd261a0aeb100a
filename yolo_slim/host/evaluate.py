"""YOLOv5's own validation of a model in memory."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.data import check_labels
from yolo_slim.host.tasks import SEGMENTATION, Task, task_of_model
from yolo_slim.text import indices
from yolo_slim.weight_masks import baked

mend()

from yolov5.utils.general import LOGGER  # noqa: E402
from yolov5.utils.torch_utils import select_device  # noqa: E402

_TITLE: ContextVar[str] = ContextVar("title", default="")


@dataclass(frozen=True)
class Accuracy:
    """Mean average precision of boxes at IoU 0.50, and averaged over IoU 0.50 to 0.95.

    Attributes:
        map50, map: of boxes.
        mask_map50, mask_map: of masks; None for a model without.
    """

    map50: float
    map: float
    mask_map50: float | None = None
    mask_map: float | None = None

    def __str__(self) -> str:
        text = f"mAP50 {self.map50:.3f}, mAP50-95 {self.map:.3f}"
        if self.mask_map50 is None or self.mask_map is None:
            return text
        return f"boxes {text}, masks mAP50 {self.mask_map50:.3f}, mAP50-95 {self.mask_map:.3f}"


def check_device(device: str) -> None:
    """See that a --device is there: the host changes the environment before it looks.

    Raises:
        InputError: it is not.
    """
    wanted = str(device).lower().replace("cuda:", "").replace(" ", "")
    if wanted in ("", "cpu") or (wanted == "mps" and torch.backends.mps.is_available()):
        return
    count = torch.cuda.device_count()
    if not all(i.isdigit() and int(i) < count for i in wanted.split(",")):
        raise InputError(
            "--device",
            device,
            f"cpu, or a GPU by its number: {indices(count)}" if count else "cpu (no GPU)",
        )


def device_name(device: str = "") -> str:
    """What a --device is, in words, as the host chooses it: the first GPU where none is named."""
    wanted = str(device).lower().replace("cuda:", "").replace(" ", "")
    if wanted == "mps":
        return "the GPU of this Mac (mps)"
    if wanted == "cpu" or not torch.cuda.is_available():
        return "the CPU"
    first = int(wanted.split(",")[0] or 0)
    return f"{torch.cuda.get_device_name(first)} (cuda:{first})"


def evaluate(
    model: nn.Module,
    data: dict[str, Any],
    *,
    imgsz: int = 640,
    batch_size: int = 32,
    workers: int = 2,
    device: str = "",
    split: str = "val",
) -> Accuracy:
    """Validate a model as YOLOv5's val.py, or segment/val.py, does.

    That is with rectangular batches, confidence 0.001, NMS IoU 0.6, and true masks at full size,
    one to an object. Where no mask is right at all, the host gives 0 for the boxes as well. A model
    of one class takes all classes of the data for it, as after a training with --single-cls.

    Args:
        model: a detector or a segmentation model; left untouched.
        data: from `read_data`.
        imgsz: longest side of an image, px.
        batch_size, workers, device, split: as in val.py.

    Raises:
        InputError: a segmentation model, and labels that are boxes.
    """
    title = _TITLE.get()
    with one_bar(task_of_model(model).script("val"), title) if title else nullcontext():
        loader = val_loader(
            model, data, imgsz=imgsz, batch_size=batch_size, workers=workers, split=split
        )
        return validate(model, data, loader, imgsz=imgsz, device=device)


@contextmanager
def titled(title: str) -> Iterator[None]:
    """Each `evaluate` in the block shows one bar of this title, in place of the host's table."""
    token = _TITLE.set(title)
    try:
        yield
    finally:
        _TITLE.reset(token)


@contextmanager
def one_bar(host: Any, title: str) -> Iterator[None]:
    """A val module of the host shows a bar of this title, which goes when it is full.

    Its warnings are told as ever.
    """

    def bar(loader: Any, **_: Any) -> Any:
        return tqdm(loader, desc=title, unit="batch", leave=False)

    level = LOGGER.level
    try:
        LOGGER.setLevel(logging.WARNING)
        with replaced(host, tqdm=bar):
            yield
    finally:
        LOGGER.setLevel(level)


def val_loader(
    model: nn.Module,
    data: dict[str, Any],
    *,
    imgsz: int,
    batch_size: int = 32,
    workers: int = 2,
    split: str = "val",
    rect: bool = True,
) -> Any:
    """The host's loader of rectangular batches, as its validation of a model takes them.

    Args:
        model, data, imgsz, batch_size, workers, split: as in `evaluate`.
        rect: False: square images, as its validation of an exported file takes them.

    Raises:
        InputError: a segmentation model, and labels that are boxes.
    """
    task = task_of_model(model)
    single = is_single(model, data)
    check_labels(data, (split,), single_cls=single, outlines=task is SEGMENTATION)
    return task.script("val").create_dataloader(
        data[split],
        imgsz,
        batch_size,
        max(int(model.stride.max()), 32),
        pad=0.5,
        rect=rect,
        single_cls=single,
        workers=workers,
        prefix=f"{split}: ",
    )[0]


def is_single(model: nn.Module, data: dict[str, Any]) -> bool:
    """True if the model knows one class and the data has several: all labels are that class."""
    return bool(model.model[-1].nc == 1 < data["nc"])


def validate(
    model: nn.Module, data: dict[str, Any], loader: Any, *, imgsz: int, device: str = ""
) -> Accuracy:
    """The host's validation over the batches of a loader.

    Args:
        model: left untouched.
        data: from `read_data`.
        loader: from `val_loader`, or a list of what it yields; the host changes the targets.
        imgsz: side of the images in it, px.
        device: as in val.py.
    """
    copy = baked(model).to(select_device(device)).float().eval()
    single = is_single(model, data)
    return scored(copy, data, loader, imgsz=imgsz, task=task_of_model(model), single=single)


def scored(
    model: nn.Module, data: dict[str, Any], loader: Any, *, imgsz: int, task: Task, single: bool
) -> Accuracy:
    """The host's validation of a model as it is, or of what stands for one.

    Args:
        model, data, loader, imgsz: see `validate`.
        task: what the model is for.
        single: all labels are one class.
    """
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        results, *_ = task.script("val").run(
            data,
            model=model,
            dataloader=loader,
            imgsz=imgsz,
            save_dir=Path(folder),
            plots=False,
            half=False,
            single_cls=single,
        )
    boxes, masks = results[2:4], results[6:8] if task is SEGMENTATION else ()
    return Accuracy(*(float(value) for value in (*boxes, *masks)))
