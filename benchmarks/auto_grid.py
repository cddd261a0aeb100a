"""Does --sr auto reach its share without any tuning? A grid of short trainings in the host's loop.

Each cell trains yolov5n on shapes with another optimizer, batch size, start and penalty, by
`yolo-slim sparse --st --sr auto` with nothing else changed; with --bccd DATA the three runs on
blood cells follow, and a plain one for each. The share of prunable gammas under 1% of the median
that their layer began with is that of last.pt; mAP is what the host logged, of the last epoch and
of best.pt: the best one by the host's fitness, of a sparse run among those that hold their zeros.
Every finished run is kept in --out: an interrupted grid goes on where it was. --only N picks cells.
"""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from _common import parser, save_json
from tqdm import tqdm

from yolo_slim import channel_graph, load
from yolo_slim.files import shipped
from yolo_slim.host.checkpoint import read
from yolo_slim.shapes import NAMES, make_shapes
from yolo_slim.text import table

EPOCHS = {4: 12, 64: 14}  # about 100 optimizer steps, with 512 images
ENOUGH, NEAR = 0.55, 0.01
MAIN = "from yolo_slim.cli import main; main()"


def starts(weights: str, names: list[str]) -> torch.Tensor:
    """(channels,) the median |gamma| that each channel's layer began with."""
    if not weights:  # BatchNorm's own start
        return torch.tensor(1.0)
    model = load(weights).model
    gammas = [model.get_submodule(name).weight.detach().abs() for name in names]
    return torch.cat([gamma.median().expand(len(gamma)) for gamma in gammas])


def near_zero(folder: Path, weights: str) -> float:
    """Share of the prunable gammas of last.pt that are under 1% of their layer's start."""
    model = load(folder / "weights" / "last.pt").model
    names = [norm.name for norm in channel_graph(model).prunable]
    gamma = torch.cat([model.get_submodule(name).weight.detach().abs() for name in names])
    return (gamma < NEAR * starts(weights, names)).float().mean().item()


def scores(folder: Path, sparse: bool) -> dict[str, float]:
    """mAP50 and mAP50-95 of the last epoch, and of that of best.pt."""
    with (folder / "results.csv").open() as rows:
        found = [{k.strip(): float(v) for k, v in row.items()} for row in csv.DictReader(rows)]
    ap = [(r["metrics/mAP_0.5"], r["metrics/mAP_0.5:0.95"]) for r in found]
    held = read(folder / "weights" / "last.pt")["yolo_slim"]["held"] if sparse else 0
    best = max(ap[held:], key=lambda pair: 0.1 * pair[0] + 0.9 * pair[1])  # its fitness
    names = ("map50", "map", "best_map50", "best_map")
    return {**dict(zip(names, (*ap[-1], *best), strict=True)), "epochs": len(ap)}


def train(out: Path, name: str, options: list[str], weights: str) -> dict[str, Any]:
    """One run; nothing is done where its result is there already."""
    file = out / f"{name}.json"
    if file.is_file():
        return json.loads(file.read_text())
    command = [sys.executable, "-c", MAIN, "sparse", *options, "--exist-ok"]
    command += ["--project", str(out), "--name", name, "--noplots", "--workers", "1"]
    with (out / f"{name}.log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    if code:  # not kept: the next call tries again
        return {"name": name, "failed": (out / f"{name}.log").read_text().splitlines()[-1]}
    sparse = "--st" in options
    result = {"name": name, **scores(out / name, sparse)}
    result["near_zero"] = near_zero(out / name, weights) if sparse else None
    file.write_text(json.dumps(result) + "\n")
    return result


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--weights", required=True, help="a COCO-pretrained yolov5n.pt")
    args.add_argument("--bccd", help="data yaml of the blood cells")
    args.add_argument("--out", type=Path, default=Path("runs/auto_grid"), help="results so far")
    args.add_argument("--imgsz", type=int, default=64, help="px, of the shapes")
    args.add_argument("--penalties", nargs="+", default=["prox", "l1"], help="prox, l1")
    args.add_argument("--only", nargs="+", default=[], help="parts of the names of cells")
    opt = args.parse_args()

    opt.out.mkdir(parents=True, exist_ok=True)
    data = opt.out / "shapes.yaml"
    if not data.is_file():
        folder = make_shapes(opt.out / "shapes", size=opt.imgsz)
        text = {"path": str(folder.absolute()), "train": "images/train", "val": "images/val"}
        data.write_text(yaml.safe_dump({**text, "names": dict(enumerate(NAMES))}))
    cells: list[tuple[str, list[str], str]] = []
    for penalty, optimizer, batch, start in itertools.product(
        opt.penalties, ("SGD", "Adam", "AdamW"), (4, 64), ("scratch", "pretrained")
    ):
        weights = opt.weights if start == "pretrained" else ""
        options = ["--data", str(data), "--imgsz", str(opt.imgsz), "--optimizer", optimizer]
        options += ["--batch-size", str(batch), "--epochs", str(EPOCHS[batch])]
        options += (
            ["--weights", weights] if weights else ["--cfg", str(shipped("cfg/yolov5n.yaml"))]
        )
        options += ["--st", "--sr", "auto", "--penalty", penalty]
        cells.append((f"{penalty}-{optimizer}-{batch}-{start}", options, weights))
    for optimizer, seed in (("SGD", 0), ("SGD", 1), ("AdamW", 0)) if opt.bccd else ():
        options = ["--data", opt.bccd, "--imgsz", "320", "--epochs", "30", "--seed", str(seed)]
        options += ["--weights", opt.weights, "--optimizer", optimizer]
        cells.append((f"bccd-{optimizer}-{seed}-plain", options, opt.weights))
        sparse = [*options, "--st"]
        cells.append((f"bccd-{optimizer}-{seed}-sparse", sparse, opt.weights))
    cells = [c for c in cells if not opt.only or any(part in c[0] for part in opt.only)]
    found = [train(opt.out, *cell) for cell in tqdm(cells, unit="run")]
    rows = []
    for r in found:
        if "failed" in r:
            tqdm.write(f"{r['name']}: {r['failed']}")
            rows.append([r["name"], "", "", "NO", "failed", ""])
            continue
        share = r["near_zero"]
        ok = "" if share is None else "yes" if share >= ENOUGH else "NO"
        share = "" if share is None else f"{share:.1%}"
        last, best = (
            f"{r[f'{which}map50']:.3f} / {r[f'{which}map']:.3f}" for which in ("", "best_")
        )
        rows.append([r["name"], r["epochs"], share, ok, last, best])
    heads = ["run", "epochs", "near zero", f">= {ENOUGH:.0%}", "last: mAP50 / 50-95", "best.pt"]
    print(table(heads, [list(map(str, row)) for row in rows], "--sr auto"))
    save_json(opt.json, runs=found)


if __name__ == "__main__":
    main()
