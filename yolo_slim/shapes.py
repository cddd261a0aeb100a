"""The demo data: geometric shapes on noisy backgrounds, drawn with OpenCV, with YOLO labels.

Called by the `download:` entries of data/shapes.yaml and data/shapes-seg.yaml on first use.
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
    folder: str | Path,
    *,
    train: int = 512,
    val: int = 80,
    size: int = 160,
    seed: int = 0,
    polygons: bool = False,
) -> Path:
    """Draw the data set: images/{train,val}/*.png and labels/{train,val}/*.txt.

    It is drawn beside its place and renamed, so that an interrupted run leaves nothing half-made.

    Args:
        folder: where to; an existing one is replaced.
        train, val: number of images.
        size: side of the square images, px.
        seed: the same seed draws the same images.
        polygons: labels are outlines (class x1 y1 x2 y2 ...) in place of boxes (class x y w h),
            both as shares of the size.
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    rng = np.random.default_rng(seed)
    jobs = [("train", i) for i in range(train)] + [("val", i) for i in range(val)]
    for split, index in tqdm(jobs, desc="drawing shapes", unit="image"):
        image, shapes = draw_image(rng, size)
        for kind in ("images", "labels"):
            (aside / kind / split).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(aside / "images" / split / f"{index:04}.png"), image)
        rows = [(c, (clip if polygons else box)(points, size) / size) for c, points in shapes]
        text = "\n".join(f"{c} " + " ".join(f"{v:.6f}" for v in row.ravel()) for c, row in rows)
        (aside / "labels" / split / f"{index:04}.txt").write_text(text + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return folder


def draw_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[tuple[int, Points]]]:
    """One image (size, size, 3) uint8 and the class and outline of each shape on it."""
    ramp = np.linspace(0, 1, size)[:, None, None] * rng.uniform(-60, 60, 3)
    image = rng.uniform(60, 190, 3) + ramp + rng.normal(0, 12, (size, size, 3))
    image = np.clip(np.broadcast_to(image, (size, size, 3)), 0, 255).astype(np.uint8).copy()
    shapes: list[tuple[int, Points]] = []
    for _ in range(rng.integers(1, 7)):
        kind, radius = int(rng.integers(len(NAMES))), rng.uniform(0.06, 0.2) * size
        x, y = rng.uniform(radius, size - radius, 2)
        points = OUTLINES[kind](rng.uniform(0, 2 * np.pi)) * radius + (x, y)
        if any(_overlap(corners(points, size), corners(p, size)) > 0.15 for _, p in shapes):
            continue
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - image[int(y), int(x)]).sum() < 120:  # too close to the background
            colour = (colour + 128) % 256
        cv2.fillPoly(image, [points.round().astype(np.int32)], colour.tolist(), cv2.LINE_AA)
        shapes.append((kind, points))
    return image, shapes


def corners(points: Points, size: int) -> np.ndarray:
    """x1, y1, x2, y2 of an outline within the image, px."""
    return np.concatenate([points.min(0).clip(0), points.max(0).clip(max=size)])


def box(points: Points, size: int) -> np.ndarray:
    """Centre x, y, width and height of an outline within the image, px."""
    low, high = corners(points, size).reshape(2, 2)
    return np.concatenate([(low + high) / 2, high - low])


def clip(points: Points, size: int) -> Points:
    """The part of an outline within the image, cut at one border after another."""
    for axis, sign, border in ((0, -1, 0), (0, 1, size), (1, -1, 0), (1, 1, size)):
        beyond = sign * (points[:, axis] - border)  # px
        kept = []
        for i, (p, a) in enumerate(zip(points, beyond, strict=True)):
            q, b = points[i - 1], beyond[i - 1]
            if a * b < 0:  # the edge from q to p crosses the border
                kept.append(q + (p - q) * b / (b - a))
            if a <= 0:
                kept.append(p)
        points = np.array(kept)
    return points


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
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
