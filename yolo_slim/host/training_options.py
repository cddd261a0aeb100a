"""What can be known to be wrong with YOLOv5's training options without the model, or YOLOv5 itself.

YOLOv5 looks at few of them; the others end in a traceback, after hours or at once, or train at
something else than was asked for, which the steps after the training do not know.
"""

from __future__ import annotations

import argparse
import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError, check_count, check_imgsz, check_seed, option_of
from yolo_slim.files import CHECKPOINT, check_file, read_mapping
from yolo_slim.host.command_line import default_hyp
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.host.sources import root

HYP_RANGES = {  # of a training that can work; of the other numbers: 0 or more
    **{"lr0": (1e-9, 1000.0), "momentum": (0, 0.9999), "warmup_momentum": (0, 0.9999)},
    **dict.fromkeys(("flipud", "fliplr", "mosaic", "mixup", "copy_paste", "iou_t"), (0, 1)),
    **dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "scale", "translate"), (0, 1)),
}
CACHES = ("ram", "disk")
UPLOADS = {"s3_upload_dir": "boto3", "hf_model_id": "huggingface_hub"}  # and what they import


def check_training(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong with the host's options, without the model.

    Raises:
        InputError: a number is out of range, or a file is not there.
    """
    check_numbers(opt)
    if opt.name == "cfg" and not opt.cfg:
        raise InputError("--name", "cfg, without --cfg", "another name: YOLOv5 takes that of --cfg")
    check_uploads(opt)
    if opt.data is not None:
        check_data_file(opt.data)
    if opt.weights:
        check_file(opt.weights, opt.weights, CHECKPOINT)
        if not str(opt.weights).endswith(".pt"):
            got = f"a name that ends in {Path(opt.weights).suffix or 'no .pt'}"
            raise InputError(opt.weights, got, "a .pt file: YOLOv5 goes by the name")
    for option, value in (("--cfg", opt.cfg), ("--hyp", opt.hyp)):
        if value and not Path(value).is_file() and not shipped_with_host(value):
            got = "a folder" if Path(value).is_dir() else "no such file"
            raise InputError(f"{option} {value}", got, "a yaml file")
    if not opt.hyp:
        raise InputError("--hyp", "an empty name", "a yaml file")
    hyp = opt.hyp if Path(opt.hyp).is_file() else str(shipped_with_host(opt.hyp)[0])
    check_hyp(hyp)
    if opt.optimizer == "SGD" and read_mapping(hyp, "")["momentum"] == 0:
        raise InputError(f"--hyp {hyp}", "momentum: 0", "more: YOLOv5's SGD is that of Nesterov")


def check_numbers(opt: argparse.Namespace) -> None:
    """Numbers in their ranges, and what excludes each other in YOLOv5.

    Raises:
        InputError: one is not.
    """
    check_count("--workers", opt.workers, 0)
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    check_count("--epochs", opt.epochs)
    check_seed("--seed", opt.seed)
    check_count("--patience", opt.patience, 0)
    for layer in opt.freeze:
        check_count("--freeze", layer, 0)
    if not 0 <= opt.label_smoothing < 1:
        raise InputError("--label-smoothing", opt.label_smoothing, "a number in [0, 1)")
    if opt.cache not in (None, *CACHES):
        raise InputError("--cache", opt.cache, " or ".join(CACHES))
    batch = opt.batch_size
    if batch == 0 or batch < -1:
        raise InputError("--batch-size", batch, "1 or more, or -1 for autobatch")
    if opt.quad and (batch < 4 or batch % 4):
        raise InputError("--quad", f"given with --batch-size {batch}", "a multiple of 4")
    processes = int(os.getenv("WORLD_SIZE", "1"))
    if processes > 1:
        check_processes(opt, processes)


def check_processes(opt: argparse.Namespace, processes: int) -> None:
    """What YOLOv5 does not do on several GPUs.

    Raises:
        InputError: it is asked for.
    """
    where = f"torchrun with {processes} processes"
    for name in ("image_weights", "evolve"):
        if getattr(opt, name):
            raise InputError(option_of(name), "given", f"no such option under {where}")
    if opt.batch_size < 1 or opt.batch_size % processes:
        expected = f"a multiple of {processes}: it is shared by {where}"
        raise InputError("--batch-size", opt.batch_size, expected)


def check_uploads(opt: argparse.Namespace) -> None:
    """What YOLOv5 sends away after a training: it would fail when all else is done.

    Raises:
        InputError: it cannot be sent.
    """
    for name, module in UPLOADS.items():
        if getattr(opt, name, None) and not find_spec(module):
            raise InputError(f"--{name}", f"given, and {module} is not installed", "that package")
    if getattr(opt, "hf_model_id", None) and os.getenv("HF_HUB_OFFLINE", "1") not in ("0", ""):
        expected = "HF_HUB_OFFLINE=0 in the environment: yolo_slim works offline by itself"
        raise InputError("--hf_model_id", "given", expected)
    if getattr(opt, "roboflow_upload", False):
        expected = "no upload: YOLOv5 sends to Roboflow what it trained on data from there alone"
        raise InputError("--roboflow_upload", "given", expected)


def shipped_with_host(name: str) -> list[Path]:
    """The files of YOLOv5 of a name."""
    return [file for file in root().rglob("*.yaml") if file.name == Path(name).name]


def check_hyp(path: str) -> None:
    """Check that a hyp yaml has all that the host looks up in it.

    Raises:
        InputError: it is no yaml, or an entry is missing.
    """
    hyp, least = read_mapping(path, "hyperparameters"), read_mapping(default_hyp(), "")
    missing = [key for key in least if not is_number(hyp.get(key))]
    if missing:
        odd = "".join(f" ({k}: {str(hyp[k])[:40]})" for k in missing if hyp.get(k) is not None)
        got = f"no number {', '.join(missing)}{odd}"
        raise InputError(f"--hyp {path}", got, f"all of {default_hyp().name}")
    for key, (low, high) in HYP_RANGES.items():
        if not low <= hyp[key] <= high:
            raise InputError(f"--hyp {path}", f"{key}: {hyp[key]}", f"{low:g} to {high:g}")
    for key in hyp.keys() & least.keys() - HYP_RANGES.keys():
        if hyp[key] < 0:
            raise InputError(f"--hyp {path}", f"{key}: {hyp[key]}", "0 or more")
    anchors = hyp.get("anchors")
    if anchors is not None and not (is_number(anchors) and (not anchors or anchors >= 1)):
        raise InputError(f"--hyp {path}", f"anchors: {str(anchors)[:40]}", "a number, 1 or more")


def is_number(value: Any) -> bool:
    """True for a finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
