"""curve.png: accuracy against latency, cuts and smaller images, and the front of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_slim.curve.front import front
from yolo_slim.curve.labels import placed
from yolo_slim.curve.points import CUT, DENSE, SIZE, TRAINED, Curve, Point
from yolo_slim.pictures import ACCENT, GONE, GREY, INK, LEAF, new_figure, own_style, write_picture
from yolo_slim.text import shortened

PICTURE = "curve.png"
LOOKS: dict[str, dict[str, Any]] = {  # colour and marker both tell the families apart
    CUT: {"color": ACCENT, "marker": "o", "ms": 7, "label": "cut and recovered, not trained"},
    SIZE: {"color": INK, "marker": "s", "ms": 6, "label": "not cut, a smaller image"},
    TRAINED: {"color": LEAF, "marker": "*", "ms": 13, "label": "a finished run"},
    DENSE: {"color": "black", "marker": "D", "ms": 7, "label": "not cut"},
}
LONGEST = 28  # characters of a label


@own_style()
def plot_curve(curve: Curve, file: Path, bend: Point | None = None) -> Path:
    """Draw a curve whose times are measured.

    Args:
        curve: what was measured.
        file: a .png to write, aside and renamed.
        bend: the cut at which it bends, which is marked.
    """
    figure = new_figure(8.2, 5.2)
    axes = figure.subplots()
    draw_front(axes, curve)
    for family, look in LOOKS.items():
        points = curve.of(family)
        if not points:
            continue
        line = sorted([*points, curve.dense], key=lambda point: -point.time)
        if family in (CUT, SIZE):
            places = [[p.time for p in line], [p.map for p in line]]
            axes.plot(*places, color=look["color"], lw=1, alpha=0.5, zorder=2)
        places = [[p.time for p in points], [p.map for p in points]]
        axes.plot(*places, ls="", mec="white", mew=0.8, zorder=4, **look)
    if bend is not None:
        ring = {"marker": "o", "ms": 15, "mfc": "none", "mec": ACCENT, "mew": 1.3, "ls": ""}
        axes.plot(bend.time, bend.map, label="the curve bends", zorder=3, **ring)
    by_table = curve.by == "latency"
    where = curve.settings["device"] if by_table else "ONNX Runtime on this machine"
    text = f"ms for an image, {where}, {curve.settings['threads']} threads"
    axes.set(xlabel=text.replace(" 1 threads", " 1 thread"), ylabel="mAP50-95")
    axes.set_xlim(0, 1.08 * max(point.time for point in curve.points))
    axes.set_ylim(0, 1.1 * max(point.map for point in curve.points))
    axes.set_title("How much could be cut, and would a smaller image do better?")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    write_labels(figure, axes, curve)
    return write_picture(figure, file)


def draw_front(axes: Any, curve: Curve) -> None:
    """The best that can be had in a time, as a step: between two points it is the quicker one."""
    best = front(curve.points)
    ends = [point.time for point in best] + [max(point.time for point in curve.points) * 1.08]
    heights = [point.map for point in best] + [best[-1].map]
    look = {"color": GONE, "lw": 7, "solid_joinstyle": "round", "zorder": 1}
    axes.step(ends, heights, where="post", label="the best of all in a time", **look)


def write_labels(figure: Any, axes: Any, curve: Curve) -> None:
    """A label beside each point, none over another."""
    figure.draw_without_rendering()  # the places of the axes are known from here on
    figure.set_layout_engine("none")
    points, texts = curve.points, [label_of(point) for point in curve.points]
    at = axes.transData.transform([(point.time, point.map) for point in points])
    frame = axes.get_window_extent()
    legend = axes.get_legend().get_window_extent()
    drawn = [
        axes.text(0, 0, text, size=8, color=LOOKS[point.family]["color"], va="bottom", zorder=5)
        for point, text in zip(points, texts, strict=True)
    ]
    extents = [text.get_window_extent() for text in drawn]
    sizes = [(box.width, box.height) for box in extents]
    boxes = placed(at.tolist(), sizes, frame.extents, [tuple(legend.extents)], gap=7.0)
    for text, (x, y), box in zip(drawn, at, boxes, strict=True):
        left, low, right, high = box
        text.set_position(axes.transData.inverted().transform((left, low)))
        away = max(left - x, x - right, low - y, y - high)
        if away > 12:  # px: then a line shows whose label it is
            middle = (min(max(x, left), right), min(max(y, low), high))
            ends = axes.transData.inverted().transform([(x, y), middle])
            axes.plot(*ends.T, color=GREY, lw=0.6, zorder=2)


def label_of(point: Point) -> str:
    """What stands beside a point."""
    if point.family == TRAINED:
        return shortened(point.label, LONGEST)
    return point.label
