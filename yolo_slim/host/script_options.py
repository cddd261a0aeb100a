"""The command lines of YOLOv5's val and detect: what is wrong is told before YOLOv5 is imported."""

from __future__ import annotations

import argparse
import glob
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.as_called import named
from yolo_slim.errors import InputError, check_count, check_imgsz, check_share, option_of
from yolo_slim.files import CHECKPOINT, check_file, check_writable, text_of
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.host.shown_defaults import DEVICE, show_defaults_
from yolo_slim.host.sources import declared_options
from yolo_slim.parsing import OneLineParser

SEGMENT = {"val": "segment/val.py", "detect": "segment/predict.py"}
TASKS = ("train", "val", "test", "speed", "study")
EXPORTED = "a checkpoint (.pt), or an exported file (.onnx, .torchscript, .tflite) or folder"
SUFFIXES = (
    ".pt",
    ".onnx",
    ".torchscript",
    ".xml",
    ".param",
    ".engine",
    ".mlmodel",
    ".pb",
    ".tflite",
)
FOLDERS = (
    "_openvino_model",
    "_ncnn_model",
    "_saved_model",
    "_paddle_model",
    "_web_model",
)  # formats of YOLOv5
UNSET = {  # what is taken for an option without a default, for --help
    "val": {"weights": "none: it must be given", "data": "that of the model's training"},
    "detect": {"weights": "none: it must be given", "source": "two images of YOLOv5"},
}
STREAM = re.compile(r"(rtsp|rtmp|https?|tcp|udp)://|screen|\d+$", re.IGNORECASE)
THICKEST = 100  # px; OpenCV ends in an error above 32767
LEAST = {"batch_size": 1, "workers": 0, "max_det": 1, "vid_stride": 1, "line_thickness": 0}


def script_parser(name: str, kind: type[argparse.ArgumentParser] = OneLineParser) -> Any:
    """A parser of the options of val or detect, of detection and of segmentation models."""
    parser = kind(
        prog=named(name),
        usage="%(prog)s --weights FILE [options]",
        description=f"YOLOv5's {name}.py as it is, for dense and cut checkpoints, and exports.",
    )
    both = {**declared_options(SEGMENT[name]), **declared_options(f"{name}.py")}
    group = parser.add_argument_group("YOLOv5's options")
    actions = [group.add_argument(*flags, **kwargs) for flags, kwargs in both.values()]
    parser.set_defaults(weights=[], data=None)
    add_ours(parser, name)
    show_defaults_(actions, {"device": DEVICE, **UNSET[name]})
    return parser


def parsed(name: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of val or detect; a folder of weights may end with a slash, as shells add it."""
    opt = script_parser(name).parse_args(argv)
    trim_(opt)
    return opt


def trim_(opt: argparse.Namespace) -> None:
    """Take the slash off the end of folders of weights."""
    files = opt.weights if isinstance(opt.weights, list) else [opt.weights]
    opt.weights = [file.rstrip(f"/{os.sep}") or file for file in files]


def add_ours(parser: argparse.ArgumentParser, name: str) -> None:
    """Let a parser know the options of val that YOLOv5 does not have."""
    if name == "val":
        text = "pad a checkpoint's images to squares too, as an exported file needs them"
        add = parser.add_argument_group("for comparing with an exported file").add_argument
        add("--square", action="store_true", help=text)


def check_script(name: str, argv: Sequence[str] | None) -> None:
    """Everything that can be known to be wrong with the command line of YOLOv5's val or detect.

    Args:
        name: val or detect.
        argv: the command line, None for sys.argv.

    Raises:
        InputError: weights, data or images are not there, or an option is out of range.
    """
    opt = parsed(name, argv)
    check_weights(opt)
    if opt.data is not None:
        check_data_file(opt.data)
    for option, least in LEAST.items():
        if hasattr(opt, option):
            check_count(option_of(option), getattr(opt, option), least)
    for option in ("conf_thres", "iou_thres"):
        check_share(option_of(option), getattr(opt, option), "a number")
    sides = opt.imgsz if isinstance(opt.imgsz, list) else [opt.imgsz]
    if len(sides) > 2:
        raise InputError("--imgsz", " ".join(map(str, sides)), "one number, or height and width")
    for side in sides:
        check_imgsz(side)
    check_writable(opt.project)
    if name == "val":
        check_task(opt.task)
    else:
        check_count("--classes", min(opt.classes or [0]), 0)
        if opt.line_thickness > THICKEST:
            raise InputError("--line-thickness", opt.line_thickness, f"0 to {THICKEST} px")
        check_source(str(opt.source))
        if opt.view_img and not has_display():
            raise InputError("--view-img", "given", "a display; images are saved without it, too")


def check_weights(opt: argparse.Namespace) -> None:
    """See that there is one file of weights, which YOLOv5 can open.

    Raises:
        InputError: there is none, or several.
    """
    files = opt.weights if isinstance(opt.weights, list) else [opt.weights]
    if not files:
        raise InputError("--weights", "not given", EXPORTED)
    if len(files) > 1 and getattr(opt, "task", "") not in ("speed", "study"):
        raise InputError("--weights", f"{len(files)} files", "one (ensembles are not supported)")
    for file in files:
        if "://" in file:
            raise InputError(file, "a URL", "a file: weights are not downloaded")
        if not (file.endswith(FOLDERS) and Path(file).is_dir()):
            check_file(file, file, CHECKPOINT if file.endswith(".pt") else EXPORTED)
            if not file.endswith(SUFFIXES):  # YOLOv5 goes by the name
                raise InputError(file, f"a {Path(file).suffix or 'nameless'} file", EXPORTED)
        if getattr(opt, "update", False) and not file.endswith(".pt"):
            raise InputError("--update", f"given for {file}", "a checkpoint (.pt)")
        if opt.dnn and not file.endswith(".onnx"):
            raise InputError("--dnn", f"given for {file}", "an .onnx file: OpenCV runs no other")


def check_task(task: str) -> None:
    """See that val knows a --task.

    Raises:
        InputError: it does not, or needs a program that is not there.
    """
    if task not in TASKS:
        raise InputError("--task", task, ", ".join(TASKS))
    if task == "study" and not shutil.which("zip"):
        raise InputError("--task", "study, and no program zip is installed", "another, or zip")


def check_source(source: str) -> None:
    """See that what detect is to look at is there, as far as that needs no network and no camera.

    Raises:
        InputError: it is not.
    """
    where = f"--source {source}"
    if STREAM.match(source):
        return
    if "*" in source:
        if not glob.glob(source, recursive=True):  # noqa: PTH207  (as YOLOv5 looks for them)
            raise InputError(where, "nothing matches", "images or videos")
        return
    if not Path(source).exists():
        raise InputError(where, "no such file or folder", "an image, a video, a folder or a camera")
    if source.endswith((".txt", ".streams")):
        lines = text_of(Path(source).read_bytes()).splitlines()
        if not any(lines):
            raise InputError(where, "an empty list", "a file with names of images in it")
        for line in lines if source.endswith(".txt") else ():
            if "*" not in line and not Path(line).exists():
                raise InputError(where, f"{line} is not there", "images or videos that are")


def has_display() -> bool:
    """False where OpenCV would end the process if it opened a window."""
    known = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return not sys.platform.startswith("linux") or bool(known)
