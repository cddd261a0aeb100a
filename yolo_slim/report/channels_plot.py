"""Pictures of what the tables say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolo_slim.pictures import GONE, INK, new_figure, own_style, write_picture
from yolo_slim.pruning.report import LayerCut


@own_style()
def plot_channels(layers: Sequence[LayerCut], file: Path) -> Path:
    """Draw kept of total channels by layer.

    Args:
        layers: one entry a BN, in the order of the model.
        file: a .png to write.
    """
    figure = new_figure(8, max(3.0, 0.17 * len(layers) + 1.3))
    axes = figure.subplots()
    places = range(len(layers))
    axes.barh(places, [c.channels for c in layers], color=GONE, label="cut")
    free = [0 if c.pinned else c.kept for c in layers]
    pinned = [c.kept if c.pinned else 0 for c in layers]
    axes.barh(places, free, color=INK, label="kept")
    axes.barh(places, pinned, color="#85929e", label="kept, since it is pinned")
    for y, c in zip(places, layers, strict=True):
        if c.kept < c.channels:
            axes.text(c.channels, y, f" {c.kept} of {c.channels}", va="center", fontsize=7)
    axes.set_yticks(
        places, [c.name.removeprefix("model.").removesuffix(".bn") for c in layers], fontsize=7
    )
    axes.invert_yaxis()
    total, kept = sum(c.channels for c in layers), sum(c.kept for c in layers)
    figure.suptitle(f"What the cut left: {kept:,} of {total:,} channels", size=11, weight="bold")
    axes.set(xlabel="number of channels", ylabel="BatchNorm", ylim=(len(layers) - 0.4, -0.6))
    axes.margins(x=0.12)
    axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0), frameon=False)
    return write_picture(figure, file)
