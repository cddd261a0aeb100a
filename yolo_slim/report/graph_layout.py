"""Where things stand in the picture of a channel graph. Pure arithmetic, in inches, y downwards.

One row a YOLO layer. From left to right: lanes for the connections that skip layers, a spine with a
dot a layer, the layer's name, and one box a BatchNorm, on further lines where a row is full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from yolo_slim.report.inspection import Inspection, LayerView, NormView

MARGIN = 0.15
LANE = 0.16  # between two lanes
PAD = 0.06  # inside a box, and between a row's edge and its boxes
GAP = 0.07  # between two boxes
BOX_HEIGHT = 0.38
PLAIN_HEIGHT = 0.28  # of a row without boxes
STRIP = 0.58  # length of the scale of |gamma| in a box
GROWTH = 0.6  # what the widest BN is wider than one of no channels
FULL = 13.0  # largest width of the picture
LEAST = 8.5  # smallest: what the legend takes

NAME, LABEL, SMALL = 8.5, 7.5, 7.0  # sizes of text, points
Measure = Callable[[str, float], float]  # (text, size in points) -> width in inches, if bold


@dataclass(frozen=True)
class Box:
    """A BN, or a module without a rule: its upper left corner and its width."""

    x: float
    y: float
    width: float
    norm: NormView | None
    label: str = ""


@dataclass(frozen=True)
class Row:
    """A layer: from `y` to `y + height`; its dot stands at `dot`."""

    layer: LayerView
    y: float
    height: float
    boxes: tuple[Box, ...]

    @property
    def dot(self) -> float:
        """The middle of its first line."""
        return self.y + PAD + (BOX_HEIGHT if self.boxes else PLAIN_HEIGHT) / 2


@dataclass(frozen=True)
class Link:
    """A layer that others than the next read: a line in a lane; lane 0 is next to the spine."""

    source: int
    readers: tuple[int, ...]
    lane: int


@dataclass(frozen=True)
class Layout:
    """The whole picture; `spine` and `names` are the x of the dots and of the layers' names."""

    rows: tuple[Row, ...]
    links: tuple[Link, ...]
    spine: float
    names: float
    width: float
    height: float


def lay_out(view: Inspection, measure: Measure, *, top: float = 0.0) -> Layout:
    """Place everything.

    Args:
        view: the model.
        measure: the width of a text.
        top: inches that the legend takes.
    """
    links = find_links(view.layers)
    lanes = 1 + max((link.lane for link in links), default=-1)
    spine = MARGIN + lanes * LANE + 0.1
    names = spine + 0.2 + measure(str(len(view.layers)), NAME)
    left = (
        names
        + 0.15
        + max(
            max(measure(v.title, NAME), measure(f"reads {v.sources}", SMALL)) for v in view.layers
        )
    )
    most = max((n.norm.channels for n in view.norms), default=1)
    rows, y = [], top
    for layer in view.layers:
        boxes = [Box(0, 0, box_width(n, n.label, most, measure), n, n.label) for n in layer.norms]
        for name, kind in layer.unknown:
            inside = name.split(".", 1)[1].partition(".")[2]
            label = f"{inside}: {kind}, no rule" if inside else f"{kind}, no rule"
            boxes.append(Box(0, 0, box_width(None, label, most, measure), None, label))
        placed = tuple(wrap(boxes, left, y + PAD))
        end = placed[-1].y + BOX_HEIGHT if placed else y + PAD + PLAIN_HEIGHT
        rows.append(Row(layer, y, end + PAD - y, placed))
        y = end + PAD
    width = max([LEAST, *(b.x + b.width + MARGIN for row in rows for b in row.boxes)])
    return Layout(tuple(rows), links, spine, names, width, y + MARGIN)


def wrap(boxes: Sequence[Box], left: float, y: float) -> Iterator[Box]:
    """Place boxes on as many lines as they need; those of one Bottleneck stay on one line."""
    x = left
    for _, together in groupby(boxes, key=lambda box: box.label.rpartition(".")[0]):
        unit = list(together)
        room = FULL - MARGIN - left
        whole = sum(box.width + GAP for box in unit) - GAP
        for i, box in enumerate(unit):
            needed = whole if i == 0 and whole <= room else box.width
            if x > left and x + needed > left + room:
                x, y = left, y + BOX_HEIGHT + GAP
            yield replace(box, x=x, y=y)
            x += box.width + GAP


def box_width(norm: NormView | None, label: str, most: int, measure: Measure) -> float:
    """At least what its text takes; grows with the root of its share of the `most` channels."""
    if norm is None:
        return measure(label, LABEL) + 2 * PAD
    text = measure(label, LABEL) + measure(str(norm.norm.channels), LABEL) + 0.1
    badge = measure(norm.tie, SMALL) + 0.12 if norm.tie else 0
    least = max(text, STRIP + badge) + 2 * PAD
    return max(least, STRIP + 2 * PAD + GROWTH * (norm.norm.channels / most) ** 0.5)


def find_links(layers: Sequence[LayerView]) -> tuple[Link, ...]:
    """What is read by others than the next layer, short ones in the inner lanes."""
    readers: dict[int, list[int]] = {}
    for layer in layers:
        for source in set(layer.reads):
            if 0 <= source != layer.index - 1:
                readers.setdefault(source, []).append(layer.index)
    spans = sorted(readers.items(), key=lambda item: (item[1][-1] - item[0], item[0]))
    lanes: list[list[tuple[int, int]]] = []
    links = []
    for source, ends in spans:
        end = ends[-1]
        free = (
            i
            for i, taken in enumerate(lanes)
            if all(end < first or last < source for first, last in taken)
        )
        lane = next(free, len(lanes))
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append((source, end))
        links.append(Link(source, tuple(ends), lane))
    return tuple(links)
