"""sparsity.csv: a line an epoch; what was not measured is empty."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from math import nan
from pathlib import Path

from yolo_slim.as_called import named
from yolo_slim.errors import InputError
from yolo_slim.files import write_aside
from yolo_slim.sparsify.readiness import NEAR_ZERO, QUANTILES, Kept, Sparsity

_AT = [f"q{round(100 * q):02d}" for q in QUANTILES]
COLUMNS = [
    "epoch",
    "sr",
    *(f"gamma_{at}" for at in _AT),
    *(f"relative_{at}" for at in _AT),  # in units of each layer's median at the start
    "quantile",  # relative too, at the share that is to be cut
    "near_zero",
    "map50",
    "map",
    "share_1",
    "kept_1",
    "share_2",
    "kept_2",
]
OLDER = ["epoch", "sr", *(f"gamma_{at}" for at in _AT), "near_zero", "threshold"]


def write_sparsity(file: Path, rows: Sequence[Sparsity]) -> Path:
    """Write sparsity.csv anew, aside and renamed.

    Raises:
        InputError: it cannot be written; the old one stays whole.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cuts = [v for c in (row.now, row.aim) for v in ((c.share, c.kept) if c else (nan, nan))]
        values = [row.sr, *row.gamma, *row.relative, row.quantile, row.near_zero]
        values += [row.map50, row.map, *cuts]
        writer.writerow([row.epoch, *("" if math.isnan(v) else f"{v:.6g}" for v in values)])
    return write_aside(file, out.getvalue().encode())


def read_sparsity(file: Path) -> list[Sparsity]:
    """Read sparsity.csv, an older version's too.

    Raises:
        InputError: it is something else, or damaged.
    """
    return [_parsed(row) for row in _rows(file)]


def older_start(file: Path) -> float | None:
    """The median |gamma| that an older version's run began with; None for any other file.

    Raises:
        InputError: see `read_sparsity`.
    """
    first = next(iter(_rows(file)), {}) if file.is_file() else {}
    return first["threshold"] / NEAR_ZERO if "threshold" in first else None


def _rows(file: Path) -> list[dict[str, float]]:
    """The lines by column; nan for what is empty."""
    expected = f"a sparsity.csv of {named('sparse')}"
    try:
        with file.open(newline="", encoding="utf-8") as source:
            reader = csv.DictReader(source, strict=True)
            names = reader.fieldnames or ()
            rows = [{k: float(v) if v else nan for k, v in row.items()} for row in reader]
    except (AttributeError, TypeError, ValueError, csv.Error) as error:
        raise InputError(file, f"damaged ({error})"[:160], expected) from error
    wanted = OLDER if "threshold" in names else COLUMNS
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(file, f"no column {missing[0]}", expected)
    if any(math.isnan(row["epoch"]) for row in rows):
        raise InputError(file, "damaged (a line without its epoch)", expected)
    return rows


def _parsed(value: dict[str, float]) -> Sparsity:
    gamma = tuple(value[f"gamma_{at}"] for at in _AT)
    if "threshold" in value:  # an older version: one median for all layers
        unit = value["threshold"] / NEAR_ZERO or nan
        relative = tuple(v / unit for v in gamma)
        quantile = relative[QUANTILES.index(0.6)]
    else:
        relative, quantile = tuple(value[f"relative_{at}"] for at in _AT), value["quantile"]
    shares = [(value.get(f"share_{i}", nan), value.get(f"kept_{i}", nan)) for i in (1, 2)]
    now, aim = (None if math.isnan(share) else Kept(share, kept) for share, kept in shares)
    return Sparsity(
        int(value["epoch"]),
        value["sr"],
        gamma,
        relative,
        quantile,
        value["near_zero"],
        value.get("map50", nan),
        value.get("map", nan),
        now,
        aim,
    )
