"""Accuracy at the same cost: our road, torch-pruning 1.6.1 and network slimming as published.

BCCD: yolov5n from COCO weights, 320 px, the same data, seeds, host loop and epochs in all for each
method; at most 45% of the dense MACs are left. COCO: the COCO yolov5n, cut with no training
at all, on COCO128: calibrated on 64 images, scored on the other 64, both ways round.

It takes hours on a small machine: each finished run is kept under --work, and an interrupted script
goes on where it was; several at once share the work. `--write` puts the tables of what is finished
into docs/results.md. Nothing is run where ../shared/data is absent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import parser
from _data import SHARED, bccd

from yolo_slim import load, save
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.statistics import match_statistics_
from yolo_slim.runs import to_cut

IMGSZ, EPOCHS, MACS, IMAGES = 320, 60, 0.45, 128
HALF = EPOCHS // 2
WEIGHTS = SHARED / "weights" / "yolov5n.pt"
METHODS: dict[str, Callable[[Cell], dict[str, Any]]] = {}


class Cell:
    """One method with one seed: where it works, and what it may ask for.

    Attributes:
        folder: its runs.
        seed: of all of them.
        work: of all cells.
    """

    def __init__(self, name: str, seed: int, work: Path) -> None:
        self.name, self.seed, self.work = name, seed, work
        self.folder = work / f"{name}-{seed}"
        self.data = bccd(work)

    def command(self, command: str, *argv: Any, name: str) -> Path:
        """Run a yolo-slim command, unless its run has ended; returns its folder."""
        folder = self.folder / name
        done = folder / "done"
        if not done.is_file():
            log = self.folder / f"{name}.log"
            self.folder.mkdir(parents=True, exist_ok=True)
            last = folder / "weights" / "last.pt"
            options = ["--project", self.folder, "--name", name, "--exist-ok"]
            options = ["--resume", last] if resumable(last) else [*argv, *options]
            call = [sys.executable, "-c", "from yolo_slim.cli import main; main()", command]
            call += map(str, options)
            with log.open("a") as out:
                subprocess.run(call, check=True, stdout=out, stderr=out)
            done.touch()
        return folder

    def train(self, command: str, *argv: Any, name: str, epochs: int) -> Path:
        """A training of the host's loop, on the data."""
        options = ["--data", self.data, "--img", IMGSZ, "--epochs", epochs, "--seed", self.seed]
        options += ["--cache", "--noplots", "--workers", 1]
        return self.command(command, *argv, *options, name=name)

    def dense(self, epochs: int) -> Path:
        """best.pt of the model that is not cut: the methods that begin with it share it."""
        shared = Cell(f"dense{epochs}", self.seed, self.work)
        with locked(shared.folder):
            run = shared.train("sparse", "--weights", WEIGHTS, name="train", epochs=epochs)
        return run / "weights" / "best.pt"

    def score(self, file: Path) -> list[float]:
        """mAP50 and mAP50-95 of a checkpoint."""
        found = evaluate(load(file).model, check_data(self.data), imgsz=IMGSZ, workers=1)
        return [found.map50, found.map]

    def result(self, end: Path, before: Path | None = None, cut: Path | None = None) -> dict:
        """What is kept of a cell: mAP of the last model, before the cut and right after it."""
        found, dense = (cost(load(f).model, IMGSZ) for f in (end, self.dense(EPOCHS)))
        return {
            "macs": found.macs / dense.macs,
            "params": found.params / dense.params,
            "end": self.score(end),
            "before": self.score(before) if before else None,
            "cut": self.score(cut) if cut else None,
        }


def method(name: str) -> Callable[[Callable[[Cell], dict]], Callable[[Cell], dict]]:
    """Decorator: a way from the COCO weights to a small model."""

    def register(function: Callable[[Cell], dict]) -> Callable[[Cell], dict]:
        METHODS[name] = function
        return function

    return register


@method("dense")
def dense(cell: Cell) -> dict[str, Any]:
    return cell.result(cell.dense(EPOCHS))


@method("seed")
def seed_method(cell: Cell) -> dict[str, Any]:
    """Decaying L1 on gamma and beta, constants dropped, no recovery."""
    options = ["--st", "--sr", 0.2, "--bias-sr", 0.2, "--weights", WEIGHTS, "--no-probe"]
    sparse = to_cut(cell.train("sparse", *options, name="sparse", epochs=HALF))
    options = ["--weights", sparse, "--macs", MACS - 0.005, "--round-to", 1, "--recover", "none"]
    cut = cell.command("prune", *options, name="cut") / "pruned.pt"
    tuned = cell.train("finetune", "--weights", cut, name="tuned", epochs=HALF)
    return cell.result(tuned / "weights" / "best.pt", sparse, cut)


def torch_pruning(cell: Cell) -> dict[str, Any]:
    """Dense training, torch-pruning's cut in multiples of 8, statistics, finetuning."""
    from rivals import as_pruned, kept_channels_
    from rivals import torch_pruning as cut_by

    source, cut = cell.dense(HALF), cell.folder / "cut.pt"
    if not cut.is_file():
        model = load(source).model
        images = calibrate(check_data(cell.data), model, imgsz=IMGSZ, images=IMAGES)
        found = cut_by(model, cell.name.removeprefix("tp-"), MACS, images, imgsz=IMGSZ)
        match_statistics_(found, model, kept_channels_(found), images)
        save(as_pruned(found), cut)
    tuned = cell.train("finetune", "--weights", cut, name="tuned", epochs=HALF)
    return cell.result(tuned / "weights" / "best.pt", source, cut)


for criterion in ("l2", "taylor", "bn"):
    METHODS[f"tp-{criterion}"] = torch_pruning


@method("ours")
def ours(cell: Cell) -> dict[str, Any]:
    options = ["--weights", WEIGHTS, "--macs", MACS - 0.005, "--round-to", 8]
    run = cell.train("slim", *options, name="slim", epochs=EPOCHS)
    return cell.result(run / "weights" / "best.pt")


def resumable(last: Path) -> bool:
    """True if a training was interrupted after its first epoch."""
    return last.is_file() and load(last).epoch >= 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process works in a folder; another waits."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="runs are kept here")
    args.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    args.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    opt = args.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no real data, {SHARED} is not there")
        return
    opt.work = opt.work.absolute()
    opt.work.mkdir(parents=True, exist_ok=True)
    for seed in opt.seeds:
        for name in opt.methods:
            cell = Cell(name, seed, opt.work)
            file = opt.work / f"{name}-{seed}.json"
            with locked(cell.folder):
                if not file.is_file():
                    found = METHODS[name](cell)
                    file.write_text(json.dumps(found, indent=2))
            print(name, seed, json.loads(file.read_text()), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
