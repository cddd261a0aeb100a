"""The finished runs of accuracy.py, a row each in docs/accuracy.csv, and the tables of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from _common import locked, put_between

ROWS = Path(__file__).resolve().parents[1] / "docs" / "accuracy.csv"
SETS = {"bccd": (60, 3), "deeppcb": (40, 2), "cards": (60, 3)}  # epochs, seeds
SHORT = 24  # epochs, on bccd and cards
TITLES = {
    "dense": "dense, not cut",
    "dense-head": "dense, not cut, a head that keeps its boxes",
    "slim": "yolo-slim slim",
    "four": "train_sparse.py --st, prune.py, finetune_pruned.py",
    "tp-taylor": "torch-pruning, Taylor",
    "tp-l2": "torch-pruning, L2",
    "seed": "network slimming: L1 on gamma and beta, constants dropped",
}


@dataclass(frozen=True)
class Cell:
    """One run of one method.

    Attributes:
        data: of `SETS`.
        epochs: of all its trainings.
        method: of `METHODS`.
        macs: share of the dense MACs that is left at most; 1 for a dense model.
        times: factor of YOLOv5's lr0 after the cut.
        seed: of all its trainings.
    """

    data: str
    epochs: int
    method: str
    macs: float
    times: int
    seed: int


@dataclass(frozen=True)
class Row(Cell):
    """What came of a cell.

    Attributes:
        map50, map: of best.pt, on the validation images; a map50 that was not kept is NaN.
        macs_left, params_left: shares of the dense model.
    """

    map50: float
    map: float
    macs_left: float
    params_left: float


def read_rows(file: Path) -> list[Row]:
    """The finished runs."""
    if not file.is_file():
        return []
    casts = {"str": str, "int": int, "float": float}
    kinds = {field.name: casts[str(field.type)] for field in fields(Row)}
    with file.open() as source:
        return [
            Row(**{name: kind(row[name] or "nan") for name, kind in kinds.items()})
            for row in csv.DictReader(source)
        ]


def add_row(file: Path, row: Row) -> None:
    """Write a finished run."""
    with locked(file):
        new = not file.is_file()
        with file.open("a", newline="") as out:
            writer = csv.DictWriter(out, [f.name for f in fields(Row)], lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(asdict(row))


def find(rows: Iterable[Row], cell: Cell) -> Row | None:
    """The finished run of a cell."""
    wanted = asdict(cell)
    return next((r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())), None)


def experiments(sets: Iterable[str]) -> list[tuple[str, int, str, float]]:
    """(data, epochs, method, MACs) of all that is compared, what is wanted most first."""
    found: list[tuple[str, int, str, float]] = []
    for data in sets:
        epochs, some = SETS[data][0], "seed" if data == "bccd" else ""
        found += [(data, epochs, "dense", 1.0), (data, epochs, "slim", 0.45)]
        found += [(data, epochs, "slim", 0.3), (data, epochs, "four", 0.45)]
        found += [(data, epochs, name, 0.45) for name in ("tp-taylor", "tp-l2", some) if name]
        found += [(data, epochs, "dense-head", 1.0)]
        if data != "deeppcb":
            found += [(data, SHORT, "dense", 1.0), (data, SHORT, "slim", 0.45)]
    return found


def chosen(rows: Iterable[Row], data: str, epochs: int, name: str, macs: float) -> list[Row]:
    """The finished runs of an experiment with the better lr0, by seed; the first seed decides."""
    mine = [r for r in rows if (r.data, r.epochs, r.method, r.macs) == (data, epochs, name, macs)]
    first = [r for r in mine if r.seed == 0]
    if not first:
        return []
    times = max(first, key=lambda r: r.map).times
    return sorted((r for r in mine if r.times == times), key=lambda r: r.seed)


def table(rows: list[Row], data: str) -> str:
    """A row an experiment: mAP50-95 of each seed, mean, spread, and what is lost against dense."""
    head = ["epochs", "method", "MACs left", "parameters left", "lr0", "mAP50-95 by seed", "mean"]
    head += ["spread", "against dense"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for _, epochs, name, macs in sorted(experiments([data]), key=lambda e: -e[1]):
        found = chosen(rows, data, epochs, name, macs)
        if not found:
            continue
        reference = chosen(rows, data, epochs, "dense", 1.0)
        maps = [row.map for row in found]
        mean = sum(maps) / len(maps)
        figures = [str(epochs), TITLES[name]]
        figures += [
            f"{max(getattr(r, key) for r in found):.1%}" for key in ("macs_left", "params_left")
        ]
        figures += [f"x {found[0].times}", ", ".join(f"{value:.3f}" for value in maps)]
        figures += [f"{mean:.3f}", f"{max(maps) - min(maps):.3f}"]
        if name != "dense" and reference:
            base = sum(row.map for row in reference) / len(reference)
            figures.append(f"{100 * (mean - base):+.1f}")
        else:
            figures.append("")
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(lines)


def write_tables(page: Path, rows: list[Row]) -> None:
    """Put the table of each set between its marks in a page."""
    for data in SETS:
        put_between(page, data, table(rows, data))
