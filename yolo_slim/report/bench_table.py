"""Models side by side, as `yolo-slim bench` prints them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from yolo_slim.measure.cost import Cost, LayerCost
from yolo_slim.measure.latency import Latency
from yolo_slim.text import cells, giga, mega, ratio, screen_width, shortened, table

DOTS = "..."
LABEL, FIGURES = 22, 58  # columns: of a name at least; of the figures beside it
RUNTIMES = {"torch": "PyTorch", "onnx": "ONNX RT"}


@dataclass(frozen=True)
class Measured:
    """One model of a comparison.

    Attributes:
        file: where it comes from.
        cost: parameters, MACs of one image, bytes of the file.
        latency: runtime (torch, onnx) to the time of one call, for those that were timed.
        layers: its cost by layer; empty if not asked for.
    """

    file: Path
    cost: Cost
    latency: Mapping[str, Latency] = field(default_factory=dict)
    layers: tuple[LayerCost, ...] = ()

    def left(self, first: Measured) -> dict[str, float]:
        """What it has and takes, as shares of the first model's; times by the medians."""
        ours, theirs = asdict(self.cost), asdict(first.cost)
        both = [r for r in RUNTIMES if r in self.latency and r in first.latency]
        shares = {key: ours[key] / theirs[key] for key in ("params", "macs", "bytes")}
        return shares | {r: self.latency[r].median / first.latency[r].median for r in both}

    def as_dict(self, first: Measured) -> dict[str, Any]:
        """For --json: with `left`, the shares of the first model."""
        content = asdict(self) | {"file": str(self.file), "left": self.left(first)}
        return content if self.layers else {k: v for k, v in content.items() if k != "layers"}


def bench_tables(models: Sequence[Measured], runtimes: Sequence[str]) -> str:
    """Figures, and below them what each model has and takes of the first one's.

    Args:
        models: the rows.
        runtimes: keys of RUNTIMES, the columns of times.
    """
    names = labels([model.file for model in models])
    columns = ["params", "macs", "bytes", *runtimes]
    head = ["parameters", "MACs", "file", *(RUNTIMES[r] for r in runtimes)]
    figures, shares = [], []
    for name, model in zip(names, models, strict=True):
        cost, left = model.cost, model.left(models[0])
        times = [milliseconds(model.latency.get(runtime)) for runtime in runtimes]
        figures.append([name, f"{cost.params:,}", giga(cost.macs), mega(cost.bytes or 0), *times])
        shares.append([name, *(ratio(left[c], 1) if c in left else "-" for c in columns)])
    units = ["", *head[:3], *(f"{title}, ms" for title in head[3:])]
    text = table(units, figures, "Each model: times are medians (distance between the quartiles)")
    if len(models) > 1:
        text += "\n" + table(["", *head], shares, "As shares of the first model")
    return text


def milliseconds(latency: Latency | None) -> str:
    """Median and spread, or a dash."""
    return f"{latency.median:.4g} ({latency.spread:.3g})" if latency else "-"


def layer_table(model: Measured) -> str:
    """Parameters, MACs and bytes by layer."""
    rows = [
        [
            layer.name,
            f"{layer.params:,}",
            f"{layer.macs / 1e6:,.2f}",
            ratio(layer.macs, max(model.cost.macs, 1)),
            f"{layer.bytes:,}",
            layer.type,
        ]
        for layer in model.layers
    ]
    head = ["", "parameters", "MACs, M", "share", "bytes", "type"]
    return table(head, rows, f"Layers of {model.file}")


def labels(files: Sequence[Path], width: int | None = None) -> list[str]:
    """The files without the folders that they share, and no longer than `width`.

    A name that is too long loses its middle: first the folders that are the same in all names, then
    letters, so that the names still differ. Names that differ nowhere else get a number.

    Args:
        files: of the models.
        width: columns; None: what the figures leave of the screen.

    Example:
        >>> labels([Path("/r/big-one/weights/best.pt"), Path("/r/b2/weights/best.pt")], 20)
        ['big-one/.../best.pt', 'b2/.../best.pt']
    """
    width = width or max(LABEL, screen_width() - FIGURES)
    paths = [file.absolute() for file in files]
    base = os.path.commonpath([path.parent for path in paths])
    names = [path.relative_to(base).as_posix() for path in paths]
    short = without_shared(names)
    middles = range((width - len(DOTS)) // 2 + 1)
    tries = [names, short]
    tries += [[cut_out(name, width, head) for name in short] for head in reversed(middles)]
    for each in tries:
        if max(map(cells, each)) <= width and len(set(each)) == len(set(names)):
            return each
    return [f"{number} {shortened(name, width - 4)}" for number, name in enumerate(names, 1)]


def without_shared(names: Sequence[str]) -> list[str]:
    """Names with "..." for the folders that are the same in all of them."""
    parts = [name.split("/") for name in names]
    if len({len(each) for each in parts}) > 1:
        return list(names)
    shared = [len(set(column)) == 1 for column in zip(*parts, strict=True)]
    shared[-1] = False  # the file
    short = []
    for each in parts:
        kept = [DOTS if same else part for part, same in zip(each, shared, strict=True)]
        short.append("/".join(part for part, _ in groupby(kept)))
    return short


def cut_out(name: str, width: int, head: int) -> str:
    """A name that is no wider: its first `head` letters, dots, and its end."""
    if cells(name) <= width:
        return name
    tail = name[head:]
    while cells(name[:head] + DOTS + tail) > width:
        tail = tail[1:]
    return name[:head] + DOTS + tail
