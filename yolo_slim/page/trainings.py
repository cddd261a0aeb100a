"""How the trainings of a run went: their results.csv, and sparsity.csv where there is one."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.errors import InputError
from yolo_slim.finished import Finished, short
from yolo_slim.models import load
from yolo_slim.page.model import Series, Training
from yolo_slim.rounds.course import course, still_rising
from yolo_slim.runs import RESULTS
from yolo_slim.sparsify.readiness import QUANTILES
from yolo_slim.sparsify.table import read_sparsity
from yolo_slim.sparsify.trained import kept_of
from yolo_slim.text import apart, counted

Rows = list[dict[str, float | None]]
ACCURACY = (  # column of results.csv, of a detection or a segmentation training; what it is
    ("metrics/mAP_0.5", "mAP50"),
    ("metrics/mAP_0.5:0.95", "mAP50-95"),
    ("metrics/mAP_0.5(B)", "mAP50"),
    ("metrics/mAP_0.5:0.95(B)", "mAP50-95"),
    ("metrics/mAP_0.5(M)", "masks mAP50"),
    ("metrics/mAP_0.5:0.95(M)", "masks mAP50-95"),
)
LOSSES = (
    ("box_loss", "box"),
    ("obj_loss", "objectness"),
    ("cls_loss", "class"),
    ("seg_loss", "masks"),
)
SPARSITY = "sparsity.csv"
BANDS = (0.1, 0.5, 0.9)  # quantiles of |gamma| that are drawn


def trainings_of(run: Finished, *, named: bool = False) -> tuple[Training, ...]:
    """The trainings of a run, in their order; none for one that trains nothing.

    Args:
        run: a finished one.
        named: their titles name the run.

    Raises:
        InputError: a csv is damaged.
    """
    folders, of = _folders(run), f" of {short(run)}" if named else ""
    titles = ["training"]
    if run.kind == "slim":
        titles = [f"training {n} of {len(folders)}" for n in range(1, len(folders) + 1)]
    return tuple(
        _training(folder, f"{title}{of}") for folder, title in zip(folders, titles, strict=False)
    )


def told_of(run: Finished) -> list[str]:
    """What a run said of its trainings at its end: too few epochs, or a better model before them.

    Raises:
        InputError: its results.csv is damaged.
    """
    if run.kind == "slim" and run.report.get("best") == "recovered":
        now, then = apart(run.report["trained"]["map"], run.report["accuracy"]["map"])
        text = f"Too few epochs: mAP50-95 is {now} after the last training, less than the {then} "
        return [f"{text}of the recovered model that it began with: best.pt is that model."]
    folders = _folders(run)
    maps = [whole for _, whole in course(folders[-1])] if folders else []
    return [text] if maps and (text := still_rising(maps)) else []


def _folders(run: Finished) -> list[Path]:
    """Of each training, in their order."""
    if run.kind != "slim":
        return [run.folder] if (run.folder / RESULTS).is_file() else []
    return sorted(
        (path for path in run.folder.glob("train*") if (path / RESULTS).is_file()),
        key=lambda path: (len(path.name), path.name),
    )


def _training(folder: Path, title: str) -> Training:
    rows = read_results(folder / RESULTS)
    epochs = tuple(int(row["epoch"] or 0) + 1 for row in rows)
    panels = {"mAP on the validation images": _curves(rows, ACCURACY)}
    for part in ("train", "val"):
        names = [(f"{part}/{name}", text) for name, text in LOSSES]
        panels[f"Losses, {'training' if part == 'train' else 'validation'}"] = _curves(rows, names)
    marks: tuple[tuple[float, str], ...] = ()
    if (folder / SPARSITY).is_file():
        panels |= _sparsity(folder, epochs)
        marks = _moments(folder)
        title = f"sparse {title}"
    panels = {name: curves for name, curves in panels.items() if curves}
    return Training(
        f"{title[0].upper()}{title[1:]}, {counted(len(epochs), 'epoch')}", epochs, panels, marks
    )


def read_results(file: Path) -> Rows:
    """The rows of YOLOv5's results.csv; None for what is no finite number.

    Raises:
        InputError: it is damaged.
    """
    rows: Rows = []
    with file.open(newline="", encoding="utf-8", errors="replace") as source:
        for row in csv.DictReader(source, skipinitialspace=True):
            if None in row.values():  # segment/train.py ends with a row of the best metrics
                continue
            rows.append({str(k).strip(): _number(v) for k, v in row.items() if k})
    if not rows or any(row.get("epoch") is None for row in rows):
        raise InputError(file, "damaged, or without an epoch", "the results.csv of a training")
    return rows


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _curves(rows: Rows, columns: Sequence[tuple[str, str]]) -> tuple[Series, ...]:
    return tuple(
        Series(text, tuple(row[name] for row in rows)) for name, text in columns if name in rows[0]
    )


def _sparsity(folder: Path, epochs: Sequence[int]) -> dict[str, tuple[Series, ...]]:
    """|gamma| and what is near zero, in the epochs of the training."""
    history = {row.epoch + 1: row for row in read_sparsity(folder / SPARSITY)}
    at = [QUANTILES.index(q) for q in BANDS]
    rows = [history.get(epoch) for epoch in epochs]
    gammas = tuple(
        Series(
            "median" if q == 0.5 else f"{q:.0%} of the channels are below",
            tuple(None if row is None else _finite(row.relative[i]) for row in rows),
        )
        for q, i in zip(BANDS, at, strict=True)
    )
    near = tuple(None if row is None else _finite(100 * row.near_zero) for row in rows)
    return {
        "|gamma|, in units of its layer's median at the start": gammas,
        "Prunable channels near zero": (Series("near zero", near, "%"),),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _moments(folder: Path) -> tuple[tuple[float, str], ...]:
    """When zeros began to be held, and where the training went back to."""
    last = folder / "weights" / "last.pt"
    ended = load(last) if last.is_file() else None
    if ended is None:
        return ()
    held, backs = kept_of(ended, "held"), kept_of(ended, "backs") or []
    marks = [] if held is None else [(held + 0.5, "zeros are held from here")]
    marks += [(back + 1.5, "went back to here") for back in backs]
    return tuple(marks)
