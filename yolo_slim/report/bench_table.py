"""Models side by side, as `yolo-slim bench` prints them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from yolo_slim.deploy.int8.cpu import this_cpu
from yolo_slim.measure.cost import Cost, LayerCost
from yolo_slim.measure.latency import Latency
from yolo_slim.measure.memory import Memory
from yolo_slim.text import cells, giga, mega, ratio, screen_width, shortened, table

DOTS = "..."
LABEL, FIGURES = 24, 56  # columns: of a name at least; of the figures beside it
MIB = 2**20
EVEN = 0.03  # times that differ by less are the same


@dataclass(frozen=True)
class Measured:
    """One file of a comparison.

    Attributes:
        file: where it comes from; a file or a folder.
        bytes: of the file, or of all files in the folder.
        cost: parameters, MACs of one image; None for a file that does not tell.
        latency: name of a runtime (of `bench --runtime`) to the time of one call.
        memory: the same to the peak memory.
        in_8_bits: most of its parameters are stored in 8 bits.
        layers: its cost by layer; empty if not asked for.
    """

    file: Path
    bytes: int
    cost: Cost | None
    latency: Mapping[str, Latency] = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    in_8_bits: bool = False
    layers: tuple[LayerCost, ...] = ()

    def left(self, first: Measured) -> dict[str, float]:
        """What it has and takes, as shares of the first file's; times by the medians.

        A time is compared with that of the first file in the same runtime, if there is one.
        """
        shares = {}
        if self.cost and first.cost:
            ours, theirs = asdict(self.cost), asdict(first.cost)
            shares = {key: ours[key] / theirs[key] for key in ("params", "macs") if theirs[key]}
        shares["bytes"] = self.bytes / first.bytes
        both = [runtime for runtime in self.latency if runtime in first.latency]
        return shares | {r: self.latency[r].median / first.latency[r].median for r in both}

    def as_dict(self, first: Measured) -> dict[str, Any]:
        """For --json: with `left`, the shares of the first file."""
        content = asdict(self) | {"file": str(self.file), "left": self.left(first)}
        return content if self.layers else {k: v for k, v in content.items() if k != "layers"}


def bench_tables(models: Sequence[Measured], title_of: Callable[[str], str]) -> str:
    """What each file is, and below it how it runs, with shares of the first.

    Args:
        models: the files.
        title_of: what people call a runtime.
    """
    names = labels([model.file for model in models])
    return f"{files_table(models, names)}\n{runs_table(models, names, title_of)}"


def files_table(models: Sequence[Measured], names: Sequence[str]) -> str:
    """A row a file: size, parameters and MACs."""
    rows = []
    for name, model in zip(names, models, strict=True):
        left, cost = model.left(models[0]), model.cost
        params, macs = (f"{cost.params:,}", giga(cost.macs)) if cost else ("-", "-")
        row = [name]
        for figure, key in ((mega(model.bytes), "bytes"), (params, "params"), (macs, "macs")):
            row += [figure, ratio(left[key], 1) if key in left else "-"]
        rows.append(row)
    head, title = ["", "file", "share", "parameters", "share", "MACs", "share"], "What each file is"
    if len(models) == 1:
        return table(head[:1] + head[1::2], [row[:1] + row[1::2] for row in rows], title)
    return table(head, rows, f"{title}, and its shares of the first")


def runs_table(
    models: Sequence[Measured], names: Sequence[str], title_of: Callable[[str], str]
) -> str:
    """A row a file and runtime: time and memory. The rows of a runtime stand together."""
    columns: dict[str, list[str]] = {key: [] for key in ("", "runtime", "ms", "all", "own", "MiB")}
    start, firsts = None, dict[str, Latency]()
    for runtime, index in runs(models):
        time, memory = models[index].latency[runtime], models[index].memory.get(runtime)
        start, first = start or time, firsts.setdefault(runtime, time)
        columns[""].append(names[index])
        columns["runtime"].append(title_of(runtime))
        columns["ms"].append(f"{time.median:.4g} ({time.spread:.2g})")
        columns["all"].append(ratio(time.median, start.median))
        columns["own"].append(ratio(time.median, first.median))
        columns["MiB"].append(mebibytes(memory))
    heads = {
        "ms": "ms (spread)",
        "all": "share",
        "own": "in its runtime",
        "MiB": "peak MiB (model)",
    }
    left_out = {"all", "own"} if len(columns[""]) == 1 else {"own"} if len(firsts) == 1 else set()
    if not any(model.memory for model in models):
        left_out.add("MiB")
    kept = {key: column for key, column in columns.items() if key not in left_out}
    title = "How it runs: median (distance between the quartiles)"
    if "all" in kept:
        title += ", share of the first row"
    if "own" in kept:
        title += ", and of the first row of its runtime"
    if "MiB" in kept:
        title += "; peak memory of a process (of it since the file was opened)"
    rows = [list(row) for row in zip(*kept.values(), strict=True)]
    return table([heads.get(key, key) for key in kept], rows, title)


def runs(models: Sequence[Measured]) -> list[tuple[str, int]]:
    """Runtime and index of a file, for all that was timed; a runtime's stand together."""
    runtimes = dict.fromkeys(runtime for model in models for runtime in model.latency)
    return [(r, index) for r in runtimes for index, m in enumerate(models) if r in m.latency]


def mebibytes(memory: Memory | None) -> str:
    """Peak of a process, and of it what came with the file; or a dash."""
    return f"{memory.peak / MIB:.0f} ({memory.model / MIB:.0f})" if memory else "-"


def eight_bit_lines(models: Sequence[Measured], title_of: Callable[[str], str]) -> list[str]:
    """A line on each file in 8 bits, whether it is faster than the same in floats, and one on why.

    That is a file of as many MACs that was timed in the same runtime, best an exported one.
    """
    lines = []
    for runtime, index in runs(models):
        model = models[index]
        if not model.in_8_bits or not model.cost:
            continue
        floats = [m for m in models if runtime in m.latency and m.cost and not m.in_8_bits]
        same = [m for m in floats if m.cost and m.cost.macs == model.cost.macs]
        for other in sorted(same, key=lambda m: m.file.suffix == ".pt")[:1]:
            share = model.latency[runtime].median / other.latency[runtime].median
            verdict = "faster" if share < 1 - EVEN else "slower" if share > 1 + EVEN else "as fast"
            text = f"{model.file.name}, in 8 bits, is {verdict} here: {share:.2f} of the time of "
            lines.append(f"{text}{other.file.name} in {title_of(runtime)}.")
    return [*lines, f"{this_cpu()}."] if lines else []


def layer_table(model: Measured) -> str:
    """Parameters, MACs and bytes by layer."""
    total = max(1, sum(layer.macs for layer in model.layers))
    rows = [
        [
            layer.name,
            f"{layer.params:,}",
            f"{layer.macs / 1e6:,.2f}",
            ratio(layer.macs, total),
            f"{layer.bytes:,}",
            layer.type,
        ]
        for layer in model.layers
    ]
    head = ["", "parameters", "MACs, M", "share", "bytes", "type"]
    return table(head, rows, f"Layers of {model.file}")


def labels(files: Sequence[Path], width: int | None = None) -> list[str]:
    """The files without the folders that they share, and no longer than `width`.

    Where they are too long the folders go, if the names of the files differ. Else a name loses its
    middle: first the folders that are the same in all names, then letters, so that the names still
    differ. Names that differ nowhere else get a number.

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
    tries = [names, [path.name for path in paths], short]
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
