"""The options of export, and what can be known to be wrong with them; nothing heavy is imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from yolo_slim.as_called import named
from yolo_slim.commands.export_elsewhere import add_refused, format_name
from yolo_slim.deploy.formats import FORMATS, Format
from yolo_slim.deploy.options import LEAST_IMAGES, Nms
from yolo_slim.errors import InputError, check_count, check_imgsz, check_share, option_of
from yolo_slim.files import CHECKPOINT, check_file
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.packages import check_imports, check_installed
from yolo_slim.parsing import OneLineParser, add_place

DEFAULT = ("onnx", "torchscript")
CALIBRATION_IMAGES = 200
MAX_DROP = 0.5  # points of mAP50-95
INT8_OPSET = 13  # ONNX operator set that has weights in 8 bits by channel
MOST_BOXES = 30000  # that YOLOv5 looks at, of an image
INT8_NEEDS = ("nncf", "onnxruntime")  # of OpenVINO: layers are ranked in ONNX Runtime
NMS_OPSET = 11  # ONNX operator set that has all that the suppression needs


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("export"),
        description="Write a model for other runtimes, compare each file with PyTorch on real "
        "images, and time it against the dense model in the same runtime.",
    )
    add = parser.add_argument_group("what is exported").add_argument
    add("--weights", help="checkpoint (default: best.pt of the newest finetuning or slim in runs/)")
    rows = [f"{row.name} ({row.help})" for row in FORMATS.values()]
    text = f"what to write: {', '.join(rows)}; default {' '.join(DEFAULT)}"
    usual = list(DEFAULT)
    add("--include", nargs="+", type=format_name, metavar="FORMAT", default=usual, help=text)
    text = "image size, px: one number, or height and width (default: that of the training, or 640)"
    add("--imgsz", "--img", "--img-size", type=int, nargs="+", metavar="N", help=text)
    add("--batch-size", type=int, default=1, help=f"images a call (default: 1; {having('batch')})")
    add = parser.add_argument_group("how it is exported").add_argument
    text = f"batch and image size may change ({having('dynamic')})"
    add("--dynamic", action="store_true", help=text)
    add("--half", action="store_true", help=f"float16 ({having('half')})")
    add("--no-simplify", action="store_true", help="leave the ONNX graph as torch writes it")
    add("--opset", type=int, default=17, help="ONNX operator set (default: 17)")
    add = parser.add_argument_group("in 8 bits").add_argument
    text = (
        f"files in 8 bits beside the float ones ({having('int8')}); --data: to calibrate, validate"
    )
    add("--int8", action="store_true", help=text)
    text = (
        "points of mAP50-95 that a file in 8 bits may lose; the layers that cost most go back to "
    )
    text += f"float until that holds (default: {MAX_DROP})"
    add("--max-drop", type=float, metavar="POINTS", help=text)
    text = f"training images to calibrate on (default: {CALIBRATION_IMAGES}, or all)"
    add("--calibration-images", type=int, metavar="N", help=text)
    add = parser.add_argument_group("non-maximum suppression in the file").add_argument
    text = f"boxes, scores and classes come out of the file ({having('nms')})"
    add("--nms", action="store_true", help=text)
    text = "boxes of lower scores go (default: 0.25)"
    add("--conf-thres", type=float, metavar="SHARE", help=text)
    text = "overlap (IoU) above which the weaker box goes (default: 0.45)"
    add("--iou-thres", type=float, metavar="SHARE", help=text)
    add("--max-det", type=int, metavar="N", help="boxes an image, at most (default: 300)")
    add("--agnostic-nms", action="store_true", help="boxes suppress those of other classes, too")
    add = parser.add_argument_group("compared with PyTorch").add_argument
    add("--data", help="data yaml whose val images to compare on (default: that of the training)")
    add("--images", type=int, default=8, help="number of images to compare on (default: 8)")
    add = parser.add_argument_group("timed in turns with the dense model").add_argument
    add(
        "--dense",
        help="dense checkpoint to time against (default: the architecture before pruning)",
    )
    add("--threads", type=int, default=2, help="of each runtime (default: 2)")
    add("--repeats", type=int, default=60, help="rounds (default: 60); 0: no timing")
    add_place(parser.add_argument_group("where it is written"), "runs/export")
    add_refused(parser)
    opt = parser.parse_args(argv)
    opt.include = list(dict.fromkeys(opt.include))
    return opt


def settle_int8_(opt: argparse.Namespace) -> None:
    """See that what is asked for in 8 bits can be, and set what was left to us.

    Raises:
        InputError: an option is out of range, given without --int8, or does not go with it.
    """
    for name in ("max_drop", "calibration_images"):
        if not opt.int8 and getattr(opt, name) is not None:
            raise InputError(option_of(name), "given without --int8", "--int8 too")
    opt.max_drop = MAX_DROP if opt.max_drop is None else opt.max_drop
    if opt.calibration_images is None:
        opt.calibration_images = CALIBRATION_IMAGES
    if not opt.int8:
        return
    if not 0 <= opt.max_drop <= 100:
        raise InputError("--max-drop", opt.max_drop, "points of mAP, from 0 to 100")
    check_count("--calibration-images", opt.calibration_images, LEAST_IMAGES)
    if opt.half:
        raise InputError("--int8", "given with --half", "one of the two")
    if len(set(opt.imgsz or ())) > 1:
        expected = "one number: YOLOv5 validates an exported file on square images"
        raise InputError("--int8", f"given with --imgsz {opt.imgsz[0]} {opt.imgsz[1]}", expected)
    if opt.opset < INT8_OPSET:
        raise InputError("--opset", f"{opt.opset} with --int8", f"{INT8_OPSET} or more")
    if "openvino" in opt.include:
        check_installed("--int8 --include openvino", INT8_NEEDS)


def nms_of(opt: argparse.Namespace) -> Nms | None:
    """The suppression that is asked for.

    Raises:
        InputError: an option of it is out of range, or given without --nms.
    """
    given = {name: getattr(opt, name) for name in ("conf_thres", "iou_thres", "max_det")}
    given = {name: value for name, value in given.items() if value is not None}
    if not opt.nms:
        for name in (*given, *["agnostic_nms"] * opt.agnostic_nms):
            raise InputError(option_of(name), "given without --nms", "--nms too")
        return None
    for name in given.keys() - {"max_det"}:
        check_share(option_of(name), given[name])
    check_count("--max-det", given.get("max_det", 1))
    if given.get("max_det", 1) > MOST_BOXES:
        raise InputError("--max-det", given["max_det"], f"{MOST_BOXES} or less")
    if opt.opset < NMS_OPSET:
        raise InputError("--opset", f"{opt.opset} with --nms", f"{NMS_OPSET} or more")
    return Nms(**given, agnostic=opt.agnostic_nms)


def having(option: str) -> str:
    """The names of the formats that have an option of the export."""
    return ", ".join(row.name for row in FORMATS.values() if option in row.options)


def check(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without the model.

    Raises:
        InputError: an option is out of range, a file is not there, a package is not installed.
    """
    for name, least in (("batch_size", 1), ("images", 1), ("threads", 1), ("repeats", 0)):
        check_count(option_of(name), getattr(opt, name), least)
    if not 9 <= opt.opset <= 21:
        raise InputError("--opset", opt.opset, "9 to 21")
    if len(opt.imgsz or ()) > 2:
        sizes = " ".join(map(str, opt.imgsz))
        raise InputError("--imgsz", sizes, "one number, or height and width")
    for side in opt.imgsz or ():
        check_imgsz(side)
    if opt.repeats == 1:
        raise InputError("--repeats", 1, "2 or more, or 0 for no timing")
    rows = [FORMATS[name] for name in opt.include]
    nms_of(opt)
    for option in ("dynamic", "half", "int8", "nms"):
        check_has(option, getattr(opt, option), rows)
    settle_int8_(opt)
    for file in (opt.weights, opt.dense):
        if file:
            check_file(file, file, CHECKPOINT)
    if opt.dense and not any(row.timed for row in rows):
        given = f"given for {' '.join(opt.include)}"
        raise InputError("--dense", given, "a format that is timed, such as --include onnx")
    if opt.dense and opt.repeats == 0:
        raise InputError("--dense", "given with --repeats 0", "--repeats 2 or more, to time it")
    if opt.data:
        check_data_file(opt.data)
    for row in rows:
        check_installed(f"--include {row.name}", row.needs)


def check_importable(opt: argparse.Namespace) -> None:
    """Import what the formats are written and run with, before anything is converted.

    Raises:
        InputError: a package cannot be imported.
    """
    for name in opt.include:
        check_imports(f"--include {name}", FORMATS[name].needs)
    if opt.int8 and "openvino" in opt.include:
        check_imports("--int8 --include openvino", INT8_NEEDS)


def check_has(option: str, given: bool, rows: Sequence[Format]) -> None:
    """See that one at least of the formats has an option.

    Raises:
        InputError: it is given, and none has it.
    """
    if given and not any(option in row.options for row in rows):
        names = " ".join(row.name for row in rows)
        raise InputError(f"--{option}", f"given for {names}", f"one of {having(option)}")
