"""YOLOv5's validation over and over: the images stay in memory, nothing is printed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.data import images as image_files
from yolo_slim.host.evaluate import Accuracy, val_loader, validate
from yolo_slim.host.tasks import task_of_model
from yolo_slim.text import counted

mend()

from yolov5.utils import dataloaders, general  # noqa: E402


class Validation:
    """Images of a split, letterboxed into batches as `evaluate` does, and held in memory.

    Called with a model it gives what `evaluate` gives, to the bit. A batch of 32 takes 40 MB at
    640 px.

    Attributes:
        images: how many there are.
        batches: as the host's loader yields them: images uint8 (n, 3, h, w), targets, files, sizes.
    """

    def __init__(
        self,
        model: nn.Module,
        data: dict[str, Any],
        *,
        imgsz: int = 640,
        images: int | None = None,
        device: str = "",
        split: str = "val",
        progress: bool = True,
    ) -> None:
        """Load the images.

        Args:
            model: tells the stride, and whether masks are needed; left untouched.
            data: from `read_data`; nothing is written beside the images.
            imgsz: longest side of an image, px.
            images: so many of the split, evenly spread over its files; None: all.
            device, split: as in `evaluate`.
            progress: show a bar.

        Raises:
            InputError: a split without images or without labels; fewer than one image asked for; a
                segmentation model, and labels that are boxes.
        """
        files = spread(image_files(data, split), images)
        with tempfile.TemporaryDirectory() as folder, quiet(task_of_model(model).script("val")):
            listed = Path(folder) / "images.txt"  # the host puts its label cache beside this
            listed.write_text("\n".join(map(str, files)), encoding="utf-8")
            chosen = {**data, split: str(listed)}
            loader = val_loader(model, chosen, imgsz=imgsz, workers=0, split=split)
            if not any(map(len, loader.dataset.labels)):
                raise InputError(
                    split, f"{counted(len(files), 'image')} without labels", "labelled images"
                )
            bar = {"desc": "loading images", "unit": "batch", "leave": False, "delay": 1}
            self.batches = list(tqdm(loader, disable=not progress, **bar))
        self.data, self.imgsz, self.device = data, imgsz, device
        self.images = sum(len(batch[0]) for batch in self.batches)

    def __call__(self, model: nn.Module) -> Accuracy:
        """mAP of a model, which is left untouched."""
        batches = [(im, targets.clone(), *rest) for im, targets, *rest in self.batches]
        with quiet(task_of_model(model).script("val")):
            return validate(model, self.data, batches, imgsz=self.imgsz, device=self.device)


def spread(files: list[Path], count: int | None) -> list[Path]:
    """`count` of some files, evenly spread; all where there are no more, or with None.

    Raises:
        InputError: count is below one.
    """
    if count is not None and count < 1:
        raise InputError("--images", count, "1 or more")
    if count is None or count >= len(files):
        return files
    return [files[i] for i in np.linspace(0, len(files) - 1, count).round().astype(int)]


@contextmanager
def quiet(host: Any) -> Iterator[None]:
    """Neither the bars nor the tables of a val module of the host, nor of its loaders."""
    no_bar = partial(tqdm, disable=True)
    with (
        replaced(general.LOGGER, disabled=True),
        replaced(dataloaders, tqdm=no_bar),
        replaced(host, tqdm=no_bar),
    ):
        yield
