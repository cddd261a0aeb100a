"""Pictures of what the tables say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.pictures import GONE, INK, new_figure, own_style, write_picture
from yolo_slim.pruning.report import LayerCut
from yolo_slim.pruning.times import Times


@own_style()
def plot_channels(layers: Sequence[LayerCut], file: Path, times: Times | None = None) -> Path:
    """Draw kept of total channels by layer, and beside it the time by layer.

    Args:
        layers: one entry a BN, in the order of the model.
        file: a .png to write.
        times: of a cut by time; None: channels alone.
    """
    rows = max(len(layers), len(times.layers) if times else 0)
    figure = new_figure(15 if times else 8, max(3.0, 0.17 * rows + 1.3))
    total, kept = sum(c.channels for c in layers), sum(c.kept for c in layers)
    title = f"What the cut left: {kept:,} of {total:,} channels"
    if times is None:
        _draw_channels(figure.subplots(), layers)
    else:
        left, right = figure.subplots(1, 2)
        _draw_channels(left, layers)
        _draw_times(right, times)
        title += f", {times.share:.0%} of the time"
    figure.suptitle(title, size=11, weight="bold")
    return write_picture(figure, file)


def _draw_channels(axes: Any, layers: Sequence[LayerCut]) -> None:
    places = range(len(layers))
    axes.barh(places, [c.channels for c in layers], color=GONE, label="cut")
    free = [0 if c.pinned else c.kept for c in layers]
    pinned = [c.kept if c.pinned else 0 for c in layers]
    axes.barh(places, free, color=INK, label="kept")
    axes.barh(places, pinned, color="#85929e", label="kept, since it is pinned")
    for y, c in zip(places, layers, strict=True):
        if c.kept < c.channels:
            axes.text(c.channels, y, f" {c.kept} of {c.channels}", va="center", fontsize=7)
    _name_rows(axes, [c.name.removesuffix(".bn") for c in layers])
    axes.set(xlabel="number of channels", ylabel="BatchNorm")


def _draw_times(axes: Any, times: Times) -> None:
    places = range(len(times.layers))
    axes.barh(places, [row.dense for row in times.layers], color=GONE, label="dense")
    axes.barh(places, [row.pruned for row in times.layers], color=INK, label="pruned")
    for y, row in zip(places, times.layers, strict=True):
        if row.dense - row.pruned > 0.005 * abs(row.dense):
            text = f" {row.pruned:.2f} of {row.dense:.2f}"
            axes.text(max(row.dense, row.pruned), y, text, va="center", fontsize=7)
    _name_rows(axes, [row.name.removesuffix(".conv") for row in times.layers])
    axes.set(xlabel="predicted time, ms", ylabel="conv, or what is no conv")
    totals = [f"predicted {_ms(times.predicted)}"]
    totals += [f"measured {_ms(times.measured)}" if times.measured else "not measured here"]
    runtime = times.runtime.split("-")[0]  # OpenVINO's version goes on with its commit
    axes.set_title(f"{runtime}, {times.imgsz} px\n{', '.join(totals)}", pad=24)


def _ms(both: tuple[float, float]) -> str:
    return f"{both[0]:.1f} to {both[1]:.1f} ms"


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    """A name a row, the first one on top, and the legend above them."""
    axes.set_yticks(range(len(names)), [n.removeprefix("model.") for n in names], fontsize=7)
    axes.invert_yaxis()
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0), frameon=False)
