"""export: ONNX, TorchScript and a checkpoint for plain YOLOv5, compared on real images, timed."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.deploy.formats import FORMATS, Format
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import CheckFailed, InputError, check_count, check_imgsz, option_of
from yolo_slim.files import CHECKPOINT, check_file, write_aside
from yolo_slim.host.sources import check_data_file
from yolo_slim.parsing import OneLineParser
from yolo_slim.runs import new_run, newest, removed_if_empty

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from yolo_slim.deploy.check import Agreement
    from yolo_slim.host.checkpoint import Checkpoint

DEFAULT = ("onnx", "torchscript")
OTHER_SIZES = 2  # batches that --dynamic adds
STOCK = """YOLOv5 7.0 opens no .pt with today's packages (docs/models.md). It opens this one after:
  pip install "setuptools<82"
  export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1
  yolov5 detect --weights {} --source images"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog="export.py",
        description="Write ONNX, TorchScript and a checkpoint that plain YOLOv5 opens (stock), "
        "compare them with PyTorch on real images, time the ONNX file against the dense model.",
    )
    add = parser.add_argument
    add("--weights", help="checkpoint (default: best.pt of the newest finetuning in runs/)")
    rows = [f"{row.name} ({row.help})" for row in FORMATS.values()]
    text = f"what to write: {', '.join(rows)}; default {' '.join(DEFAULT)}"
    add("--include", nargs="+", choices=FORMATS, default=list(DEFAULT), help=text)
    add("--imgsz", "--img", type=int, help="image size, px (default: that of the training, or 640)")
    add("--batch-size", type=int, default=1, help="images a call")
    add("--dynamic", action="store_true", help="ONNX: batch and image size may change")
    add("--no-simplify", action="store_true", help="ONNX: leave the graph as torch writes it")
    add("--opset", type=int, default=17, help="ONNX: operator set")
    add("--data", help="data yaml whose val images to compare on (default: that of the training)")
    add("--images", type=int, default=8, help="number of images to compare on")
    add(
        "--dense",
        help="dense checkpoint to time against (default: the architecture before pruning)",
    )
    add("--threads", type=int, default=2, help="of ONNX Runtime, for the timing")
    add("--repeats", type=int, default=60, help="timed rounds; 0: no timing")
    add("--project", default="runs/export", help="save to project/name")
    add("--name", default="exp", help="save to project/name")
    add("--exist-ok", action="store_true", help="an existing project/name is written to")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Path:
    """Export; returns the run's folder."""
    opt = parse(argv)
    check(opt)
    weights = Path(opt.weights) if opt.weights else newest_finetuning()

    from yolo_slim.models import load

    source = load(weights)
    stride = max(int(source.model.stride.max()), 32)
    imgsz = check_imgsz(opt.imgsz or source.train.get("imgsz", 640), stride)
    batches = image_batches(source, opt, imgsz, stride)
    timed = "onnx" in opt.include and opt.repeats >= 2
    dense = dense_model(source, opt.dense) if timed or opt.dense else None
    options = ExportOptions(
        imgsz, opt.batch_size, opt.dynamic, not opt.no_simplify, opt.opset, opt.threads
    )
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    print(f"Exporting {source} at {imgsz} px{', dynamic' if opt.dynamic else ''}")
    with removed_if_empty(folder):
        rows = [FORMATS[name] for name in opt.include]
        exported = {row: row.write(source.model, options) for row in rows}
        agreement = {
            row: compared(row, source.model, content, batches, options)
            for row, content in exported.items()
        }
        files = {
            row: write_aside(folder / f"{weights.stem}{row.suffix}", content)
            for row, content in exported.items()
        }
    onnx = exported.get(FORMATS["onnx"])
    timing = time_against(dense, onnx, options, opt.repeats) if onnx and timed else {}
    write_report(folder, weights, files, agreement, timing, imgsz)
    for row, file in files.items():
        print(f"{file} ({file.stat().st_size / 1e6:.3g} MB): {agreement[row]}")
    print(timing_text(timing, opt, imgsz))
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
    if opt.dynamic and not any(FORMATS[name].sizes for name in opt.include):
        raise InputError("--dynamic", f"given for {' '.join(opt.include)}", "--include onnx")
    for file in (opt.weights, opt.dense):
        if file:
            check_file(file, file, CHECKPOINT)
    if opt.data:
        check_data_file(opt.data)


def newest_finetuning() -> Path:
    """The best checkpoint of the newest finetuning.

    Raises:
        InputError: there is none.
    """
    made_by = "finetune_pruned.py"
    return newest("**/weights/best.pt", where="--weights", made_by=made_by, beside="pruned.yaml")


def dense_model(source: Checkpoint, path: str | None) -> nn.Module | None:
    """The model before pruning: from a file, or its architecture from the checkpoint's ancestry.

    Latency does not depend on the weights, so that the architecture will do.
    """
    from yolo_slim.host.classes import yolo
    from yolo_slim.models import load

    if path:
        return load(path).model
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
    from yolo_slim.host.image import read_images

    if opt.data:
        files = images(check_data(opt.data, source.model.nc))
    else:
        try:
            files = images(read_data(source.train["data"], download=False))
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
) -> dict[str, Any]:
    """Median latency of the ONNX file, and of the dense model's beside it."""
    from yolo_slim.measure.latency import onnx_latency

    models = {"slim": content}
    if dense is not None:
        models["dense"] = FORMATS["onnx"].write(dense, options)
    times = onnx_latency(
        models,
        imgsz=options.imgsz,
        batch=options.batch,
        threads=options.threads,
        repeats=repeats,
    )
    timing: dict[str, Any] = {name: asdict(value) for name, value in times.items()}
    if dense is not None:
        timing["ratio"] = times["slim"].median / times["dense"].median
    return timing


def write_report(
    folder: Path,
    weights: Path,
    files: Mapping[Format, Path],
    agreement: Mapping[Format, Agreement],
    timing: dict[str, Any],
    imgsz: int,
) -> None:
    """Write report.json."""
    report = {
        "weights": str(weights.absolute()),
        "imgsz": imgsz,
        "files": {row.name: str(file) for row, file in files.items()},
        "bytes": {row.name: file.stat().st_size for row, file in files.items()},
        "agreement": {row.name: asdict(value) for row, value in agreement.items()},
        "latency": timing,
    }
    write_aside(folder / "report.json", json.dumps(report, indent=2).encode())


def timing_text(timing: dict[str, Any], opt: argparse.Namespace, imgsz: int) -> str:
    """The timing as a table, with what it was taken under."""
    from yolo_slim.text import table

    if not timing:
        return "latency: not measured"
    rows = [
        [name, f"{timing[name]['median']:.2f}", f"{timing[name]['spread']:.2f}"]
        for name in ("dense", "slim")
        if name in timing
    ]
    text = table(["ONNX Runtime", "median ms", "quartile distance ms"], rows)
    under = f"{opt.threads} threads, {opt.batch_size} x {imgsz} px, {opt.repeats} rounds in turns"
    if "ratio" not in timing:
        return text + f"{under}; no dense model to compare with (--dense)"
    return text + f"slim takes {timing['ratio']:.2f} of the dense model's time ({under})"
