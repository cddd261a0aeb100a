"""The channel graph in words: one line a layer, under it one line a BatchNorm."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from yolo_slim.pruning.report import blocks_removed
from yolo_slim.report.inspection import LEVELS, Inspection
from yolo_slim.text import fold, screen_width

NOTE = 'Names are short: 4.cv1 is "model.4.cv1.bn", as a reader "model.4.cv1.conv".'
NUMBER, WORDS = 6, 20  # columns of a |gamma|; the least for the words at the end of a line
HEADS = ("min", "25%", "50%", "75%", "max")  # of LEVELS


def graph_table(view: Inspection, width: int | None = None) -> str:
    """All that is known of a model.

    Args:
        view: the model.
        width: characters a line; what a BN is read by goes on below itself where it is longer.
            None: those of the screen.
    """
    width = width or screen_width()
    parts = [fold(f"{view.weights}\n{view.totals}\n", width), _norms(view, width), NOTE]
    if view.removed:
        parts.append(fold(f"{blocks_removed(view.removed, view.bottlenecks)}.\n", width))
    if view.ties:
        rows = [
            f"  {tie}  {_short(n.norm.name for n in norms)}" for tie, norms in view.ties.items()
        ]
        text = "\n".join(["Tied, so kept or cut together, channel by channel:", *rows])
        parts.append(fold(text, width, indent="     "))
    unknown = [f"  {name}  {kind}" for layer in view.layers for name, kind in layer.unknown]
    if unknown:
        head = (
            "No rule for these modules: they stay as they are, what feeds them keeps all channels:"
        )
        parts.append(fold("\n".join([head, *unknown]), width))
    return "\n".join(parts)


def _norms(view: Inspection, width: int) -> str:
    longest = max((len(_short([n.norm.name])) for n in view.norms), default=0)
    broad = max(8, min(longest, width - 2 - 8 - NUMBER * len(LEVELS) - 8 - WORDS))
    levels = "".join(f"{head:>{NUMBER}}" for head in HEADS)
    rows = [
        f"{'':{broad + 2}}{'':>8}  |gamma|",
        f"{'BN':<{broad + 2}}{'channels':>8}{levels}  tied  read by",
    ]
    for layer in view.layers:
        rows.append(fold(f"{layer.index} {layer.title}, reads {layer.sources}", width, "     "))
        for bn in layer.norms:
            name = _short([bn.norm.name])
            if len(name) > broad:  # it has a line of its own
                rows.append(f"  {name}")
                name = ""
            start = f"  {name:<{broad}}{bn.norm.channels:>8}"
            start += "".join(f"{_number(value):>{NUMBER}}" for value in bn.gamma)
            start += f"  {bn.tie:<6}"
            words = _short(bn.norm.readers) or "no conv"
            if bn.norm.pinned:
                words += f"; pinned: {bn.norm.pinned.replace('model.', '')}"
            lines = textwrap.wrap(words, max(WORDS, width - len(start)))
            rows += [start + lines[0], *(" " * len(start) + line for line in lines[1:])]
    return "\n".join(rows) + "\n"


def _short(names: Iterable[str]) -> str:
    """model.4.cv1.bn and model.4.cv1.conv are both 4.cv1."""
    return ", ".join(
        name.removeprefix("model.").removesuffix(".bn").removesuffix(".conv") for name in names
    )


def _number(value: float) -> str:
    """0.613; 4e-05 and 2e+04 where three decimals would say nothing or too much."""
    return f"{value:.0e}" if 0 < value < 0.001 or value >= 1000 else f"{value:.3f}"
