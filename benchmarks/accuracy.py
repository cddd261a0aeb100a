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
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from _common import parser
from _data import SHARED, bccd, coco_halves

from yolo_slim import load, prune, save
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.statistics import match_statistics_
from yolo_slim.runs import to_cut

IMGSZ, EPOCHS, MACS, IMAGES = 320, 60, 0.45, 128
HALF = EPOCHS // 2
WEIGHTS = SHARED / "weights" / "yolov5n.pt"
UNGUARDED = "from yolo_slim.sparsify import guard; guard.FALLEN = 0; "  # no going back
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
        options = ["--data", self.data, "--img", IMGSZ, "--epochs", epochs, "--seed", self.seed]
        options += ["--cache", "--noplots", "--workers", 1]
        return self.command(command, *argv, *options, name=name, first=first)

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
        files = (end, before or self.dense(EPOCHS))
        found, dense = (cost(load(file).model, IMGSZ) for file in files)
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
    run = cell.train("sparse", *options, name="sparse", epochs=HALF, first=UNGUARDED)
    sparse = to_cut(run)
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
    rounds = json.loads((run / "report.json").read_text())["rounds"]
    steps = {"before": rounds[0]["accuracy"]["before"], "cut": rounds[-1]["recovered"]}
    return cell.result(run / "best.pt") | steps


@method("ours-sparse")
def ours_sparse(cell: Cell) -> dict[str, Any]:
    """Sparse training, the cut of what is zero, finetuning."""
    options = ["--st", "--macs", MACS - 0.005, "--round-to", 8, "--weights", WEIGHTS, "--no-probe"]
    sparse = to_cut(cell.train("sparse", *options, name="sparse", epochs=HALF))
    cut = cell.command("prune", "--weights", sparse, name="cut") / "pruned.pt"
    tuned = cell.train("finetune", "--weights", cut, name="tuned", epochs=HALF)
    return cell.result(tuned / "weights" / "best.pt", sparse, cut)


COCO = {f"tp-{name}": name for name in ("l2", "lamp", "taylor", "bn")} | {"ours": ""}
SHARES = (0.95, 0.9, 0.82)
STEPS = 4
UNDER = 5e-4  # less is asked for than may be left: single channels come as near
TITLES = {
    "dense": "dense, not cut",
    "seed": "network slimming: L1 on gamma and beta, constants dropped",
    "ours": "yolo-slim slim",
    "ours-sparse": "train_sparse.py --st, prune.py, finetune_pruned.py",
    **{f"tp-{n}": f"torch-pruning, {t}" for n, t in (("l2", "L2"), ("lamp", "LAMP"))},
    **{f"tp-{n}": f"torch-pruning, {t}" for n, t in (("taylor", "Taylor"), ("bn", "BN scale"))},
}


def untrained(name: str, share: float, half: int, work: Path, imgsz: int) -> dict[str, Any]:
    """The COCO yolov5n cut with no training: MACs that are left, and mAP50 before and after.

    Args:
        name: of `COCO`.
        share: of the MACs, that is left at most.
        half: of the images, that the cut looks at; it is scored on the other one.
        work: see `Cell`.
        imgsz: px.
    """
    from rivals import kept_channels_, torch_pruning

    model, data = load(WEIGHTS).model, coco_halves(work)[half]
    images = calibrate(data, model, imgsz=imgsz, images=64, batch_size=1 if name == "ours" else 8)
    if name == "ours":
        options = {"criterion": "taylor", "budget": "per-mac", "residual": "inner", "round_to": 1}
        options |= {"recover": ("constants", "weights"), "steps": STEPS}
        slim = prune(model, macs=share - UNDER, calibration=images, imgsz=imgsz, **options).model
    else:
        slim = torch_pruning(model, COCO[name], share, images, imgsz=imgsz, round_to=None)
        match_statistics_(slim, model, kept_channels_(slim), images)
    scores = [evaluate(m, data, imgsz=imgsz, workers=1).map50 for m in (model, slim)]
    macs = [cost(m, imgsz).macs for m in (model, slim)]
    return {"macs": macs[1] / macs[0], "dense": scores[0], "map50": scores[1]}


def begun(folder: Path) -> Path | None:
    """What an interrupted run in a folder is resumed from; None if it has to begin."""
    if (folder / "slim.json").is_file():
        return folder
    last = folder / "weights" / "last.pt"
    return last if last.is_file() and load(last).epoch >= 0 else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process works in a folder; another waits."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def bccd_table(work: Path) -> str:
    """A row a method: mAP50-95 of each seed, their mean, and what is left of the model."""
    head = ["method", "MACs left", "parameters left", "mAP50 before the cut, after it"]
    head += ["mAP50-95 in the end, by seed", "mean"]
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    every = {name: kept(work, name) for name in METHODS}
    numbers = sorted({seed for found in every.values() for seed in found})
    for name, found in every.items():
        if found:
            ends = {seed: cell["end"][1] for seed, cell in found.items()}
            pairs = [(cell["before"], cell["cut"]) for cell in found.values() if cell["cut"]]
            cuts = [f"{before[0]:.3f} → {after[0]:.3f}" for before, after in pairs]
            seeds = ", ".join(f"{ends[n]:.3f}" if n in ends else "not run" for n in numbers)
            left = [max(cell[key] for cell in found.values()) for key in ("macs", "params")]
            figures = [f"{value:.1%}" for value in left] + [", ".join(cuts), seeds]
            figures.append(f"{sum(ends.values()) / len(ends):.3f}")
            rows.append(f"| {TITLES[name]} | {' | '.join(figures)} |")
    return "\n".join(rows)


def coco_table(work: Path, imgsz: int) -> str:
    """A row a method: mAP50 on either half and their mean, at each share of the MACs."""
    rows = [f"| {imgsz} px | " + " | ".join(f"{share:.0%} of the MACs" for share in SHARES) + " |"]
    rows.append("|---" * (len(SHARES) + 1) + "|")
    for name in COCO:
        cells = []
        for share in SHARES:
            found = kept(work, f"coco-{imgsz}-{name}-{share}")
            maps = [cell["map50"] for cell in found.values()]
            mean = f"**{sum(maps) / len(maps):.3f}** (" if maps else "("
            cells.append(mean + ", ".join(f"{value:.3f}" for value in maps) + ")")
        rows.append(f"| {TITLES[name].removesuffix(' slim')} | {' | '.join(cells)} |")
    return "\n".join(rows)


def kept(work: Path, name: str) -> dict[int, dict[str, Any]]:
    """The finished cells of a method: seed, or half, to what was kept of it."""
    files = {int(f.stem.rpartition("-")[2]): f for f in work.glob(f"{name}-[0-9].json")}
    return {number: json.loads(files[number].read_text()) for number in sorted(files)}


def write_tables(file: Path, work: Path, sizes: list[int]) -> None:
    """Put the tables between their marks in a page."""
    text = file.read_text()
    for name, content in {
        "bccd": bccd_table(work),
        "coco": "\n\n".join(coco_table(work, imgsz) for imgsz in sizes),
    }.items():
        start, end = (f"<!-- accuracy {name}{mark} -->" for mark in ("", " end"))
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{content}\n{end}{after}"
    file.write_text(text)


def once(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a cell came to: kept from another time, or made now."""
    with locked(file.with_suffix("")):
        if not file.is_file():
            file.write_text(json.dumps(make(), indent=2))
    return json.loads(file.read_text())


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="runs are kept here")
    args.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    args.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args.add_argument("--coco", nargs="*", default=list(COCO), choices=list(COCO))
    args.add_argument("--coco-imgsz", nargs="+", type=int, default=[640], help="px")
    args.add_argument("--write", type=Path, metavar="results.md", help="the page with the tables")
    opt = args.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no real data, {SHARED} is not there")
        return
    work = opt.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    for imgsz, name, share, half in product(opt.coco_imgsz, opt.coco, SHARES, (0, 1)):
        file = work / f"coco-{imgsz}-{name}-{share}-{half}.json"
        make = partial(untrained, name, share, half, work, imgsz)
        print("COCO", imgsz, name, share, half, once(file, make), flush=True)
    for seed, name in product(opt.seeds, opt.methods):
        make = partial(METHODS[name], Cell(name, seed, work))
        print("BCCD", name, seed, once(work / f"{name}-{seed}.json", make), flush=True)
    if opt.write:
        write_tables(opt.write, work, opt.coco_imgsz)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
