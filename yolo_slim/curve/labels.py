"""Where the labels of points in a picture go, so that none lies on another or on a point."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[float, float, float, float]  # left, bottom, right, top

# Where a label may lie from its point, what is preferred first; then the same, farther off.
SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
FARTHER = (1.0, 2.2, 3.6)


def placed(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    around: Box,
    others: Sequence[Box] = (),
    gap: float = 5.0,
) -> list[Box]:
    """A box for the label of each point.

    Each label takes the first place that is free; where none is, the one that covers least.

    Args:
        points: (x, y), px.
        sizes: (width, height) of the labels, px.
        around: what they should not leave.
        others: boxes that they should not cover either.
        gap: between a point and its label, px; a point is a square of half of that to each side.

    Example:
        >>> placed([(50, 50), (50, 50)], [(20, 8)] * 2, (0, 0, 99, 99))
        [(55.0, 55.0, 75.0, 63.0), (55.0, 37.0, 75.0, 45.0)]
    """
    half = gap / 2
    taken = [(x - half, y - half, x + half, y + half) for x, y in points] + list(others)
    boxes = []
    for (x, y), size in zip(points, sizes, strict=True):
        places = [beside(x, y, size, gap * far, side) for far in FARTHER for side in SIDES]
        box = min(places, key=lambda place: cost(place, taken, around))
        boxes.append(box)
        taken.append(box)
    return boxes


def beside(x: float, y: float, size: tuple[float, float], gap: float, side: tuple[int, int]) -> Box:
    """The box of a label at one side of its point."""
    (width, height), (right, up) = size, side
    left = x + right * gap + (right - 1) / 2 * width
    low = y + up * gap + (up - 1) / 2 * height
    return left, low, left + width, low + height


def cost(box: Box, taken: Sequence[Box], around: Box) -> float:
    """px that a box covers of others, and that it lies outside."""
    width, height = box[2] - box[0], box[3] - box[1]
    return sum(common(box, other) for other in taken) + width * height - common(box, around)


def common(one: Box, other: Box) -> float:
    """px that two boxes have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
