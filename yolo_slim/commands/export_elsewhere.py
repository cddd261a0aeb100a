"""What YOLOv5's export.py has and this one has not: each is answered by what to use instead.

One table of options and one of formats. They hold for `best.onnx` and `best-stock.pt`, which this
export writes: the first is read by most converters, the second by YOLOv5's own export.
"""

from __future__ import annotations

import argparse
from typing import Any

from yolo_slim.deploy.formats import FORMATS
from yolo_slim.errors import InputError

STOCK = "write it with --include stock, then YOLOv5's export.py on best-stock.pt"
TOPK = "--max-det: boxes of an image, all classes together"
OPTIONS = {  # option of YOLOv5's to what to use instead, and whether a value follows it
    "--device": ("no such option: the export runs on the CPU, its files run anywhere", True),
    "--inplace": ("no such option: it does not change what is exported", False),
    "--keras": (STOCK, False),
    "--optimize": ("torch.utils.mobile_optimizer on best.torchscript", False),
    "--simplify": ("nothing: the ONNX graph is simplified, unless --no-simplify", False),
    "--verbose": ("`trtexec --verbose`, which makes a TensorRT engine of best.onnx", False),
    "--workspace": ("`trtexec --memPoolSize`, which makes a TensorRT engine of best.onnx", True),
    "--topk-per-class": (TOPK, True),
    "--topk-all": (TOPK, True),
}
FORMATS_ELSEWHERE = {
    "engine": "`trtexec --onnx=best.onnx --saveEngine=best.engine` makes a TensorRT engine",
    "coreml": STOCK,
    "saved_model": STOCK,
    "pb": STOCK,
    "tflite": "`--include litert` writes a .tflite file",
    "edgetpu": STOCK,
    "tfjs": STOCK,
    "paddle": STOCK,
}


class Elsewhere(argparse.Action):
    """An option of YOLOv5's export that is refused with what to use instead."""

    def __call__(self, *args: Any) -> None:
        flag = self.option_strings[0]
        raise InputError(flag, "given", OPTIONS[flag][0])


def add_refused(parser: argparse.ArgumentParser) -> None:
    """Let a parser know the options of YOLOv5's export that are not ours; --help hides them."""
    for flag, (_, has_value) in OPTIONS.items():
        nargs = None if has_value else 0
        parser.add_argument(flag, action=Elsewhere, nargs=nargs, help=argparse.SUPPRESS)


def format_name(text: str) -> str:
    """The name of a format of ours.

    Raises:
        argparse.ArgumentTypeError: it is another; one of YOLOv5's with what to use instead.
    """
    if text in FORMATS:
        return text
    instead = FORMATS_ELSEWHERE.get(text)
    advice = f"; {instead}" if instead else ""
    choices = ", ".join(FORMATS)
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {choices}){advice}")
