"""Models timed side by side in ONNX Runtime, as `export` and `finegrained` print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yolo_slim.measure.latency import Latency, warning_of
from yolo_slim.text import counted, fold, shortened, table


def timing_text(
    times: Mapping[str, Latency], *, threads: int, batch: int, imgsz: int, repeats: int
) -> str:
    """A table, what it was taken under, and a warning where it cannot be relied on.

    Args:
        times: what was timed, in words, to its latency; the last one is compared with the first.
        threads, batch, imgsz, repeats: as they were measured.
    """
    first = next(iter(times.values()))
    rows = []
    for name, time in times.items():
        figures = (time.median, time.spread, time.median / first.median)
        rows.append([shortened(name, 40), *(f"{figure:.2f}" for figure in figures)])
    title = f"ONNX Runtime on the CPU: {counted(threads, 'thread')}, {batch} x {imgsz} px, "
    title += f"{repeats} rounds in turns"
    head = ["", "median, ms", "between the quartiles, ms", "of the first"]
    if len(times) == 1:
        head, rows = head[:3], [row[:3] for row in rows]
    return table(head, rows, title) + fold(warning_of(times))


@dataclass(frozen=True)
class Timed:
    """A file that was timed in turns with another model in the same format.

    Attributes:
        runtime: as people call it.
        file: its name.
        time: of the file.
        dense: of the other model; None where there is none.
    """

    runtime: str
    file: str
    time: Latency
    dense: Latency | None = None

    @property
    def share(self) -> float | None:
        """The time as a share of the other model's."""
        return self.time.median / self.dense.median if self.dense else None


def formats_text(rows: Sequence[Timed], *, threads: int, size: str, repeats: int) -> str:
    """A table of files by format, what it was taken under, a warning where it is rough.

    Args:
        rows: one a file.
        threads, size, repeats: as they were measured; the size of the images in words.
    """
    cells = []
    for row in rows:
        times = [f"{t.median:.2f} ({t.spread:.2f})" if t else "-" for t in (row.dense, row.time)]
        share = f"{row.share:.2f}" if row.share is not None else "-"
        cells.append([shortened(row.file, 28), row.runtime, *times, share])
    title = f"Median of {counted(repeats, 'round')} in turns (distance between the quartiles), ms; "
    title += f"on the CPU, {counted(threads, 'thread')}, {size}"
    head = ["", "in", "dense model", "this file", "share"]
    taken = {id(t): t for row in rows for t in (row.dense, row.time) if t}
    return table(head, cells, title) + fold(warning_of(taken))
