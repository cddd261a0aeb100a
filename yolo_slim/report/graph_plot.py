"""The channel graph as a picture: one row a YOLO layer, one box a BatchNorm.

The line at the left is read like the history of a repository: each dot is a layer, which reads
the one above unless the line is broken; a line in a lane takes a layer's output further down.
"""

from __future__ import annotations

import colorsys
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from yolo_slim.pictures import ACCENT, INK, own_style, write_picture
from yolo_slim.report.graph_layout import (
    BOX_HEIGHT,
    LABEL,
    LANE,
    MARGIN,
    NAME,
    PAD,
    SMALL,
    STRIP,
    Box,
    Layout,
    Link,
    lay_out,
)
from yolo_slim.report.inspection import Inspection
from yolo_slim.text import shortened

TEXT, QUIET, BAND = "#17202a", "#616a6b", "#f4f6f7"
PRUNABLE, PINNED = "#d6eaf8", "#bfc5ca"
HUES = ["#d35400", "#1e8449", "#7d3c98", "#b7950b", "#c2185b", "#00838f", "#6d4c41", "#3949ab"]
TOP = 0.95  # inches of the legend


@own_style()
def plot_graph(view: Inspection, file: Path) -> Path:
    """Draw the graph of a model.

    Args:
        view: the model.
        file: a .png to write, aside and renamed.

    Raises:
        InputError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    place = lay_out(view, text_width, top=TOP)
    figure = pyplot.figure(figsize=(place.width, place.height))
    try:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, place.width), ylim=(place.height, 0))
        axes.axis("off")
        scale = gamma_scale(view)
        legend(axes, view, scale)
        rows(axes, place)
        for link in sorted(place.links, key=lambda link: -link.lane):
            connect(axes, place, link)
        for row in place.rows:
            for box in row.boxes:
                draw_box(axes, box, scale)
        return write_picture(figure, file)
    finally:
        pyplot.close(figure)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Inches that a bold text of `size` points takes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    bold = FontProperties(weight="bold", size=size)
    return TextPath((0, 0), text, prop=bold).get_extents().width / 72 if text else 0.0


def gamma_scale(view: Inspection) -> float:
    """The |gamma| at the right end of each strip: the largest of the model."""
    return max((n.gamma[-1] for n in view.norms if math.isfinite(n.gamma[-1])), default=1) or 1.0


def rows(axes: Any, place: Layout) -> None:
    """Bands, dots, names, and the line from layer to layer."""
    for i, row in enumerate(place.rows):
        if i % 2 == 0:
            axes.axhspan(row.y, row.y + row.height, color=BAND, lw=0, zorder=0)
        layer = row.layer
        axes.plot(place.spine, row.dot, "o", ms=6, color=INK, zorder=6)
        if i and i - 1 in layer.reads:
            line = [place.rows[i - 1].dot, row.dot]
            axes.plot([place.spine] * 2, line, color=INK, lw=1.6, zorder=4)
        bold = {"size": NAME, "weight": "bold", "color": TEXT, "va": "bottom"}
        axes.text(place.names - 0.08, row.dot - 0.01, str(layer.index), ha="right", **bold)
        axes.text(place.names, row.dot - 0.01, layer.title, **bold)
        reads = f"reads {layer.sources}"
        axes.text(place.names, row.dot + 0.02, reads, size=SMALL, color=QUIET, va="top")


def connect(axes: Any, place: Layout, link: Link) -> None:
    """Leave the source's dot below its middle, run down in the lane, reach each reader above it."""
    x = place.spine - 0.1 - (link.lane + 0.5) * LANE
    start = place.rows[link.source].dot + 0.06
    ends = [place.rows[i].dot - 0.07 for i in link.readers]
    for color, width, zorder in (("white", 4.0, 2), (QUIET, 1.3, 3)):
        axes.plot(
            [place.spine, x, x], [start, start, ends[-1]], color=color, lw=width, zorder=zorder
        )
        for end in ends:
            axes.plot([x, place.spine - 0.08], [end, end], color=color, lw=width, zorder=zorder)
    axes.plot([place.spine - 0.085] * len(ends), ends, ">", color=QUIET, ms=4.5, mew=0, zorder=6)


def draw_box(axes: Any, box: Box, scale: float) -> None:
    """A BN: name, channels, the letter of its tie, |gamma| from 0 to `scale`."""
    from matplotlib.patches import Rectangle

    size = (box.width, BOX_HEIGHT)
    if box.norm is None:
        axes.add_patch(Rectangle((box.x, box.y), *size, fc="white", ec=ACCENT, ls="--", zorder=5))
        middle = (box.x + box.width / 2, box.y + BOX_HEIGHT / 2)
        axes.text(*middle, box.label, size=LABEL, color=ACCENT, ha="center", va="center", zorder=7)
        return
    norm, tie = box.norm.norm, box.norm.tie
    face = PINNED if norm.pinned else tint(hue(tie)) if tie else PRUNABLE
    edge = hue(tie) if tie else QUIET if norm.pinned else INK
    axes.add_patch(Rectangle((box.x, box.y), *size, fc=face, ec=edge, lw=0.9, zorder=5))
    base, right = box.y + 0.145, box.x + box.width - PAD
    axes.text(box.x + PAD, base, box.label, size=LABEL, color=TEXT, zorder=7)
    channels = {"weight": "bold", "ha": "right", "color": TEXT, "zorder": 7}
    axes.text(right, base, str(norm.channels), size=LABEL, **channels)
    strip(axes, box.x + PAD, box.y + BOX_HEIGHT - 0.1, box.norm.gamma, scale)
    if tie:
        badge(axes, right, box.y + BOX_HEIGHT - 0.1, tie)


def strip(axes: Any, x: float, y: float, gamma: tuple[float, ...], scale: float) -> None:
    """A thin line min to max, a thick one 25% to 75%, a tick at the median.

    The white track is 0 to `scale` by its root: it gives the small ones room.
    """
    axes.plot([x, x + STRIP], [y, y], color="white", lw=8, zorder=6, solid_capstyle="butt")
    if not all(map(math.isfinite, gamma)):
        axes.text(x, y, "no number", size=6, color=ACCENT, va="center", zorder=7)
        return
    low, first, middle, third, high = (x + STRIP * (value / scale) ** 0.5 for value in gamma)
    axes.plot([low, high], [y, y], color=INK, lw=0.9, zorder=7, solid_capstyle="butt")
    axes.plot([first, third], [y, y], color=INK, lw=5, zorder=7, solid_capstyle="butt")
    axes.plot([middle] * 2, [y - 0.06, y + 0.06], color=ACCENT, lw=1, zorder=8)


def badge(axes: Any, right: float, y: float, tie: str) -> None:
    """The letter of a tie, white on its hue."""
    from matplotlib.patches import Rectangle

    width = text_width(tie, SMALL) + 0.06
    axes.add_patch(Rectangle((right - width, y - 0.065), width, 0.13, fc=hue(tie), lw=0, zorder=6))
    white = {"size": SMALL, "weight": "bold", "color": "white", "ha": "center", "zorder": 7}
    axes.text(right - width / 2, y, tie, va="center_baseline", **white)


def hue(tie: str) -> str:
    """The colour of a letter; after eight they come again."""
    return HUES[(ord(tie[-1]) - ord("A")) % len(HUES)]


def tint(color: str) -> tuple[float, float, float]:
    """A pale shade of a colour."""
    r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    h, _, s = colorsys.rgb_to_hls(r, g, b)
    return colorsys.hls_to_rgb(h, 0.9, s)


def legend(axes: Any, view: Inspection, scale: float) -> None:
    """What the picture shows, above it."""
    from matplotlib.patches import Rectangle

    title = {"size": 10, "weight": "bold", "color": TEXT, "va": "top", "parse_math": False}
    axes.text(MARGIN, 0.12, f"Channel graph of {shortened(view.weights, 80)}", **title)
    axes.text(MARGIN, 0.34, view.totals, size=8.5, color=TEXT, va="top")
    x, y = MARGIN, 0.72
    kinds: list[Any] = [(PRUNABLE, INK, "", "prunable"), (PINNED, QUIET, "", "pinned: keeps all")]
    for tie, norms in list(view.ties.items())[:1]:
        face = PINNED if norms[0].norm.pinned else tint(hue(tie))
        kinds.append((face, hue(tie), tie, "tied: same letter, same fate"))
    for face, edge, tie, text in kinds:
        axes.add_patch(Rectangle((x, y - 0.09), 0.3, 0.18, fc=face, ec=edge, lw=0.9))
        if tie:
            badge(axes, x + 0.27, y, tie)
        axes.text(x + 0.36, y, text, size=8, color=TEXT, va="center_baseline")
        x += 0.36 + text_width(text, 8) + 0.25
    axes.add_patch(Rectangle((x - 0.05, y - 0.09), STRIP + 0.1, 0.18, fc=PRUNABLE, lw=0))
    strip(axes, x, y, tuple(scale * v for v in (0.04, 0.2, 0.3, 0.42, 0.9)), scale)
    text = f"|gamma|: min, 25%, median, 75%, max; 0 to {scale:.3g}, root scale"
    axes.text(x + STRIP + 0.12, y, text, size=8, color=TEXT, va="center_baseline")
