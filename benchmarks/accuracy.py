"""Accuracy at the same cost, on three data sets: our roads, torch-pruning 1.6.1, and no cut at all.

yolov5n from the COCO weights, 320 px, batch 16: for each method the same data, seeds, host loop and
epochs in all. Each method has the better of YOLOv5's lr0 and of twice that, in the training that
follows its cut (dense: in its training); the first seed decides.

It takes days on a small machine. Each finished run is a row of docs/accuracy.csv at once; what has
a row is not run again. Runs that have begun are kept under --work, and an interrupted script goes
on where it was; several at once share the work. `--write` puts the tables into docs/results.md.
Nothing is run where ../shared/data is absent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from _common import locked, parser
from _data import SHARED, data_set
from _rows import (
    ROWS,
    SETS,
    Cell,
    Row,
    add_row,
    chosen,
    experiments,
    find,
    read_rows,
    write_tables,
)

from yolo_slim import load, save
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.host.head import with_classes
from yolo_slim.host.options import HYP
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.recover.statistics import match_statistics_
from yolo_slim.runs import checkpoint_to_cut

IMGSZ, IMAGES, TIMES = 320, 128, (1, 2)
WEIGHTS = SHARED / "weights" / "yolov5n.pt"
UNGUARDED = "from yolo_slim.sparsify import guard; guard.FALLEN = 0; "  # no going back
Method = Callable[["Work"], Path]
METHODS: dict[str, Method] = {}


class Work:
    """Where a cell runs.

    Args:
        cell: what is run.
        root: folder of all cells.
    """

    def __init__(self, cell: Cell, root: Path) -> None:
        self.cell, self.root = cell, root
        self.folder = root / "-".join(str(v) for v in asdict(cell).values())
        self.data = data_set(cell.data, root)

    def command(self, command: str, *argv: Any, name: str, first: str = "") -> Path:
        """Run a yolo-slim command, unless its run has ended; returns its folder.

        Args:
            command, argv: of the command line.
            name: of the folder.
            first: Python that is run before it.
        """
        folder = self.folder / name
        done = folder / "done"
        if not done.is_file():
            log = self.folder / f"{name}.log"
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ["--project", self.folder, "--name", name, "--exist-ok"]
            options = ["--resume", begun(folder)] if begun(folder) else [*argv, *options]
            call = [sys.executable, "-c", f"{first}from yolo_slim.cli import main; main()", command]
            call += map(str, options)
            with log.open("a") as out:
                subprocess.run(call, check=True, stdout=out, stderr=out)
            done.touch()
        return folder

    def train(self, command: str, *argv: Any, name: str, epochs: int, first: str = "") -> Path:
        """A training of the host's loop, on the data."""
        options = ["--data", self.data, "--img", IMGSZ, "--epochs", epochs]
        options += ["--seed", self.cell.seed, "--cache", "--noplots", "--workers", 1]
        return self.command(command, *argv, *options, name=name, first=first)

    def dense(self, weights: Path = WEIGHTS) -> Path:
        """best.pt of a training of the whole model."""
        hyp = yaml.safe_load(HYP.read_text(errors="ignore"))
        file = self.folder / "hyp.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(hyp | {"lr0": hyp["lr0"] * self.cell.times}))
        options = ["--weights", weights, "--hyp", file]
        run = self.train("sparse", *options, name="dense", epochs=self.cell.epochs)
        return run / "weights" / "best.pt"

    def before(self, epochs: int) -> Path:
        """best.pt of a dense training that a cut follows: several methods share it."""
        work = Work(Cell(self.cell.data, epochs, "dense", 1.0, 1, self.cell.seed), self.root)
        with locked(work.folder):
            return work.dense()

    def finetuned(self, cut: Path, epochs: int, *options: Any) -> Path:
        """best.pt of a training after a cut."""
        options = ("--weights", cut, "--lr-times", self.cell.times, *options)
        folder = self.train("finetune", *options, name="tuned", epochs=epochs)
        return folder / "weights" / "best.pt"

    def row(self, end: Path) -> Row:
        """What is kept of a cell: the last model, measured."""
        sets, model = check_data(self.data), load(end).model
        found = evaluate(model, sets, imgsz=IMGSZ, workers=1)
        dense = cost(with_classes(load(WEIGHTS).model, sets["names"]), IMGSZ)
        ours = cost(model, IMGSZ)
        left = [round(a / b, 4) for a, b in ((ours.macs, dense.macs), (ours.params, dense.params))]
        return Row(
            **asdict(self.cell),
            map50=round(found.map50, 4),
            map=round(found.map, 4),
            macs_left=left[0],
            params_left=left[1],
        )


def method(name: str) -> Callable[[Method], Method]:
    """Decorator: a way from the COCO weights to a checkpoint of the last model."""

    def register(function: Method) -> Method:
        METHODS[name] = function
        return function

    return register


@method("dense")
def dense(work: Work) -> Path:
    return work.dense()


@method("dense-head")
def dense_head(work: Work) -> Path:
    """What slim does with the head, without a cut."""
    file = work.folder / "head.pt"
    if not file.is_file():
        save(with_classes(load(WEIGHTS).model, check_data(work.data)["names"]), file)
    return work.dense(file)


@method("slim")
def slim(work: Work) -> Path:
    options = ["--weights", WEIGHTS, "--macs", work.cell.macs - 0.005, "--round-to", 8]
    options += ["--lr-times", work.cell.times]
    return work.train("slim", *options, name="slim", epochs=work.cell.epochs) / "best.pt"


@method("four")
def four(work: Work) -> Path:
    """Sparse training, the cut of what is zero, finetuning."""
    half = work.cell.epochs // 2
    options = ["--st", "--macs", work.cell.macs - 0.005, "--round-to", 8, "--no-probe"]
    options += ["--weights", WEIGHTS]
    sparse = checkpoint_to_cut(work.train("sparse", *options, name="sparse", epochs=half))
    cut = work.command("prune", "--weights", sparse, name="cut") / "pruned.pt"
    return work.finetuned(cut, work.cell.epochs - half)


@method("seed")
def seed_method(work: Work) -> Path:
    """Decaying L1 on gamma and beta, constants dropped, no recovery, no hints."""
    half = work.cell.epochs // 2
    options = ["--st", "--sr", 0.2, "--bias-sr", 0.2, "--weights", WEIGHTS, "--no-probe"]
    run = work.train("sparse", *options, name="sparse", epochs=half, first=UNGUARDED)
    options = [
        "--weights",
        checkpoint_to_cut(run),
        "--macs",
        work.cell.macs - 0.005,
        "--round-to",
        1,
    ]
    cut = work.command("prune", *options, "--recover", "none", name="cut") / "pruned.pt"
    return work.finetuned(cut, work.cell.epochs - half, "--hints", "none")


def torch_pruning(work: Work) -> Path:
    """Dense training, torch-pruning's cut in multiples of 8, statistics, finetuning."""
    from rivals import as_pruned, kept_channels_
    from rivals import torch_pruning as cut_by

    half, cut = work.cell.epochs // 2, work.folder / "cut.pt"
    source = work.before(half)
    if not cut.is_file():
        model = load(source).model
        images = calibrate(check_data(work.data), model, imgsz=IMGSZ, images=IMAGES)
        criterion = work.cell.method.removeprefix("tp-")
        found = cut_by(model, criterion, work.cell.macs, images, imgsz=IMGSZ)
        match_statistics_(found, model, kept_channels_(found), images)
        save(as_pruned(found), cut)
    return work.finetuned(cut, work.cell.epochs - half)


for name in ("tp-taylor", "tp-l2"):
    METHODS[name] = torch_pruning


def begun(folder: Path) -> Path | None:
    """What an interrupted run in a folder is resumed from; None if it has to begin."""
    if (folder / "slim.json").is_file():
        return folder
    last = folder / "weights" / "last.pt"
    return last if last.is_file() and load(last).epoch >= 0 else None


def once(cell: Cell, root: Path, file: Path) -> Row:
    """What a cell came to: a row that is there, or made now."""
    work = Work(cell, root)
    with locked(work.folder):
        found = find(read_rows(file), cell)
        if found is None:
            found = work.row(METHODS[cell.method](work))
            add_row(file, found)
    return found


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="runs are kept here")
    args.add_argument(
        "--rows", type=Path, default=ROWS, help="the finished runs (docs/accuracy.csv)"
    )
    args.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    args.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    args.add_argument("--epochs", nargs="*", type=int, help="only experiments of so many")
    args.add_argument("--macs", nargs="*", type=float, help="only experiments with this share")
    args.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    args.add_argument("--times", nargs="*", type=int, default=list(TIMES), help="of lr0, seed 0")
    args.add_argument("--write", type=Path, metavar="results.md", help="the page with the tables")
    opt = args.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no real data, {SHARED} is not there")
        return
    root = opt.work.absolute()
    for data, epochs, name, macs in experiments(opt.sets):
        if name not in opt.methods or (opt.epochs and epochs not in opt.epochs):
            continue
        if opt.macs and macs not in opt.macs:
            continue
        for seed in sorted(set(opt.seeds) & set(range(SETS[data][1]))):
            known = chosen(read_rows(opt.rows), data, epochs, name, macs)
            for times in opt.times if seed == 0 else [known[0].times] if known else []:
                cell = Cell(data, epochs, name, macs, times, seed)
                print(json.dumps(asdict(once(cell, root, opt.rows))), flush=True)
    if opt.write:
        write_tables(opt.write, read_rows(opt.rows))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
