"""The demo data: geometric shapes on noisy backgrounds, drawn with OpenCV, with YOLO labels.

Called by the `download:` entry of data/shapes.yaml on first use.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

NAMES = ("circle", "square", "triangle", "cross")
Points = np.ndarray  # (n, 2) float, px


def make_shapes(
    folder: str | Path, *, train: int = 512, val: int = 80, size: int = 160, seed: int = 0
) -> Path:
    """Draw the data set: images/{train,val}/*.png and labels/{train,val}/*.txt.

    It is drawn beside its place and renamed, so that an interrupted run leaves nothing half-made.

    Args:
        folder: where to; an existing one is replaced.
        train, val: number of images.
        size: side of the square images, px.
        seed: the same seed draws the same images.
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    rng = np.random.default_rng(seed)
    jobs = [("train", i) for i in range(train)] + [("val", i) for i in range(val)]
    for split, index in tqdm(jobs, desc="drawing shapes", unit="image"):
        image, labels = draw_image(rng, size)
        for kind in ("images", "labels"):
            (aside / kind / split).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(aside / "images" / split / f"{index:04}.png"), image)
        text = "\n".join(f"{c} " + " ".join(f"{v:.6f}" for v in box) for c, *box in labels)
        (aside / "labels" / split / f"{index:04}.txt").write_text(text + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return folder


def draw_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    """One image (size, size, 3) uint8 and its labels (class, x, y, w, h), shares of the size."""
    ramp = np.linspace(0, 1, size)[:, None, None] * rng.uniform(-60, 60, 3)
    image = rng.uniform(60, 190, 3) + ramp + rng.normal(0, 12, (size, size, 3))
    image = np.clip(np.broadcast_to(image, (size, size, 3)), 0, 255).astype(np.uint8).copy()
    boxes: list[tuple[float, ...]] = []
    for _ in range(rng.integers(1, 7)):
        kind, radius = int(rng.integers(len(NAMES))), rng.uniform(0.06, 0.2) * size
        x, y = rng.uniform(radius, size - radius, 2)
        points = OUTLINES[kind](rng.uniform(0, 2 * np.pi)) * radius + (x, y)
        low, high = points.min(0).clip(0), points.max(0).clip(max=size)
        if any(_overlap((*low, *high), box[1:]) > 0.15 for box in boxes):
            continue
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - image[int(y), int(x)]).sum() < 120:  # too close to the background
            colour = (colour + 128) % 256
        cv2.fillPoly(image, [points.round().astype(np.int32)], colour.tolist(), cv2.LINE_AA)
        boxes.append((kind, *low, *high))
    labels: list[tuple[float, ...]] = [
        (c, (a + p) / 2 / size, (b + q) / 2 / size, (p - a) / size, (q - b) / size)
        for c, a, b, p, q in boxes
    ]
    return image, labels


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Shared area over the smaller of two (x1, y1, x2, y2) boxes."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    area = min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return max(w, 0) * max(h, 0) / area


def _ring(turn: float, n: int, radii: tuple[float, ...] = (1.0,)) -> Points:
    angle = turn + 2 * np.pi * np.arange(n) / n
    r = np.resize(radii, n)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], 1)


def _cross(turn: float) -> Points:
    t = 0.3
    arm = np.array([(1, -t), (1, t), (t, t)])
    turns = (turn + np.pi / 2 * np.arange(4))[:, None]
    x = arm[:, 0] * np.cos(turns) - arm[:, 1] * np.sin(turns)
    y = arm[:, 0] * np.sin(turns) + arm[:, 1] * np.cos(turns)
    return np.stack([x.ravel(), y.ravel()], 1)


OUTLINES: tuple[Callable[[float], Points], ...] = (
    lambda turn: _ring(turn, 40),
    lambda turn: _ring(turn, 4),
    lambda turn: _ring(turn, 3),
    _cross,
)
