"""Accuracy at the same time: a cut by the table of this machine beside a cut by MACs.

yolov5n from the COCO weights gets a head for the data, is cut and trained on, as slim does it: once
by `prune --latency SHARE --device table`, once by `prune --macs X`, where X is the share that takes
the same time by that table. The table, and the times at the end, are for --time-imgsz px in ONNX
Runtime; trainings are at --imgsz. In the end the dense model and both cuts are timed in turns.
Each finished run is kept under --work: an interrupted script goes on where it was.

    python benchmarks/by_time.py --sets bccd deeppcb --seeds 0 1 --epochs 24
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import parser, save_json
from _data import SHARED, data_set

from yolo_slim import load, prune
from yolo_slim.channels.rules import channel_graph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device.table import DeviceTable, read_table
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.host.head import with_classes
from yolo_slim.measure.cost import cost
from yolo_slim.measure.latency import onnx_latency
from yolo_slim.pruning.latency import LatencyCut
from yolo_slim.text import table

WEIGHTS = SHARED / "weights" / "yolov5n.pt"


def command(log: Path, *argv: Any) -> None:
    """Run a yolo-slim command."""
    with log.open("a") as out:
        call = [sys.executable, "-m", "yolo_slim", *map(str, argv)]
        subprocess.run(call, check=True, stdout=out, stderr=out)


def macs_for(share: float, device: DeviceTable, data: Path) -> float:
    """The share of the MACs whose cut takes this share of the time, by the table; by bisection."""
    sets = check_data(data, None, ("train",))
    model = with_classes(load(WEIGHTS).model, sets["names"])
    images = calibrate(sets, model, imgsz=320, images=16, batch_size=8)
    by_time = LatencyCut(model, channel_graph(model, "inner"), device, device.imgsz)

    def taken(macs: float) -> float:
        cut = prune(model, macs=macs, criterion="thinet", calibration=images, recover=())
        return by_time.times(cut.masks).share

    low, high = share / 2, 1.0
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (low, middle) if taken(middle) > share else (middle, high)
    return round((low + high) / 2, 3)


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--sets", nargs="+", default=["bccd", "deeppcb"])
    args.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args.add_argument("--epochs", type=int, default=24)
    args.add_argument("--imgsz", type=int, default=320, help="of the trainings, px")
    args.add_argument("--time-imgsz", type=int, default=640, help="of the time, px")
    args.add_argument("--share", type=float, default=0.6, help="of the time that is left")
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--lr-times", type=float, default=2)
    args.add_argument("--work", type=Path, default=Path("by_time"))
    opt = args.parse_args()
    opt.work.mkdir(parents=True, exist_ok=True)
    rows, found = [], []
    for name in opt.sets:
        data = data_set(name, opt.work)
        names = check_data(data, None, ("val",))["names"]
        file = opt.work / f"{name}-{opt.time_imgsz}.json"
        if not file.is_file():
            where = ("--imgsz", opt.time_imgsz, "--threads", opt.threads, "-o", file)
            command(opt.work / "profile.log", "profile", WEIGHTS, "--data", data, *where)
        chosen = opt.work / f"{name}-macs.json"
        if not chosen.is_file():
            macs = macs_for(opt.share, read_table(file), data)
            chosen.write_text(json.dumps(macs))
        ways = {
            "macs": ("--macs", json.loads(chosen.read_text())),
            "time": ("--latency", opt.share, "--device", file),
        }
        for seed in opt.seeds:
            ends = {way: run(opt, name, data, seed, way, how) for way, how in ways.items()}
            dense = with_classes(load(WEIGHTS).model, names)
            models = {"dense": dense, **{way: load(end).model for way, end in ends.items()}}
            files = {n: to_onnx(m, imgsz=opt.time_imgsz) for n, m in models.items()}
            times = onnx_latency(files, imgsz=opt.time_imgsz, threads=opt.threads)
            for way in ways:
                accuracy = evaluate(models[way], check_data(data), imgsz=opt.imgsz, workers=1)
                left = cost(models[way], opt.imgsz).macs / cost(dense, opt.imgsz).macs
                share = times[way].median / times["dense"].median
                found.append({"set": name, "seed": seed, "cut": way, "map": accuracy.map})
                found[-1] |= {"map50": accuracy.map50, "time": share, "macs": left}
                figures = (share, left, left / share, accuracy.map50, accuracy.map)
                rows.append([name, str(seed), f"by {way}", *(f"{x:.3f}" for x in figures)])
            save_json(opt.json, rows=found)
    head = ["set", "seed", "cut", "time", "MACs", "speed-up x MACs", "mAP50", "mAP50-95"]
    print(table(head, rows))


def run(opt: Any, name: str, data: Path, seed: int, way: str, how: tuple[Any, ...]) -> Path:
    """A cut and the training after it; returns its best.pt."""
    folder = opt.work / f"{name}-{way}-{seed}"
    best, done = folder / "tuned" / "weights" / "best.pt", folder / "done"
    if not done.is_file():
        folder.mkdir(exist_ok=True)
        place = ("--project", folder, "--exist-ok", "--seed", seed, "--data", data, "--workers", 1)
        cut = ("--weights", WEIGHTS, "--imgsz", opt.time_imgsz, *how, "--name", "cut")
        command(folder / "cut.log", "prune", *cut, *place)
        size = ("--img", opt.imgsz, "--epochs", opt.epochs, "--lr-times", opt.lr_times)
        train = ("--weights", folder / "cut" / "pruned.pt", "--cache", "--noplots", *size)
        command(folder / "tuned.log", "finetune", *train, *place, "--name", "tuned")
        done.touch()
    return best


if __name__ == "__main__":
    main()
