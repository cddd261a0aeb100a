"""The options of curve, and what can be known to be wrong with them without the model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.as_called import named
from yolo_slim.commands.prune_options import check_table, split_device_
from yolo_slim.errors import InputError, check_count, check_imgsz, check_share
from yolo_slim.files import CHECKPOINT, check_file
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.parsing import OneLineParser, add_no_page, add_place
from yolo_slim.runs import CURVE, CURVE_POINTS
from yolo_slim.text import say

MOST = 4  # processes, where the user names no number: each takes about 2 GB
SHARES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
PROJECT = "runs/curve"
CPU = "the CPU"  # what `device_name` calls it


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("curve"),
        description="How much could be cut, and is it worth it? Cut a model to several shares, "
        "recover, validate and time it, beside the uncut model at smaller image sizes. Nothing is "
        "trained. Results are written as they come.",
    )
    parser.add_argument("weights", help="checkpoint (.pt)")
    add = parser.add_argument_group("what is compared").add_argument
    text = "cut to these shares of the MACs, with a table of the time, each in (0, 1) (default: "
    text += "0.9 0.8 ... 0.3)"
    add("--shares", nargs="+", type=float, metavar="SHARE", help=text)
    text = "smaller image sizes for the uncut model, px (default: those nearest to the MACs of the "
    add("--sizes", nargs="+", type=int, metavar="PX", help=text + "shares)")
    text = f"folders of finished runs of {named('slim')}, {named('finetune')} or others, for the "
    add("--trained", nargs="+", default=[], metavar="RUN", help=text + "same picture")
    add = parser.add_argument_group("measured on").add_argument
    text = "data yaml: cuts look at its training images, accuracy is that of its validation images"
    add("--data", required=True, help=text)
    text = "image size, px (default: that of the training, or 640)"
    add("--imgsz", "--img", type=int, help=text)
    text = "validate on so many images, evenly spread over the split (default: 500; they stay in "
    add("--images", type=int, default=500, help=text + "memory, about 1.2 MB each at 640 px)")
    text = "training images that a cut looks at (default: 128)"
    add("--calib-images", type=int, default=128, help=text)
    text = "of the validation: 0, cpu (default: the first GPU, or the CPU); or device.json, the "
    text += f"table of a device (see {named('profile')}): shares and times are then of that device"
    add("--device", default="", help=text)
    text = "of ONNX Runtime, without a table (default: 2)"
    add("--threads", type=int, help=text)
    text = "processes that cut side by side, of about 2 GB; several have one thread each (default: "
    text += f"as many as there are cores, {MOST} at most; 1 on a GPU)"
    add("--processes", type=int, help=text)
    group = parser.add_argument_group("shown and written")
    add_no_page(group)
    text = "go on with the interrupted run in this folder, or the newest one; the other options "
    group.add_argument(
        "--resume", nargs="?", const=True, metavar="FOLDER", help=text + "as they were"
    )
    add_place(group, PROJECT, exist_ok=False)
    opt = parser.parse_args(argv)
    split_device_(opt)
    return opt


def check(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without the model; nothing heavy is imported.

    Raises:
        InputError: an option is out of range, or names nothing.
    """
    for share in opt.shares or ():
        check_share("--shares", share, "shares", zero=False, one=False)
        check_share("--shares", float(f"{share:g}"), "shares", zero=False, one=False)
    for name in ("images", "calib_images", "processes", "threads"):
        if getattr(opt, name) is not None:
            check_count(f"--{name.replace('_', '-')}", getattr(opt, name))
    for size in opt.sizes or ():
        if size < 32 or size % 32:
            raise InputError("--sizes", size, "multiples of the stride, 32")
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    latency = 1.0 if opt.table else None
    check_table(argparse.Namespace(**{**vars(opt), "latency": latency, "round_to": None}))
    check_file(opt.weights, opt.weights, CHECKPOINT)
    check_data_file(opt.data)
    if opt.resume:
        opt.resume = folder_to_resume(opt)


def processes_of(opt: argparse.Namespace) -> int:
    """How many processes cut: as given, else the cores, but on a GPU one."""
    from yolo_slim.host.evaluate import device_name

    if opt.processes is not None:
        return int(opt.processes)
    return min(os.cpu_count() or 1, MOST) if device_name(opt.device) == CPU else 1


def folder_to_resume(opt: argparse.Namespace) -> Path:
    """The folder that --resume names, or the newest one that is not finished.

    Raises:
        InputError: it is none, or there is none.
    """
    if opt.resume is not True:
        folder = Path(opt.resume)
        folder = folder.parent if folder.is_file() else folder
        if not (folder / CURVE_POINTS).is_file():
            raise InputError("--resume", opt.resume, "the folder of a curve, with a curve.csv")
        return folder
    files = [
        file for file in Path(opt.project).glob(f"*/{CURVE_POINTS}") if not finished(file.parent)
    ]
    if not files:
        got = f"no run to go on with in {opt.project}"
        raise InputError("--resume", got, f"one that was interrupted; {named('curve')} begins one")
    folder = max(files, key=lambda file: file.stat().st_mtime).parent
    say(f"--resume names no run: {folder}, the newest that is not finished")
    return folder


def finished(folder: Path) -> bool:
    """Whether a run has come to its end: curve.json is its last file."""
    return (folder / CURVE).is_file()
