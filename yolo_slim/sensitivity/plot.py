"""A sensitivity scan as a picture: what mAP loses, layer by layer, share by share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.pictures import ACCENT, INK, LEAF, new_figure, own_style, write_picture

if TYPE_CHECKING:
    from yolo_slim.sensitivity.scan import Scan

CELL, ROW, NAMES, HEAD, LEAST = 0.36, 0.17, 1.2, 1.9, 3.5  # inches


@own_style()
def plot_scan(scan: Scan, file: Path) -> Path:
    """Draw the mAP50-95 that each layer costs, cut alone: a panel a kind, a row a layer, a column a
    share. Where a cut model measured better than the whole one, the loss is below zero.

    Args:
        scan: finished or not; what is missing stays white.
        file: a .png to write, aside and renamed.
    """
    from matplotlib.ticker import MaxNLocator

    rows = max(len(scan.by_layer(kind)) for kind in scan.kinds)
    width = len(scan.kinds) * (NAMES + CELL * len(scan.shares)) + 0.5
    figure = new_figure(max(width, LEAST), ROW * max(rows, 6) + HEAD)
    title = f"mAP50-95 that is lost where one layer is cut\n({scan.dense.map:.3f} before)"
    figure.suptitle(title, size=11, weight="bold")
    panels = figure.subplots(1, len(scan.kinds), squeeze=False)[0]
    for axes, kind in zip(panels, scan.kinds, strict=True):
        image = panel(axes, scan, kind, rows)
    bar = figure.colorbar(
        image, ax=panels.tolist(), location="top", aspect=30 * len(panels), pad=0.01
    )
    bar.ax.tick_params(labelsize=7)
    bar.set_label("mAP50-95 lost (below zero: more than before, by chance)", size=8)
    bar.locator = MaxNLocator(4 * len(panels))
    return write_picture(figure, file)


def panel(axes: Any, scan: Scan, kind: str, rows: int) -> Any:
    """The heat map of one kind; `rows` high, so that rows of all panels have one height."""
    layers, before = scan.by_layer(kind), scan.dense.map
    lost = np.full((len(layers), len(scan.shares)), np.nan)
    for y, results in enumerate(layers.values()):
        for row in results:
            lost[y, scan.shares.index(row.share)] = before - row.map
    colours, norm = scale(scan)
    image = axes.imshow(lost, cmap=colours, norm=norm, aspect="auto")
    for (y, x), value in np.ndenumerate(lost):
        if np.isfinite(value):
            ink = "white" if value > 0.5 * before else "black"
            text = f"{value:.2f}".replace("0.", ".", 1).replace("-.00", ".00")
            axes.text(x, y, text, size=6.5, color=ink, ha="center", va="center")
    axes.set_yticks(range(len(layers)), [label(r[0].layer) for r in layers.values()], size=7)
    axes.set_xticks(range(len(scan.shares)), [f"{share:g}" for share in scan.shares], size=7)
    tallest = len(layers) == rows  # below a shorter one they would stand alone
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=tallest)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_title(f"share of the {kind}\nof a layer that is cut", size=8, weight="normal")
    axes.set_ylabel("layer", size=8, loc="top")
    axes.spines[:].set_visible(False)
    return image


def scale(scan: Scan) -> tuple[Any, Any]:
    """Colours and their range, from the best result to all of mAP lost.

    White where nothing is lost, darker the more is; a shade of green below zero.
    """
    from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb

    most = max(scan.dense.map, 0.01)
    least = min(0.0, *(scan.dense.map - row.map for row in scan.rows))
    zero, depth = -least / (most - least), min(-3 * least / most, 1.0)
    better = tuple(1 - depth * (1 - part) for part in to_rgb(LEAF))
    points: list[Any] = [(0.0, better)] if zero else []
    points += [(zero, "white"), ((1 + zero) / 2, ACCENT), (1.0, INK)]
    return LinearSegmentedColormap.from_list("loss", points), Normalize(least, most)


def label(name: str) -> str:
    """A layer's name without what all names have."""
    return name.removeprefix("model.").removesuffix(".bn").removesuffix(".conv")
