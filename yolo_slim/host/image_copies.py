"""The decoded copies that YOLOv5's --cache disk leaves beside images: whole and fresh ones count.

YOLOv5 reads a copy wherever one lies, in all later runs: the image as it was before a change; an
array of the user's of that name; or a part, if a process was killed while it wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.host.compat import mend

mend()

from yolov5.utils.dataloaders import LoadImagesAndLabels  # noqa: E402

NONE = Path("no copy.npy")
_load, _write = LoadImagesAndLabels.load_image, LoadImagesAndLabels.cache_images_to_disk


def is_image(copy: Path) -> bool:
    """Whether a file is a whole image, (h, w, 3) uint8; it may be an array of the user's."""
    try:
        content = np.load(copy, mmap_mode="r")  # the head, and whether the rest is there
    except (OSError, ValueError, EOFError):
        return False
    return content.ndim == 3 and content.shape[2] == 3 and content.dtype == np.uint8


def is_older(copy: Path, image: str | Path) -> bool:
    """Whether an image was changed after the file beside it was written."""
    return copy.stat().st_mtime < Path(image).stat().st_mtime


def load_image(self: Any, i: int) -> Any:
    """The host's, of the image where its copy is none."""
    copy = self.npy_files[i]
    if copy.exists() and (is_older(copy, self.im_files[i]) or not is_image(copy)):
        self.npy_files[i] = NONE
    return _load(self, i)


def cache_images_to_disk(self: Any, i: int) -> None:
    """The host's, which keeps what lies there: an older image is written anew."""
    copy = self.npy_files[i]
    if copy.exists() and is_older(copy, self.im_files[i]) and is_image(copy):
        copy.unlink(missing_ok=True)
    _write(self, i)


def install() -> None:
    """Point the host's names to ours."""
    LoadImagesAndLabels.load_image = load_image
    LoadImagesAndLabels.cache_images_to_disk = cache_images_to_disk
