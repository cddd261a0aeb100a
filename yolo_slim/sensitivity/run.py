"""Sensitivity scans and their CSV, which grows by a line a result:

    # yolo-slim sensitivity scan
    # digest: 1a2b3c4d5e6f          what it is of, an entry a line
    kind,layer,channels,share,cut,map50,map
    dense,-,0,0.0,0.0,0.899,0.59
    channels,model.0.bn,16,0.1,0.125,0.893,0.583

An interruption, whichever, loses what is being measured at that moment; half a last line is
dropped. When all is there, the lines are brought into the order of the model.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from torch import nn
from tqdm import tqdm

from yolo_slim.as_called import named
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.growing_csv import Layout, line
from yolo_slim.pruning.masks import Scores
from yolo_slim.sensitivity.cuts import DENSE, KINDS, cuts, layers
from yolo_slim.sensitivity.job import Job
from yolo_slim.sensitivity.scan import Row, Scan
from yolo_slim.workers import workers

TITLE = "# yolo-slim sensitivity scan"
COLUMNS = [field.name for field in fields(Row)]
MAY_DIFFER = ("weights",)  # when a scan goes on: the digest tells the model
SETTINGS = (
    *MAY_DIFFER,
    "digest",
    "data",
    "split",
    "imgsz",
    "images",
    "kinds",
    "shares",
    "criterion",
    "residual",
)


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        model, graph: what is cut.
        scores: BN name to (C,), see `cuts`.
        kinds: channels, weights or both.
        shares: of each layer, in (0, 1).
        settings: what goes into the head of the file; all of SETTINGS.
        job: what a worker needs to measure.
    """

    model: nn.Module
    graph: ChannelGraph
    scores: Scores
    kinds: Sequence[str]
    shares: Sequence[float]
    settings: Mapping[str, str]
    job: Job


def run_scan(plan: Plan, path: Path, processes: int = 1) -> Scan:
    """Measure all cuts of a plan, but for those that the file has already.

    Args:
        plan: what to measure.
        path: the CSV; made where it is not there.
        processes: see `workers`.

    Raises:
        InputError: the file is of another plan; the dense model finds nothing, so that there is
            nothing to lose; what `workers` raises.
    """
    rows = list(resumed(path, plan.settings).rows) if path.exists() else []
    done = {row.key for row in rows}
    order = {(DENSE.layer.kind, DENSE.layer.name): -1}
    for kind in (k for k in KINDS if k in plan.kinds):
        for layer in layers(plan.model, plan.graph, kind):
            order[kind, layer.name] = len(order)
    total = 1 + (len(order) - 1) * len(plan.shares)
    if len(rows) < total:
        with workers(plan.job, processes) as measure:
            if not rows:
                rows += measure([DENSE])
                if not rows[0].map50:
                    got = "mAP50 0 on these images, nothing to lose"
                    raise InputError(plan.job.weights, got, "a trained model and its kind of data")
            write_scan(path, plan.settings, rows)
            todo = cuts(plan.model, plan.graph, plan.scores, plan.kinds, plan.shares, done)
            bar = tqdm(
                measure(todo), "sensitivity", total, unit="cut", initial=len(rows), smoothing=0
            )
            with path.open("a", encoding="utf-8") as file, bar:
                for row in bar:
                    file.write(line(row))
                    file.flush()
                    rows.append(row)
        rows.sort(key=lambda row: (order[row.kind, row.layer], row.share))
        write_scan(path, plan.settings, rows)
    return Scan(path, plan.settings, tuple(rows))


def resumed(path: Path, settings: Mapping[str, str]) -> Scan:
    """The scan of a file, if it has the settings that are wanted.

    Raises:
        InputError: it has others.
    """
    scan = read_scan(path)
    layout().check_same(path, scan.settings, settings)
    return scan


def write_scan(path: Path, settings: Mapping[str, str], rows: Sequence[Row]) -> Path:
    """Write a file as a whole, aside and renamed."""
    return layout().write(path, settings, rows)


def layout() -> Layout:
    """What sensitivity.csv looks like."""
    made_by = f"a sensitivity.csv of {named('sensitivity')}"
    return Layout("scan", made_by, TITLE, SETTINGS, MAY_DIFFER, COLUMNS)


def read_scan(path: str | Path) -> Scan:
    """Read a file that a scan wrote, finished or not. A last line without its end is dropped.

    Raises:
        InputError: no such file, not a scan, or damaged.
    """
    path = Path(path)
    settings, body = layout().read(path)
    rows = layout().rows(path, body, parsed, first=is_dense, what="cut", result="result")
    return Scan(path, settings, rows)


def is_dense(row: Row) -> bool:
    """True for the result of the model as it is."""
    return row.kind == DENSE.layer.kind


def parsed(text: str) -> Row | None:
    """The row of a line; None for what is none."""
    try:
        kind, layer, channels, *numbers = next(csv.reader([text]))
        row = Row(kind, layer, int(channels), *map(float, numbers))
    except (StopIteration, TypeError, ValueError):
        return None
    shares = (row.share, row.cut, row.map50, row.map)
    known = kind in (*KINDS, DENSE.layer.kind)
    return row if known and all(math.isfinite(v) and 0 <= v <= 1 for v in shares) else None
