"""demo: the four steps on a small data set of shapes, with one before/after table at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.as_called import named
from yolo_slim.parsing import OneLineParser, add_place
from yolo_slim.pruning.budget.target import PERCENT
from yolo_slim.runs import checkpoint_to_cut, new_run

SPARSE_EPOCHS, FINETUNE_EPOCHS = 22, 16
TRAINING = ["--batch-size", "16", "--workers", "2", "--imgsz", "160", "--noplots"]
TRAINING += ["--optimizer", "AdamW"]
OWN_DATA = """Now with your own data and a checkpoint of YOLOv5 (README.md, Your own data):
  {slim} --weights yolov5n.pt --data mydata.yaml --macs 0.45 --epochs 100
"""


def main(argv: Sequence[str] | None = None) -> Path:
    """Run the demo; returns its folder."""
    parser = OneLineParser(
        prog=named("demo"), description="The four steps on a data set of shapes."
    )
    group = parser.add_argument_group("how long, and where it is written")
    group.add_argument(
        "--epochs",
        type=int,
        nargs=2,
        default=[SPARSE_EPOCHS, FINETUNE_EPOCHS],
        metavar=("SPARSE", "FINETUNE"),
        help=f"epochs of the two trainings (default: {SPARSE_EPOCHS} {FINETUNE_EPOCHS})",
    )
    add_place(group, "runs/demo", exist_ok=False)
    opt = parser.parse_args(argv)

    from yolo_slim.commands import export, finetune, prune, sparse
    from yolo_slim.files import shipped

    draw_once()
    folder = new_run(opt.project, opt.name)
    data = ["--data", str(shipped("data/shapes.yaml"))]
    hyp = ["--hyp", str(shipped("data/hyp.shapes.yaml"))]

    def step(number: int, command: Any, title: str, options: list[str]) -> Path:
        name = ["sparse", "prune", "finetune", "export"][number - 1]
        print(f"\n=== {number} of 4: {title}\n=== {name} {' '.join(options)}\n", flush=True)
        return command.main([*options, "--project", str(folder), "--name", name])

    penalty = ["--st", "--percent", str(PERCENT)]
    cfg = ["--cfg", str(shipped("cfg/yolov5n.yaml"))]
    epochs = [["--epochs", str(n)] for n in opt.epochs]
    training = [*data, *TRAINING, *hyp]

    options = [*penalty, *training, *cfg, *epochs[0]]
    first = step(1, sparse, "train with sparsity", options)
    options = ["--weights", str(checkpoint_to_cut(first)), "--percent", str(PERCENT), *data]
    second = step(2, prune, "cut", options)
    options = ["--weights", str(second / "pruned.pt"), *training, *epochs[1]]
    third = step(3, finetune, "finetune", options)
    best = third / "weights" / "best.pt"
    fourth = step(4, export, "export", ["--weights", str(best), *data])
    print(summary(folder, second, best, fourth))
    return folder


def draw_once() -> None:
    """Draw the data set below the working directory, if it is not there."""
    from yolo_slim.files import read_mapping, shipped
    from yolo_slim.shapes import make_shapes

    place = Path(read_mapping(shipped("data/shapes.yaml"), "a data yaml")["path"])
    if not (place / "images" / "val").is_dir():
        print(f"The demo's data set is drawn into {place}: 592 images, a few MB.", flush=True)
        make_shapes(place)


def summary(folder: Path, second: Path, best: Path, fourth: Path) -> str:
    """The before/after table, and where things are."""
    from yolo_slim.files import shipped
    from yolo_slim.host.data import read_data
    from yolo_slim.host.evaluate import evaluate
    from yolo_slim.models import load
    from yolo_slim.text import giga, mega, ratio, table

    cut = json.loads((second / "report.json").read_text())
    exported = json.loads((fourth / "report.json").read_text())
    accuracy = cut["accuracy"]
    data = read_data(shipped("data/shapes.yaml"))
    after = evaluate(load(best).model, data, imgsz=exported["options"]["imgsz"][0])
    latency = exported["latency"]["onnx"]
    before, size = cut["before"], best.stat().st_size
    rows = [
        [
            "parameters",
            f"{before['params']:,}",
            f"{cut['after']['params']:,}",
            "",
            ratio(cut["after"]["params"], before["params"]),
        ],
        [
            "MACs",
            giga(before["macs"]),
            giga(cut["after"]["macs"]),
            "",
            ratio(cut["after"]["macs"], before["macs"]),
        ],
        [
            "file",
            mega(before["bytes"]),
            mega(cut["after"]["bytes"]),
            mega(size),
            ratio(size, before["bytes"]),
        ],
        [
            "mAP50",
            f"{accuracy['dense']['map50']:.3f}",
            f"{accuracy['pruned']['map50']:.3f}",
            f"{after.map50:.3f}",
            "",
        ],
        [
            "mAP50-95",
            f"{accuracy['dense']['map']:.3f}",
            f"{accuracy['pruned']['map']:.3f}",
            f"{after.map:.3f}",
            "",
        ],
        [
            "ONNX Runtime latency",
            "1.00",
            "",
            f"{latency['ratio']:.2f}",
            ratio(latency["ratio"], 1),
        ],
    ]
    text = "\n" + table(["", "before", "after the cut", "after finetuning", "left"], rows)
    text += "\nPictures:\n"
    text += f"  {folder / 'sparse' / 'sparsity.png'}  |gamma| over the sparse training\n"
    text += f"  {second / 'channels.png'}  channels kept by layer\n"
    text += f"Files:\n  {best}  the slim checkpoint\n"
    for kind, file in exported["files"].items():
        text += f"  {file}  {kind}, checked against PyTorch\n"
    return text + OWN_DATA.format(slim=named("slim"))
