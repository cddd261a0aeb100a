"""The channel graph in words: one line a layer, under it one line a BatchNorm."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from yolo_slim.report.inspection import LEVELS, Inspection

NOTE = 'Names are short: 4.cv1 is "model.4.cv1.bn", as a reader "model.4.cv1.conv".'


def graph_table(view: Inspection, width: int = 120) -> str:
    """All that is known of a model.

    Args:
        view: the model.
        width: characters a line; what a BN is read by goes on below itself where it is longer.
    """
    parts = [f"{view.weights}\n{view.totals}\n", _norms(view, width), NOTE]
    if view.ties:
        rows = [
            f"  {tie}  {_short(n.norm.name for n in norms)}" for tie, norms in view.ties.items()
        ]
        parts.append("\n".join(["Tied, so kept or cut together, channel by channel:", *rows]))
    unknown = [f"  {name}  {kind}" for layer in view.layers for name, kind in layer.unknown]
    if unknown:
        head = (
            "No rule for these modules: they stay as they are, what feeds them keeps all channels:"
        )
        parts.append("\n".join([head, *unknown]))
    return "\n".join(parts)


def _norms(view: Inspection, width: int) -> str:
    broad = max([8, *(len(_short([n.norm.name])) for n in view.norms)])
    rows = [
        f"{'':{broad + 12}}  |gamma|",
        f"{'BN':<{broad + 4}}{'channels':>8}{''.join(f'{q:>8}' for q in LEVELS)}  tied  read by",
    ]
    for layer in view.layers:
        rows.append(f"{layer.index} {layer.title}, reads {layer.sources}")
        for bn in layer.norms:
            start = f"    {_short([bn.norm.name]):<{broad}}{bn.norm.channels:>8}"
            start += "".join(f"{_number(value):>8}" for value in bn.gamma) + f"  {bn.tie:<6}"
            words = _short(bn.norm.readers) or "no conv"
            if bn.norm.pinned:
                words += f"; pinned: {bn.norm.pinned.replace('model.', '')}"
            lines = textwrap.wrap(words, max(24, width - len(start)))
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
