"""Models timed side by side in ONNX Runtime, as `export` and `finegrained` print them."""

from __future__ import annotations

from collections.abc import Mapping

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
