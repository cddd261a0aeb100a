"""The images of a data set and their label files, as YOLOv5's loader lists them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.files import read_text
from yolo_slim.host.data_yaml import SPLITS
from yolo_slim.host.loading import glob_below

from yolov5.utils.dataloaders import IMG_FORMATS, img2label_paths  # isort: skip


def listed(data: dict[str, Any], split: str) -> list[str]:
    """What the host takes for the images of a split, in its order; some may not be there.

    Of a folder these are the files below it that are not hidden, also behind symbolic links; of a
    text file its lines: those that begin with `./` below its own folder, the others from where the
    user stands.

    Args:
        data: from `read_data`.
        split: train, val or test.

    Raises:
        InputError: no such split.
    """
    if split not in SPLITS:
        raise InputError("split", repr(split), f"one of {', '.join(SPLITS)}")
    entries = data.get(split) or []
    files: list[str] = []
    for place in map(Path, entries if isinstance(entries, list) else [entries]):
        if place.is_dir():
            files += glob_below(str(place / "**" / "*.*"), recursive=True)
        elif place.is_file():
            above = f"{place.parent}{os.sep}"
            lines = (line.rstrip() for line in read_text(place).strip().splitlines())
            files += [f.replace("./", above, 1) if f.startswith("./") else f for f in lines]
    images = (f for f in files if f.split(".")[-1].lower() in IMG_FORMATS)
    return sorted(f.replace("/", os.sep) for f in images)


def images(data: dict[str, Any], split: str = "val") -> list[Path]:
    """The image files of a split that are there, see `listed`."""
    return [file for file in map(Path, listed(data, split)) if file.is_file()]


def labels_of(files: Sequence[Path]) -> list[str]:
    """Where the host looks for the labels of images; not all have some.

    That is in the folder `labels` in the place of the last `images` of the path.
    """
    labels: list[str] = img2label_paths([str(file) for file in files])
    return labels
