"""export: ONNX, TorchScript and a checkpoint for plain YOLOv5, compared on real images, timed."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.as_called import as_called, named
from yolo_slim.commands.export_elsewhere import add_refused, format_name, one_size
from yolo_slim.deploy.formats import FORMATS, Format
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import CheckFailed, InputError, check_count, check_imgsz, option_of
from yolo_slim.files import CHECKPOINT, check_file, write_aside
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.parsing import OneLineParser, add_place
from yolo_slim.runs import STATE, new_run, newest, removed_if_empty, tell_taken
from yolo_slim.text import mega, say

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from yolo_slim.deploy.check import Agreement
    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.measure.latency import Latency

DEFAULT = ("onnx", "torchscript")
OTHER_SIZES = 2  # batches that --dynamic adds
STOCK = """With today's packages YOLOv5 7.0 opens no .pt. It opens this one after:
  pip install "setuptools<82"
  export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1
  yolov5 detect --weights {} --source images"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("export"),
        description="Write ONNX, TorchScript and a checkpoint that plain YOLOv5 opens (stock), "
        "compare them with PyTorch on real images, time the ONNX file against the dense model.",
    )
    add = parser.add_argument_group("what is exported").add_argument
    add("--weights", help="checkpoint (default: best.pt of the newest finetuning or slim in runs/)")
    rows = [f"{row.name} ({row.help})" for row in FORMATS.values()]
    text = f"what to write: {', '.join(rows)}; default {' '.join(DEFAULT)}"
    usual = list(DEFAULT)
    add("--include", nargs="+", type=format_name, metavar="FORMAT", default=usual, help=text)
    text = "image size, px (default: that of the training, or 640)"
    add("--imgsz", "--img", "--img-size", type=int, nargs="+", metavar="N", help=text)
    add("--batch-size", type=int, default=1, help="images a call (default: 1)")
    add = parser.add_argument_group("the ONNX file").add_argument
    add("--dynamic", action="store_true", help="batch and image size may change")
    add("--no-simplify", action="store_true", help="leave the graph as torch writes it")
    add("--opset", type=int, default=17, help="operator set (default: 17)")
    add = parser.add_argument_group("compared with PyTorch").add_argument
    add("--data", help="data yaml whose val images to compare on (default: that of the training)")
    add("--images", type=int, default=8, help="number of images to compare on (default: 8)")
    add = parser.add_argument_group("timed in ONNX Runtime").add_argument
    add(
        "--dense",
        help="dense checkpoint to time against (default: the architecture before pruning)",
    )
    add("--threads", type=int, default=2, help="of ONNX Runtime (default: 2)")
    add("--repeats", type=int, default=60, help="rounds (default: 60); 0: no timing")
    add_place(parser.add_argument_group("where it is written"), "runs/export")
    add_refused(parser)
    opt = parser.parse_args(argv)
    opt.imgsz = one_size(opt.imgsz)
    return opt


def main(argv: Sequence[str] | None = None) -> Path:
    """Export; returns the run's folder."""
    opt = parse(argv)
    check(opt)
    weights = Path(opt.weights) if opt.weights else newest_finetuning()

    from tqdm import tqdm

    from yolo_slim.host.image import check_rgb
    from yolo_slim.host.trained_with import imgsz_of, stride_of
    from yolo_slim.models import load

    source = load(weights)
    check_rgb(source.model, weights)
    stride, imgsz = stride_of(source.model), imgsz_of(source, opt.imgsz)
    batches = image_batches(source, opt, imgsz, stride)
    timed = "onnx" in opt.include and opt.repeats > 0
    dense = dense_model(source, opt.dense, imgsz) if timed else None
    options = ExportOptions(
        imgsz, opt.batch_size, opt.dynamic, not opt.no_simplify, opt.opset, opt.threads
    )
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    say(f"Exporting {source}, at {imgsz} px{', dynamic' if opt.dynamic else ''}")
    with removed_if_empty(folder):
        rows = [FORMATS[name] for name in opt.include]
        with tqdm(rows, desc="exporting", unit="file", leave=False) as bar:
            exported = {row: row.write(source.model, options) for row in bar}
        agreement = {
            row: compared(row, source.model, content, batches, options)
            for row, content in exported.items()
        }
        files = {
            row: write_aside(folder / f"{weights.stem}{row.suffix}", content)
            for row, content in exported.items()
        }
    onnx = exported.get(FORMATS["onnx"])
    times = time_against(dense, onnx, options, opt.repeats) if onnx and timed else {}
    write_report(folder, weights, files, agreement, times, imgsz)
    for row, file in files.items():
        say(f"{file} ({mega(file.stat().st_size)}), compared with PyTorch: {agreement[row]}")
    print()
    if times:
        tell_times(times, files[FORMATS["onnx"]], opt, imgsz)
    for name in opt.include:
        if FORMATS[name].use:
            say(f"{files[FORMATS[name]].name}: {FORMATS[name].use}")
    if "stock" in opt.include:
        print(STOCK.format(shlex.quote(str(files[FORMATS["stock"]]))))
    return folder


def check(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without the model; nothing heavy is imported.

    Raises:
        InputError: an option is out of range, or a file is not there.
    """
    for name, least in (("batch_size", 1), ("images", 1), ("threads", 1), ("repeats", 0)):
        check_count(option_of(name), getattr(opt, name), least)
    if not 9 <= opt.opset <= 21:
        raise InputError("--opset", opt.opset, "9 to 21")
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    if opt.repeats == 1:
        raise InputError("--repeats", 1, "2 or more, or 0 for no timing")
    if opt.dynamic and not any(FORMATS[name].sizes for name in opt.include):
        raise InputError("--dynamic", f"given for {' '.join(opt.include)}", "--include onnx")
    for file in (opt.weights, opt.dense):
        if file:
            check_file(file, file, CHECKPOINT)
    if opt.dense and "onnx" not in opt.include:
        raise InputError("--dense", f"given for {' '.join(opt.include)}", "--include onnx")
    if opt.dense and opt.repeats == 0:
        raise InputError("--dense", "given with --repeats 0", "--repeats 2 or more, to time it")
    if opt.data:
        check_data_file(opt.data)


def newest_finetuning() -> Path:
    """The best checkpoint of the newest finetuning.

    Raises:
        InputError: there is none.
    """
    made_by = as_called("finetune")
    file = newest("**/weights/best.pt", where="--weights", made_by=made_by, beside="pruned.yaml")
    whole = file.parents[2]  # a training of slim lies in its run, whose best.pt may be another
    if (whole / STATE).is_file() and (whole / "best.pt").is_file():
        file = whole / "best.pt"
    tell_taken("best.pt of the newest training of a cut model", file)
    return file


def dense_model(source: Checkpoint, path: str | None, imgsz: int) -> nn.Module | None:
    """The model before pruning: from a file, or its architecture from the checkpoint's ancestry.

    Latency does not depend on the weights, so that the architecture will do.

    Raises:
        InputError: the model of the file does not take images of this size.
    """
    from yolo_slim.host.classes import yolo
    from yolo_slim.host.image import check_rgb
    from yolo_slim.models import load

    if path:
        model = load(path).model
        check_rgb(model, path)
        stride = max(int(model.stride.max()), 32)
        if imgsz % stride:
            got = f"a model of stride {stride}, which images of {imgsz} px do not fit"
            raise InputError(f"--dense {path}", got, f"a stride that divides {imgsz}")
        return model
    ancestry = getattr(source.model, "ancestry", None)
    if not ancestry:
        return None
    from yolo_slim.deploy.export import quiet
    from yolo_slim.models.model import build_model

    yaml = dict(ancestry[0]["dense_yaml"])
    with quiet():
        model = build_model(yaml, nc=source.model.nc)
    assert isinstance(model, yolo.DetectionModel)
    model.names = source.model.names
    return model.eval()


def image_batches(
    source: Checkpoint, opt: argparse.Namespace, imgsz: int, stride: int
) -> list[np.ndarray]:
    """Real images, letterboxed: of the data, else those that ship with the host.

    With --dynamic OTHER_SIZES more batches, of other sizes.
    """
    from yolo_slim.host.data import check_data, images, read_data
    from yolo_slim.host.image import read_images, readable
    from yolo_slim.host.trained_with import classes_of

    if opt.data:
        files = images(check_data(opt.data, classes_of(source)))
        files = readable(files, max(opt.images, opt.batch_size), f"{opt.data}, val")
    else:
        try:
            files = images(read_data(source.train["data"], download=False))
            files = readable(files, max(opt.images, opt.batch_size), "val")
        except (KeyError, InputError):
            files = []
        if not files:
            import yolov5

            files = sorted((Path(yolov5.__file__).parent / "data" / "images").glob("*.jpg"))
    files = (files * opt.batch_size)[: max(opt.images, opt.batch_size)]
    files = files[: len(files) // opt.batch_size * opt.batch_size]
    groups = [files[i : i + opt.batch_size] for i in range(0, len(files), opt.batch_size)]
    batches = [read_images(group, imgsz) for group in groups]
    if opt.dynamic:
        pair = (files * 2)[:2]
        batches.append(read_images(pair, imgsz + stride, max(stride, imgsz - stride)))
        batches.append(read_images(pair[:1], max(stride, imgsz // 2 // stride * stride)))
    return batches


def compared(
    row: Format,
    model: nn.Module,
    content: bytes,
    batches: Sequence[np.ndarray],
    options: ExportOptions,
) -> Agreement:
    """Compare an export with PyTorch.

    Args:
        row: what was exported.
        model, content: before and after.
        batches: images; those of other sizes than the export's come last.
        options: of the export.

    Raises:
        CheckFailed: they differ by more than `Agreement.holds` allows; an exact format at all.
    """
    from contextlib import nullcontext

    from yolo_slim.deploy.check import compare
    from yolo_slim.numerics import one_thread

    batches = batches if row.sizes or not options.dynamic else batches[:-OTHER_SIZES]
    with one_thread() if row.exact else nullcontext():  # the last bit of a sum may depend on it
        agreement = compare(model, row.run(content, options), batches)
    if row.exact and (agreement.boxes or agreement.scores or agreement.masks):
        text = f"{row.name} differs from our model: {agreement}; nothing was written"
        raise CheckFailed(text)
    if not agreement.holds:
        raise CheckFailed(f"{row.name} differs from PyTorch: {agreement}; nothing was written")
    return agreement


def time_against(
    dense: nn.Module | None, content: bytes, options: ExportOptions, repeats: int
) -> dict[str, Latency]:
    """Latency of the ONNX file, and before it of the dense model's, if there is one."""
    from yolo_slim.measure.latency import onnx_latency

    models = {"dense": FORMATS["onnx"].write(dense, options)} if dense is not None else {}
    return onnx_latency(
        models | {"exported": content},
        imgsz=options.imgsz,
        batch=options.batch,
        threads=options.threads,
        repeats=repeats,
    )


def write_report(
    folder: Path,
    weights: Path,
    files: Mapping[Format, Path],
    agreement: Mapping[Format, Agreement],
    times: Mapping[str, Latency],
    imgsz: int,
) -> None:
    """Write report.json."""
    latency: dict[str, Any] = {name: asdict(value) for name, value in times.items()}
    if "dense" in times:
        latency["ratio"] = times["exported"].median / times["dense"].median
    report = {
        "weights": str(weights.absolute()),
        "imgsz": imgsz,
        "files": {row.name: str(file) for row, file in files.items()},
        "bytes": {row.name: file.stat().st_size for row, file in files.items()},
        "agreement": {row.name: asdict(value) for row, value in agreement.items()},
        "latency": latency,
    }
    write_aside(folder / "report.json", json.dumps(report, indent=2).encode())


def tell_times(
    times: Mapping[str, Latency], file: Path, opt: argparse.Namespace, imgsz: int
) -> None:
    """Print the timing of the ONNX file, and what it says in words."""
    from yolo_slim.report.timing import timing_text

    dense = opt.dense or "the dense model (its architecture)"
    names = {"dense": str(dense), "exported": file.name}
    named = {names[name]: value for name, value in times.items()}
    sizes = {"threads": opt.threads, "batch": opt.batch_size, "imgsz": imgsz}
    print(timing_text(named, **sizes, repeats=opt.repeats))
    if "dense" not in times:
        say("No model to compare it with: --dense names one.")
        return
    share = times["exported"].median / times["dense"].median
    say(f"{file.name} takes {share:.2f} of the time of {names['dense']}.")
