"""report: one page from finished runs, a single file that opens in any browser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.as_called import named
from yolo_slim.errors import InputError, check_count, check_imgsz
from yolo_slim.files import check_writable
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.packages import TIMED, check_imports
from yolo_slim.parsing import OneLineParser
from yolo_slim.runs import PAGE
from yolo_slim.text import say

ALL = "all"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("report"),
        description="Make one page from finished runs: before and after on the same images, what "
        "was lost and found, sizes, times, accuracy by class, each layer, each training. "
        "It is a single file that opens in any browser, without a network.",
    )
    text = "folder of a run of sparse, prune, finetune, slim, finegrained, curve or sensitivity"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=text)
    add = parser.add_argument_group("measured on").add_argument
    add("--data", help="data yaml (default: that of the runs)")
    text = "image size, px (default: that of the runs, or 640)"
    add("--imgsz", "--img", type=int, help=text)
    text = "validation images to look at, evenly spread over the split, or all (default: 200)"
    add("--images", default="200", metavar="N", help=text)
    text = "timed rounds in ONNX Runtime; 0: no times (default: 30)"
    add("--repeats", type=int, default=30, help=text)
    text = "of the validation: 0, cpu (default: the first GPU, or the CPU)"
    add("--device", default="", help=text)
    add = parser.add_argument_group("what is written").add_argument
    text = f"the page (default: {PAGE} in the folder of the last run)"
    add("-o", "--output", type=Path, metavar="FILE", help=text)
    return parser.parse_args(argv)


def images_of(text: str) -> int | None:
    """The number of images that --images names; None: all.

    Raises:
        InputError: it is neither a number nor all.
    """
    if text == ALL:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError("--images", repr(text)[:80], "a whole number, 1 or more, or all")
    return check_count("--images", int(text))


def check(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without a model; nothing heavy is imported.

    Raises:
        InputError: an option is out of range, names nothing, or cannot be written.
    """
    images_of(opt.images)
    check_count("--repeats", opt.repeats, 0)
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    if opt.data:
        check_data_file(opt.data)
    for run in opt.runs:
        if not Path(run).exists():
            raise InputError(run, "no such folder", "the folder of a run")
    if opt.output is not None:
        if opt.output.is_dir():
            raise InputError(f"-o {opt.output}", "a folder", "the name of a file")
        check_writable(opt.output.absolute().parent)


def main(argv: Sequence[str] | None = None) -> Path:
    """Make the page; returns its file."""
    opt = parse(argv)
    check(opt)
    if opt.repeats:
        check_imports(named("report"), TIMED)

    from yolo_slim.finished import folder_of
    from yolo_slim.host.evaluate import check_device
    from yolo_slim.page.write import write_page

    check_device(opt.device)
    file = opt.output or folder_of(Path(opt.runs[-1])) / PAGE
    write_page(
        opt.runs,
        file,
        data=opt.data,
        imgsz=opt.imgsz,
        images=images_of(opt.images),
        repeats=opt.repeats,
        device=opt.device,
    )
    say(f"{file}: open it in a browser")
    return file
