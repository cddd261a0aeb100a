"""Pictures of what the tables say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_slim.report.tables import LayerCut
    from yolo_slim.sparsify.readiness import Sparsity

INK, GONE, ACCENT = "#1b4f72", "#d5d8dc", "#c0392b"


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # pyplot would keep it

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plot_sparsity(history: Sequence[Sparsity], file: Path) -> Path:
    """Draw the distribution of |gamma| over the epochs, and the share near zero.

    Args:
        history: one entry an epoch; quantiles at readiness.QUANTILES.
        file: a .png to write.
    """
    figure, axes = _figure(8, 4.5)
    epochs = [row.epoch for row in history]
    q = [[row.quantiles[i] for row in history] for i in range(8)]
    axes.fill_between(epochs, q[0], q[7], color=INK, alpha=0.12, lw=0, label="all")
    axes.fill_between(epochs, q[1], q[6], color=INK, alpha=0.22, lw=0, label="10% to 90%")
    axes.fill_between(epochs, q[2], q[5], color=INK, alpha=0.35, lw=0, label="25% to 75%")
    axes.plot(epochs, q[3], color=INK, lw=2, marker="o", ms=3, label="median")
    axes.set(xlabel="epoch", ylabel="|gamma| of prunable channels", ylim=(0, None))
    share = axes.twinx()
    near = [100 * row.near_zero for row in history]
    share.plot(epochs, near, color=ACCENT, lw=2, marker="o", ms=3, label="near zero (right)")
    share.set(ylim=(0, 100), ylabel="% of channels near zero")
    share.yaxis.label.set_color(ACCENT)
    handles = [*axes.get_legend_handles_labels()[0], *share.get_legend_handles_labels()[0]]
    axes.legend(
        handles=handles, loc="upper center", ncols=5, fontsize=8, bbox_to_anchor=(0.5, 1.12)
    )
    figure.savefig(file, dpi=120)
    return file


def plot_channels(layers: Sequence[LayerCut], file: Path) -> Path:
    """Draw kept of total channels by layer.

    Args:
        layers: one entry a BN, in the order of the model.
        file: a .png to write.
    """
    figure, axes = _figure(9, max(3.0, 0.17 * len(layers) + 1))
    places = range(len(layers))
    axes.barh(places, [c.channels for c in layers], color=GONE, label="cut")
    free = [0 if c.pinned else c.kept for c in layers]
    pinned = [c.kept if c.pinned else 0 for c in layers]
    axes.barh(places, free, color=INK, label="kept")
    axes.barh(places, pinned, color="#85929e", label="kept, pinned")
    for y, c in zip(places, layers, strict=True):
        if c.kept < c.channels:
            axes.text(c.channels, y, f" {c.kept} of {c.channels}", va="center", fontsize=7)
    axes.set_yticks(
        places, [c.name.removeprefix("model.").removesuffix(".bn") for c in layers], fontsize=7
    )
    axes.invert_yaxis()
    axes.set(xlabel="channels", ylabel="layer", ylim=(len(layers) - 0.4, -0.6))
    axes.margins(x=0.12)
    axes.legend(loc="lower center", fontsize=8, ncols=3, bbox_to_anchor=(0.5, 1.0))
    figure.savefig(file, dpi=120)
    return file
