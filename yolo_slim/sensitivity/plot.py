"""A sensitivity scan as a picture: what is left of mAP, layer by layer, share by share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.pictures import new_figure, write_picture

if TYPE_CHECKING:
    from yolo_slim.sensitivity.scan import Scan

CELL, ROW, NAMES, HEAD, LEAST = 0.36, 0.17, 1.2, 1.9, 3.5  # inches


def plot_scan(scan: Scan, file: Path) -> Path:
    """Draw mAP50-95 with a layer cut alone: a panel a kind, a row a layer, a column a share.

    Args:
        scan: finished or not; what is missing stays white.
        file: a .png to write, aside and renamed.
    """
    rows = max(len(scan.by_layer(kind)) for kind in scan.kinds)
    width = len(scan.kinds) * (NAMES + CELL * len(scan.shares)) + 0.5
    figure = new_figure(max(width, LEAST), ROW * max(rows, 6) + HEAD)
    title = f"mAP50-95 left with one layer cut\n(dense {scan.dense.map:.3f})"
    figure.suptitle(title, size=10)
    panels = figure.subplots(1, len(scan.kinds), squeeze=False)[0]
    for axes, kind in zip(panels, scan.kinds, strict=True):
        image = panel(axes, scan, kind, rows)
    bar = figure.colorbar(
        image, ax=panels.tolist(), location="top", aspect=30 * len(panels), pad=0.01
    )
    bar.ax.tick_params(labelsize=7)
    return write_picture(figure, file)


def panel(axes: Any, scan: Scan, kind: str, rows: int) -> Any:
    """The heat map of one kind; `rows` high, so that rows of all panels have one height."""
    layers, top = scan.by_layer(kind), scan.dense.map
    left = np.full((len(layers), len(scan.shares)), np.nan)
    for y, results in enumerate(layers.values()):
        for row in results:
            left[y, scan.shares.index(row.share)] = row.map
    image = axes.imshow(left, vmin=0, vmax=top, cmap="viridis", aspect="auto")
    for (y, x), value in np.ndenumerate(left):
        if np.isfinite(value):
            ink = "white" if value < 0.6 * top else "black"
            text = f"{value:.2f}".removeprefix("0")
            axes.text(x, y, text, size=6, color=ink, ha="center", va="center")
    axes.set_yticks(range(len(layers)), [label(r[0].layer) for r in layers.values()], size=7)
    axes.set_xticks(range(len(scan.shares)), [f"{share:g}" for share in scan.shares], size=7)
    tallest = len(layers) == rows  # below a shorter one they would stand alone
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=tallest)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_title(f"share of the {kind}\nof a layer that is cut", size=8)
    axes.spines[:].set_visible(False)
    return image


def label(name: str) -> str:
    """A layer's name without what all names have."""
    return name.removeprefix("model.").removesuffix(".bn").removesuffix(".conv")
