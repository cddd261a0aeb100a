"""The validation images of a page: which are shown, how large, with which boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from yolo_slim.host.predictions import Objects
from yolo_slim.page.model import Box, Picture

SHOWN, SIDE, QUALITY = 24, 640, 80  # pictures; px of the longer side; of a JPEG
ROOM = 2_500_000  # bytes of all pictures together: as text in the page they take a third more


def order(changes: Sequence[int]) -> list[int]:
    """Indices of images, those with most changes first; equal ones in their own order.

    Example:
        >>> order([0, 3, 1, 3])
        [1, 3, 2, 0]
    """
    return sorted(range(len(changes)), key=lambda index: -changes[index])


def pictures(
    truths: Sequence[Objects],
    found: Sequence[Sequence[tuple[Objects, np.ndarray]] | None],
    chosen: Sequence[int],
) -> tuple[Picture, ...]:
    """Images with their boxes, as many as there is room for.

    Args:
        truths: true objects of each image.
        found: of each model, its boxes in each image and what they match; None: it was not run.
        chosen: indices of images, the most telling first.
    """
    shown, room = list[Picture](), ROOM
    for index in chosen:
        if len(shown) == SHOWN:
            break
        truth = truths[index]
        jpeg, scale = _jpeg(truth.file)
        if not jpeg or len(jpeg) > room:
            continue
        room -= len(jpeg)
        height, width = (max(round(side * scale), 1) for side in truth.size)
        boxes = tuple(None if each is None else _boxes(*each[index], scale) for each in found)
        true = _boxes(truth, np.full(len(truth.labels), -1), scale)
        shown.append(Picture(_name(truth.file), width, height, jpeg, true, boxes))
    return tuple(shown)


def _boxes(objects: Objects, match: np.ndarray, scale: float) -> tuple[Box, ...]:
    corners = np.round(objects.corners.astype(float) * scale, 1).tolist()
    rows = zip(objects.labels, corners, objects.scores, match, strict=True)
    return tuple(Box(int(c), tuple(xyxy), round(float(s), 3), int(m)) for c, xyxy, s, m in rows)


def _jpeg(file: Path) -> tuple[bytes, float]:
    """An image as it is shown, and its size as a share of the file's; no bytes: it is not read."""
    image = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return b"", 1.0
    scale = min(SIDE / max(image.shape[:2]), 1.0)
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    made, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return (jpeg.tobytes() if made else b""), scale


def _name(file: Path) -> str:
    """A file with its folder."""
    return f"{file.parent.name}/{file.name}"
