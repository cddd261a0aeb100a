"""Images of the training split, letterboxed as an exported file takes them, read when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.deploy.options import LEAST_IMAGES
from yolo_slim.errors import InputError
from yolo_slim.host.data import images as image_files
from yolo_slim.host.image import read_images, readable
from yolo_slim.text import counted

HELD = 32  # images that a file is judged on, at most; they are held in memory


@dataclass(frozen=True)
class Images(Sequence[np.ndarray]):
    """Batches of images.

    Attributes:
        files: images.
        imgsz: height and width, px.
        batch: images of a batch; the last one is filled up with the first images.
    """

    files: tuple[Path, ...]
    imgsz: tuple[int, int]
    batch: int = 1

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first, count = index * self.batch, len(self.files)
        files = [self.files[i % count] for i in range(first, first + self.batch)]
        return read_images(files, *self.imgsz)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))


def training_images(
    data: dict[str, Any], count: int, imgsz: tuple[int, int], batch: int = 1
) -> tuple[Images, Images]:
    """Images to calibrate on, and others to judge what was calibrated.

    Args:
        data: from `read_data`.
        count: of those to calibrate on, chosen at random; fewer where there are not so many: the
            fifth part at most, and no more than HELD, is kept apart for the judging.
        imgsz: height and width, px.
        batch: images of a batch.

    Raises:
        InputError: the training split has too few images, or none that can be read.
    """
    where = f"train: {data.get('train')}"
    files = image_files(data, "train")
    order = np.random.default_rng(0).permutation(len(files))
    chosen = readable([files[i] for i in order], count + HELD, where)
    if len(chosen) < LEAST_IMAGES:
        expected = f"{LEAST_IMAGES} or more, to calibrate on"
        raise InputError(where, counted(len(chosen), "image"), expected)
    held = min(HELD, len(chosen) // 5)
    parts = chosen[held:][:count], chosen[:held]
    calibrated, judged = (Images(tuple(part), imgsz, batch) for part in parts)
    return calibrated, judged
