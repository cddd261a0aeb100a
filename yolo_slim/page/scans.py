"""What `sensitivity` and `curve` measured, for a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolo_slim.curve import points
from yolo_slim.curve.front import front
from yolo_slim.curve.points import named_point, read_curve
from yolo_slim.finished import Finished
from yolo_slim.page.model import Curve, CurvePoint, Scan
from yolo_slim.sensitivity.run import read_scan
from yolo_slim.text import counted

CSV = "sensitivity.csv"


def scans_of(runs: Sequence[Finished]) -> tuple[Scan, ...]:
    """The scans among runs, and those that a cut went by (--budget).

    Raises:
        InputError: one is damaged.
    """
    files = [run.folder / CSV for run in runs if run.kind == "sensitivity"]
    for run in runs:
        budget = Path(str(run.options.get("budget") or ""))
        if budget.suffix == ".csv" and budget.is_file() and budget not in files:
            files.append(budget)
    return tuple(scan for file in files for scan in _scans(file))


def _scans(file: Path) -> list[Scan]:
    """One for each kind of cut."""
    found = read_scan(file)
    settings, shares = found.settings, found.shares
    text = f"{counted(int(settings['images']), 'image')}, {settings['imgsz']} px"
    scans = []
    for kind in found.kinds:
        rows = {
            name: {row.share: row.map for row in cuts}
            for name, cuts in found.by_layer(kind).items()
        }
        layers = tuple((name, tuple(map(by.get, shares))) for name, by in rows.items())
        scans.append(Scan(f"{kind}, on {text}", found.dense.map, tuple(shares), layers))
    return scans


def curve_of(runs: Sequence[Finished]) -> Curve | None:
    """The first curve among runs.

    Raises:
        InputError: its csv is damaged.
    """
    for run in runs:
        if run.kind == "curve":
            return _curve(read_curve(run.folder), str(run.report.get("text", "")))
    return None


def _curve(found: points.Curve, words: str) -> Curve:
    best = {point.key for point in front(found.points)}
    shown = tuple(
        CurvePoint(p.family, named_point(p), p.time, p.map, p.map50, p.key in best)
        for p in found.points
    )
    threads = counted(int(found.settings["threads"]), "thread")
    axis = f"ms, ONNX Runtime, {threads}"
    if found.by == "latency":
        axis = f"ms, by the table of {found.settings['device']}, {threads}"
    return Curve(shown, words, axis)
