"""What a finished run left behind, whichever command made it: its model, and what it came from."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.as_called import as_called, named
from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping
from yolo_slim.host.data import read_data
from yolo_slim.models import load
from yolo_slim.moved import begun_in, present
from yolo_slim.runs import (
    CURVE,
    CURVE_POINTS,
    FINETUNED,
    STATE,
    checkpoint_to_cut,
    trained_file,
)

REPORT, OPTIONS = "report.json", "opt.yaml"
SCAN = "sensitivity.csv"
SHOWN = 120  # characters of what is wrong with a file
OURS = "a folder of sparse, prune, finetune, slim, finegrained, curve or sensitivity"


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        kind: the command that made it: "sparse", "prune", "finetune", "slim", "finegrained",
            "curve" or "sensitivity"; "training" for one of YOLOv5's without a penalty.
        folder: where it lies.
        result: its checkpoint; None for what makes none.
        dense: the checkpoint that it began with; None where it is gone or not known.
        data: the data yaml; None where the run had none.
        imgsz: px; None where the run does not say.
        options: as they were settled.
        report: what its report.json says, else empty.
    """

    kind: str
    folder: Path
    result: Path | None
    dense: Path | None
    data: str | None
    imgsz: int | None
    options: Mapping[str, Any]
    report: Mapping[str, Any]


def short(run: Finished) -> str:
    """A run by its last two folders: "prune/exp"."""
    folder = run.folder.absolute()
    return f"{folder.parent.name}/{folder.name}"


def finished_run(place: str | Path) -> Finished:
    """Read the folder of a run.

    Args:
        place: the folder, or a file in it, such as its best.pt.

    Raises:
        InputError: no such folder, one that is none of ours, or a run that is not finished.
    """
    folder = folder_of(Path(place))
    names = {path.name for path in folder.iterdir()}
    for mark, read in READERS:
        if mark in names:
            with reading(folder):
                return read(folder)
    raise InputError(folder, "a folder of no run that is known", OURS)


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """In the block, a file that says what none of ours can say is one line.

    Raises:
        InputError: a file is damaged.
    """
    try:
        yield
    except InputError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        csv.Error,
    ) as error:
        why = f"{type(error).__name__}: {error}"[:SHOWN]
        raise InputError(folder, f"a file in it is damaged ({why})", "a run as it ended") from error


def folder_of(place: Path) -> Path:
    """The folder of a run that a path means.

    Raises:
        InputError: there is no such path.
    """
    if place.is_dir():
        return place.parent if place.name == "weights" else place
    if place.is_file():
        parent = place.parent
        return parent.parent if parent.name == "weights" else parent
    raise InputError(place, "no such folder", OURS)


def read_slim(folder: Path) -> Finished:
    """A run of slim: it is finished when its report is there."""
    options = dict(read_json(folder / STATE).get("options") or {})
    if not (folder / REPORT).is_file() or not (folder / "best.pt").is_file():
        raise not_finished(folder, as_called("slim", "--resume", folder))
    given, trained = folder / "dense.pt", folder / "train1" / "weights" / "last.pt"
    dense = given if given.is_file() else trained if trained.is_file() else None
    return made(folder, "slim", folder / "best.pt", dense, options, read_json(folder / REPORT))


def read_training(folder: Path) -> Finished:
    """A run of sparse or finetune, or YOLOv5's own: it is finished when its last.pt says so."""
    options = read_mapping(folder / OPTIONS, "the options of a training")
    last = folder / "weights" / "last.pt"
    kind = "finetune" if (folder / FINETUNED).is_file() else "training"
    if kind == "training" and (folder / "sparsity.csv").is_file() and options.get("st"):
        kind = "sparse"
    command = "finetune" if kind == "finetune" else "sparse"
    if not last.is_file() or load(last).epoch >= 0:
        raise not_finished(folder, as_called(command, "--resume", folder))
    result = checkpoint_to_cut(folder) if kind == "sparse" else trained_file(folder)
    weights = options.get("weights")
    dense = None
    if weights:
        start = begun_in(options, folder.absolute()) if options.get("save_dir") else folder
        dense = start / str(weights)
    return made(folder, kind, result, dense if dense and dense.is_file() else None, options, {})


def read_report(folder: Path) -> Finished:
    """A run of prune or finegrained."""
    report = read_json(folder / REPORT)
    for name, kind in (("pruned.pt", "prune"), ("sparse.pt", "finegrained")):
        if (folder / name).is_file() and "weights" in report:
            dense = Path(str(report["weights"]))
            options = dict(report.get("options") or {})
            train = load(folder / name).train
            options |= {key: train[key] for key in ("data", "imgsz") if train.get(key)}
            there = dense if dense.is_file() else None
            return made(folder, kind, folder / name, there, options, report)
    raise InputError(folder, "a folder without a model that was cut", OURS)


def read_curve(folder: Path) -> Finished:
    """A run of curve."""
    if not (folder / CURVE).is_file():
        raise not_finished(folder, as_called("curve", "--resume", folder))
    report = read_json(folder / CURVE)
    settings = dict(report.get("settings") or {})
    weights = Path(str(settings.get("weights", "")))
    dense = weights if weights.is_file() else None
    return made(folder, "curve", None, dense, settings, report)


def read_scan(folder: Path) -> Finished:
    """A run of sensitivity: its picture is drawn last."""
    if not (folder / "sensitivity.png").is_file():
        raise not_finished(folder, f"{named('sensitivity')} ... --resume {folder}")
    head = [line for line in (folder / SCAN).read_text("utf-8").splitlines() if line[:2] == "# "]
    settings = dict(line[2:].split(": ", 1) for line in head if ": " in line)
    weights = Path(settings.get("weights", ""))
    return made(folder, "sensitivity", None, weights if weights.is_file() else None, settings, {})


READERS: tuple[tuple[str, Callable[[Path], Finished]], ...] = (  # what lies in a folder, its reader
    (STATE, read_slim),
    (OPTIONS, read_training),
    (CURVE_POINTS, read_curve),
    (SCAN, read_scan),
    (REPORT, read_report),
)


def made(
    folder: Path,
    kind: str,
    result: Path | None,
    dense: Path | None,
    options: Mapping[str, Any],
    report: Mapping[str, Any],
) -> Finished:
    """A run with its data and image size, as its options say."""
    imgsz, data = options.get("imgsz"), options.get("data")
    here = None
    if data:
        here = str(data)
        if options.get("save_dir"):
            start = begun_in(options, folder.absolute())
            old = start / str(options["save_dir"])
            here = str(present(start / here, old, folder.absolute()))
    size = int(imgsz) if imgsz else None
    return Finished(kind, folder, result, dense, here, size, options, report)


def read_json(file: Path) -> dict[str, Any]:
    """The content of a json that a command wrote.

    Raises:
        InputError: it is damaged, or not there.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(file, "damaged, or gone", "what the command wrote") from error
    if not isinstance(content, dict):
        raise InputError(file, "damaged", "what the command wrote")
    return content


def check_same_data(run: Finished, file: str | Path, data: Mapping[str, Any]) -> None:
    """See that a run was of some data; a run that names none is taken.

    The same file is the same data, and so is one with the same images and classes.

    Args:
        run: finished.
        file: a data yaml.
        data: what it says, from `read_data`.

    Raises:
        InputError: it was of other data, or its data is gone.
    """
    if run.data is None or Path(run.data).resolve() == Path(file).resolve():
        return
    try:
        theirs = read_data(run.data, download=False)
        same = all(theirs.get(key) == data.get(key) for key in ("val", "names"))
    except InputError:  # it is gone
        same = False
    if not same:
        raise InputError(run.folder, f"a run of other data ({run.data})", f"one of {file}")


def not_finished(folder: Path, command: str) -> InputError:
    """That a run has not ended, and what goes on with it."""
    return InputError(folder, "a run that is not finished", f"a finished one; `{command}` goes on")
