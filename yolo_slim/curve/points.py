"""The points of a curve and their CSV, which grows by a line a point:

    # yolo-slim curve
    # digest: 1a2b3c4d5e6f          what it is of, an entry a line
    family,label,share,imgsz,params,macs,bytes,predicted,latency,spread,map50,map
    dense,dense,1.0,320,1872157,572800000,7560000,,6.21,0.3,0.42,0.281
    cut,0.9,0.894,320,1700000,512000000,6900000,,5.6,0.2,0.39,0.25

The times are measured at the end, in one run: until then their columns are empty.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from yolo_slim.as_called import named
from yolo_slim.growing_csv import Layout
from yolo_slim.runs import CURVE_POINTS
from yolo_slim.text import giga, shortened, table

WIDEST = 24  # characters of a name in the table
TITLE = "# yolo-slim curve"
MAY_DIFFER = ("weights",)  # when a run goes on: the digest tells the model
SETTINGS = (
    *MAY_DIFFER,
    "digest",
    "data",
    "imgsz",
    "images",
    "calibration",
    "by",
    "shares",
    "sizes",
    "trained",
    "device",
    "threads",
)
DENSE, CUT, SIZE, TRAINED = FAMILIES = ("dense", "cut", "size", "trained")


@dataclass(frozen=True)
class Point:
    """A model at an image size.

    Attributes:
        family: dense: the model as it is; cut: a cut of it, recovered and not trained; size: the
            model as it is, at a smaller image size; trained: the result of a finished run.
        label: what tells it from others of its family: the share that was asked for, the size in
            px, the folder of the run.
        share: what is left of the MACs of the dense model, or of its time by a device's table.
        imgsz: side of the image, px.
        params, macs: of the model; MACs at that size.
        bytes: of its ONNX file.
        predicted: ms on the device of a table; None without a table, or where it knows no time yet.
        latency, spread: median and distance of the quartiles as measured here, ms; None before.
        map50, map: mAP of boxes at IoU 0.50, and averaged over 0.50 to 0.95.
    """

    family: str
    label: str
    share: float
    imgsz: int
    params: int
    macs: int
    bytes: int
    predicted: float | None
    latency: float | None
    spread: float | None
    map50: float
    map: float

    @property
    def key(self) -> tuple[str, str]:
        """What no other point has."""
        return self.family, self.label

    @property
    def time(self) -> float:
        """ms: on the device of the table if there is one, else as measured here.

        Raises:
            ValueError: it was not measured yet.
        """
        value = self.latency if self.predicted is None else self.predicted
        if value is None:
            raise ValueError(f"{self.label}: not timed yet")
        return value


COLUMNS = [field.name for field in fields(Point)]


@dataclass(frozen=True)
class Curve:
    """What a run measured, finished or not. Prints itself as a table.

    Attributes:
        path: the CSV.
        settings: what it is of, as in the head of the file: digest, data, imgsz ...
        points: the dense model first, then the families in their order.
    """

    path: Path
    settings: Mapping[str, str]
    points: tuple[Point, ...]

    @property
    def dense(self) -> Point:
        """The model as it is."""
        return next(point for point in self.points if point.family == DENSE)

    @property
    def timed(self) -> bool:
        """Whether all its times were measured."""
        return all(point.latency is not None for point in self.points)

    @property
    def by(self) -> str:
        """What the shares are of: macs, or latency by a device's table."""
        return self.settings["by"]

    def of(self, family: str) -> tuple[Point, ...]:
        """The points of a family."""
        return tuple(point for point in self.points if point.family == family)

    def __str__(self) -> str:
        by_table = self.by == "latency"
        head = ["", "px", "MACs", "parameters", "ms", "of the time"]
        rows = []
        for point in self.points:
            row = [named_point(point), str(point.imgsz), giga(point.macs), f"{point.params:,}"]
            if self.timed:
                row += [f"{point.time:.2f}", f"{point.time / self.dense.time:.0%}"]
            rows.append([*row, f"{point.map50:.3f}", f"{point.map:.3f}"])
        head = [*(head if self.timed else head[:4]), "mAP50", "mAP50-95"]
        title = f"Times by the table of {self.settings['device']}" if by_table else None
        return table(head, rows, title)


def named_point(point: Point) -> str:
    """A point in a word or two."""
    if point.family == CUT:
        return f"cut to {point.label}"
    return shortened(point.label, WIDEST)


def ordered(points: Sequence[Point], runs: Sequence[str] = ()) -> tuple[Point, ...]:
    """The dense model, cuts by falling share, sizes by falling size, runs as they were given."""

    def place(point: Point) -> tuple[int, float]:
        family = FAMILIES.index(point.family)
        if point.family == CUT:
            return family, -float(point.label)
        return family, runs.index(point.label) if point.family == TRAINED else -point.imgsz

    return tuple(sorted(points, key=place))


def write_curve(path: Path, settings: Mapping[str, str], points: Sequence[Point]) -> Path:
    """Write a file as a whole, aside and renamed."""
    return layout().write(path, settings, points)


def layout() -> Layout:
    """What curve.csv looks like."""
    made_by = f"a {CURVE_POINTS} of {named('curve')}"
    return Layout("curve", made_by, TITLE, SETTINGS, MAY_DIFFER, COLUMNS)


def read_curve(path: str | Path) -> Curve:
    """Read a file that a run wrote, finished or not. A last line without its end is dropped.

    Args:
        path: the curve.csv, or its folder.

    Raises:
        InputError: no such file, not a curve, or damaged.
    """
    path = Path(path)
    path = path / CURVE_POINTS if path.is_dir() else path
    settings, body = layout().read(path)
    names = {"what": "point", "result": "point"}
    points = layout().rows(path, body, parsed, first=lambda p: p.family == DENSE, **names)
    return Curve(path, settings, points)


def parsed(text: str) -> Point | None:
    """The point of a line; None for what is none."""
    try:
        family, label, share, *counts, predicted, latency, spread, map50, map_ = next(
            csv.reader([text])
        )
        times = [float(value) if value else None for value in (predicted, latency, spread)]
        accuracy = float(map50), float(map_)
        figures = (*map(int, counts), *times, *accuracy)
        point = Point(family, label, float(share), *figures)  # type: ignore[arg-type]
        known = family in FAMILIES and (family != CUT or 0 < float(label) <= 1)
    except (StopIteration, TypeError, ValueError):
        return None
    sound = math.isfinite(point.share) and all(0 <= value <= 1 for value in accuracy)
    sound &= all(time is None or 0 <= time < math.inf for time in times) and min(point.imgsz, 1) > 0
    return point if known and sound else None
