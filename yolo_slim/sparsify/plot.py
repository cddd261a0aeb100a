"""A sparse training as a picture: where the gammas went, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.pictures import ACCENT, GREY, INK, LEAF, new_figure, own_style, write_picture

if TYPE_CHECKING:
    from yolo_slim.sparsify.readiness import Sparsity


def plot_sparsity(
    history: Sequence[Sparsity],
    file: Path,
    *,
    aim: float,
    held_from: int | None = None,
    backs: Sequence[int] = (),
) -> Path:
    """Write the picture to a .png, aside and renamed; arguments as for `draw_sparsity`.

    Raises:
        InputError: the file cannot be written.
    """
    return write_picture(draw_sparsity(history, aim=aim, held_from=held_from, backs=backs), file)


@own_style()
def draw_sparsity(
    history: Sequence[Sparsity],
    *,
    aim: float,
    held_from: int | None = None,
    backs: Sequence[int] = (),
) -> Any:
    """Draw the distribution of |gamma| over the epochs; below it the share near zero and mAP.

    A square is what the quick cut of an epoch says of mAP50: its ratio on few images, times mAP50.

    Args:
        history: one entry an epoch; quantiles at readiness.QUANTILES.
        aim: the share that is to be cut.
        held_from: the epoch from which zeros are held, counted from 0.
        backs: for each time that the run went back, the last epoch that it kept; -1: none.

    Returns:
        A matplotlib Figure.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(8, 6.5)
    title = "Sparse training: how small |gamma| became, and what became of mAP"
    figure.suptitle(title, size=11, weight="bold")
    top, low = figure.subplots(2, 1, sharex=True)
    epochs = [row.epoch + 1 for row in history]
    dots = {"marker": "o", "ms": 3} if len(epochs) <= 40 else {}
    _gammas(top, epochs, history, dots)
    right = _shares(low, epochs, history, aim, dots)
    for axes in (top, low):
        _moments(axes, held_from, backs, named=axes is top)
    low.set_xlabel("epoch")
    low.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    low.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    for axes, other in ((top, None), (low, right)):
        handles = axes.get_legend_handles_labels()[0]
        handles += other.get_legend_handles_labels()[0] if other else []
        axes.legend(
            handles=handles, loc="lower center", ncols=6, fontsize=8, bbox_to_anchor=(0.5, 1.0)
        )
    return figure


def _gammas(axes: Any, epochs: list[int], history: Sequence[Sparsity], dots: dict) -> None:
    """Bands between quantiles. The largest gammas would hide the others: they end at the top."""
    q = [[row.relative[i] for row in history] for i in range(8)]
    spread = ((0, 7, 0.12, "all"), (1, 6, 0.22, "10% to 90%"), (2, 5, 0.35, "25% to 75%"))
    for least, most, alpha, label in spread:
        if len(epochs) > 1:
            axes.fill_between(epochs, q[least], q[most], color=INK, alpha=alpha, lw=0, label=label)
        else:  # a band has no width
            axes.bar(
                epochs,
                [q[most][0] - q[least][0]],
                0.1,
                bottom=q[least],
                color=INK,
                alpha=alpha,
                label=label,
            )
    axes.plot(epochs, q[3], color=INK, lw=2, label="median", **dots)
    axes.set(
        ylabel="|gamma| in units of its\nlayer's median at the start",
        ylim=(0, 1.15 * max([*q[6], 0.1])),
    )


def _shares(
    axes: Any, epochs: list[int], history: Sequence[Sparsity], aim: float, dots: dict
) -> Any:
    """The share near zero on the left, mAP on the right, whose axes are returned."""
    near = [100 * row.near_zero for row in history]
    squares = {**dots, "marker": "D"} if dots else {}  # told apart without colours
    axes.plot(epochs, near, color=ACCENT, lw=2, label="near zero", **squares)
    axes.axhline(100 * aim, color="black", lw=1, ls="--", label="aim")
    axes.set(ylim=(0, 100), ylabel="prunable channels with\n|gamma| near zero, %")
    axes.yaxis.label.set_color(ACCENT)
    right = axes.twinx()
    map50 = [row.map50 for row in history]
    right.plot(epochs, map50, color=LEAF, lw=1.2, ls=":", label="mAP50", **dots)
    right.plot(epochs, [row.map for row in history], color=LEAF, lw=2, label="mAP50-95", **dots)
    cuts = [(row.epoch + 1, row.map50 * row.aim.kept) for row in history if row.aim]
    if cuts:
        label = f"mAP50 if cut by {aim:.0%}"
        right.plot(*zip(*cuts, strict=True), "s", color=LEAF, ms=5, mfc="white", label=label)
    right.set(ylim=(0, 1), ylabel="mAP")
    right.grid(False)  # the left one's is at the same heights; this would be drawn over its curves
    right.yaxis.label.set_color(LEAF)
    return right


def _moments(axes: Any, held_from: int | None, backs: Sequence[int], named: bool) -> None:
    """Upright lines: where zeros began to be held, where the run went back to; named in one panel.

    They stand between the points of two epochs: at the beginning of the later one.
    """
    if held_from is not None:
        label = "zeros held from here" if named else None
        axes.axvline(held_from + 0.5, color=GREY, lw=1.2, label=label)
    for number, back in enumerate(backs):
        label = "went back to here" if named and not number else None
        axes.axvline(back + 1.5, color=GREY, lw=1.2, ls="-.", label=label)
