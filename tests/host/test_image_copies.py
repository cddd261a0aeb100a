"""What --cache disk leaves beside the images does not outlive a change of them."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from yolov5.utils.dataloaders import LoadImagesAndLabels

from yolo_slim.host import loading  # noqa: F401 (installs ours)


def picture(value: int) -> np.ndarray:
    return np.full((32, 32, 3), value, np.uint8)


def first_pixel(cache: str | bool = False) -> int:
    return int(LoadImagesAndLabels("images", 32, cache_images=cache).load_image(0)[0][0, 0, 0])


def older(copy: Path) -> None:
    os.utime(copy, (1, 1))


def cut_short(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:300])


def emptied(copy: Path) -> None:
    copy.write_bytes(b"")


def of_objects(copy: Path) -> None:
    np.save(copy, np.array(None))


@pytest.mark.parametrize("spoil", [older, cut_short, emptied, of_objects])
def test_a_copy_that_is_none(spoil, empty_folder: Path) -> None:
    Path("images").mkdir()
    cv2.imwrite("images/a.png", picture(9))
    assert first_pixel("disk") == 9
    copy = Path("images/a.npy")
    np.save(copy, picture(7))
    assert first_pixel() == first_pixel("disk") == 7  # the host's way with a good one
    spoil(copy)
    assert first_pixel() == 9 and copy.exists()
    left = copy.read_bytes()
    assert first_pixel("disk") == 9
    if spoil is older:
        assert np.load(copy)[0, 0, 0] == 9
    else:  # it may be the user's
        assert copy.read_bytes() == left
