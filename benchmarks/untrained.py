"""A cut with no training at all: yolo_slim and torch-pruning 1.6.1 on the COCO yolov5n.

COCO128: calibrated on 64 images, scored on the other 64, both ways round. Our model is scored once
more after `--recover distill`.

Each finished run is kept under --work, and an interrupted script goes on where it was. `--write`
puts the table into docs/results.md. Nothing is run where ../shared/data is absent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from _common import locked, parser, put_between
from _data import SHARED, coco_halves

from yolo_slim import channel_graph, load, prune
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.evaluate import evaluate
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.recover.distill import distill_
from yolo_slim.pruning.recover.statistics import match_statistics_

WEIGHTS = SHARED / "weights" / "yolov5n.pt"
COCO = {f"tp-{name}": name for name in ("l2", "lamp", "taylor", "bn")} | {"ours": ""}
SHARES = (0.95, 0.9, 0.82, 0.7)
SMALL, STEPS = 0.9, 4  # with so much left at least: taylor, little by little; else obs
SECONDS = 1800.0  # for the distillation: all of its steps, also beside other work
UNDER = 5e-4  # less is asked for than may be left: single channels come as near
TITLES = {
    "tp-l2": "torch-pruning, L2",
    "tp-lamp": "torch-pruning, LAMP",
    "tp-taylor": "torch-pruning, Taylor",
    "tp-bn": "torch-pruning, BN scale",
    "ours": "yolo-slim",
    "distilled": "yolo-slim, distilled",
}


def untrained(name: str, share: float, half: int, work: Path, imgsz: int) -> dict[str, Any]:
    """The COCO yolov5n cut with no training: MACs that are left, and mAP50 before and after.

    Args:
        name: of `COCO`.
        share: of the MACs, that is left at most.
        half: of the images, that the cut looks at; it is scored on the other one.
        work: folder of the data and of all runs.
        imgsz: px.
    """
    from rivals import kept_channels_, torch_pruning

    model, data = load(WEIGHTS).model, coco_halves(work)[half]
    images = calibrate(data, model, imgsz=imgsz, images=64, batch_size=1 if name == "ours" else 8)
    if name == "ours":
        options = {"criterion": "obs", "residual": "inner", "round_to": 1}
        if share >= SMALL:
            options |= {"criterion": "taylor", "budget": "per-mac", "steps": STEPS}
        options["recover"] = ("constants", "weights")
        found = prune(model, macs=share - UNDER, calibration=images, imgsz=imgsz, **options)
        slim, graph = found.model, channel_graph(model, options["residual"])
    else:
        slim = torch_pruning(model, COCO[name], share, images, imgsz=imgsz, round_to=None)
        match_statistics_(slim, model, kept_channels_(slim), images)
    scores = [evaluate(m, data, imgsz=imgsz, workers=1).map50 for m in (model, slim)]
    macs = [cost(m, imgsz).macs for m in (model, slim)]
    cell = {"macs": macs[1] / macs[0], "dense": scores[0], "map50": scores[1]}
    if name == "ours":
        distill_(slim, model, graph, found.masks, images, seconds=SECONDS)
        cell["distilled"] = evaluate(slim, data, imgsz=imgsz, workers=1).map50
    return cell


def coco_table(work: Path, imgsz: int) -> str:
    """A row a method: mAP50 on either half and their mean, at each share of the MACs."""
    rows = [f"| {imgsz} px | " + " | ".join(f"{share:.0%} of the MACs" for share in SHARES) + " |"]
    rows.append("|---" * (len(SHARES) + 1) + "|")
    for name in TITLES:
        cells, key = [], "distilled" if name == "distilled" else "map50"
        for share in SHARES:
            method = "ours" if name == "distilled" else name
            found = kept(work, f"coco-{imgsz}-{method}-{share}")
            maps = [cell[key] for cell in found.values() if key in cell]
            mean = f"**{sum(maps) / len(maps):.3f}** (" if maps else "("
            cells.append(mean + ", ".join(f"{value:.3f}" for value in maps) + ")")
        rows.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    return "\n".join(rows)


def kept(work: Path, name: str) -> dict[int, dict[str, Any]]:
    """The finished cells of a method: seed, or half, to what was kept of it."""
    files = {int(f.stem.rpartition("-")[2]): f for f in work.glob(f"{name}-[0-9].json")}
    return {number: json.loads(files[number].read_text()) for number in sorted(files)}


def once(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a cell came to: kept from another time, or made now."""
    with locked(file.with_suffix("")):
        if not file.is_file():
            file.write_text(json.dumps(make(), indent=2))
    return json.loads(file.read_text())


def main() -> None:
    args = parser(__doc__)
    args.add_argument(
        "--work", type=Path, default=Path("runs/untrained"), help="runs are kept here"
    )
    args.add_argument("--methods", nargs="*", default=list(COCO), choices=list(COCO))
    args.add_argument("--shares", nargs="*", type=float, default=SHARES, help="of the MACs")
    args.add_argument("--halves", nargs="*", type=int, default=[0, 1], choices=[0, 1])
    args.add_argument("--imgsz", nargs="+", type=int, default=[640], help="px")
    args.add_argument("--write", type=Path, metavar="results.md", help="the page with the table")
    opt = args.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no real data, {SHARED} is not there")
        return
    work = opt.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    for imgsz, name, share, half in product(opt.imgsz, opt.methods, opt.shares, opt.halves):
        file = work / f"coco-{imgsz}-{name}-{share}-{half}.json"
        make = partial(untrained, name, share, half, work, imgsz)
        print("COCO", imgsz, name, share, half, once(file, make), flush=True)
    if opt.write:
        put_between(opt.write, "coco", "\n\n".join(coco_table(work, i) for i in opt.imgsz))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
