"""export: ONNX, TorchScript and a checkpoint for plain YOLOv5, compared on real images, timed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.parsing import OneLineParser
from yolo_slim.runs import new_run, newest

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from yolo_slim.deploy.check import Agreement
    from yolo_slim.host.checkpoint import Checkpoint

FORMATS = {"onnx": ".onnx", "torchscript": ".torchscript", "stock": "-stock.pt"}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog="export.py",
        description="Write ONNX, TorchScript and a checkpoint that plain YOLOv5 opens (stock), "
        "compare them with PyTorch on real images, time the ONNX file against the dense model.",
    )
    add = parser.add_argument
    add("--weights", help="checkpoint (default: best.pt of the newest finetuning in runs/)")
    text = "what to write (default: onnx torchscript)"
    add("--include", nargs="+", choices=FORMATS, default=["onnx", "torchscript"], help=text)
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
    for name, least in (("batch_size", 1), ("images", 1), ("threads", 1), ("repeats", 0)):
        if getattr(opt, name) < least:
            raise InputError(f"--{name.replace('_', '-')}", getattr(opt, name), f"{least} or more")
    if not 9 <= opt.opset <= 21:
        raise InputError("--opset", opt.opset, "9 to 21")
    weights = (
        Path(opt.weights)
        if opt.weights
        else newest(
            "**/weights/best.pt",
            where="--weights",
            made_by="finetune_pruned.py",
            beside="pruned.yaml",
        )
    )

    from yolo_slim.files import write_aside
    from yolo_slim.host.checkpoint import load
    from yolo_slim.host.evaluate import check_imgsz

    source = load(weights)
    stride = max(int(source.model.stride.max()), 32)
    trained = source.train.get("imgsz", 640)
    imgsz = check_imgsz(trained if opt.imgsz is None else opt.imgsz, stride)
    if opt.dynamic and "onnx" not in opt.include:
        raise InputError("--dynamic", f"given for {' '.join(opt.include)}", "--include onnx")
    batches = image_batches(source, opt, imgsz, stride)
    timed = "onnx" in opt.include and opt.repeats >= 2
    dense = dense_model(source, opt.dense) if timed or opt.dense else None
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    print(f"Exporting {source} at {imgsz} px{', dynamic' if opt.dynamic else ''}")
    try:
        exported = {kind: convert(kind, source.model, opt, imgsz) for kind in opt.include}
        agreement = {}
        for kind, content in exported.items():
            used = batches if kind == "onnx" else batches[:-2] if opt.dynamic else batches
            agreement[kind] = check(kind, source.model, content, used, opt.threads)
        files = {
            k: write_aside(folder / f"{weights.stem}{FORMATS[k]}", c) for k, c in exported.items()
        }
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    timing = time_against(dense, exported.get("onnx"), opt, imgsz)
    report = {
        "weights": str(weights.absolute()),
        "imgsz": imgsz,
        "files": {kind: str(file) for kind, file in files.items()},
        "bytes": {kind: file.stat().st_size for kind, file in files.items()},
        "agreement": {kind: asdict(a) for kind, a in agreement.items()},
        "latency": timing,
    }
    write_aside(folder / "report.json", json.dumps(report, indent=2).encode())
    for kind, file in files.items():
        print(f"{file} ({file.stat().st_size / 1e6:.3g} MB): {agreement[kind]}")
    print(timing_text(timing, opt, imgsz))
    return folder


def dense_model(source: Checkpoint, path: str | None) -> nn.Module | None:
    """The model before pruning: from a file, or its architecture from the checkpoint's ancestry.

    Latency does not depend on the weights, so that the architecture will do.
    """
    from yolo_slim.host.checkpoint import load
    from yolo_slim.host.classes import yolo

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

    With --dynamic two more batches, of other sizes.
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


def convert(kind: str, model: nn.Module, opt: argparse.Namespace, imgsz: int) -> bytes:
    """The content of one file."""
    from yolo_slim.deploy.export import to_onnx, to_torchscript
    from yolo_slim.deploy.stock import to_stock

    if kind == "stock":
        return to_stock(model)
    if kind == "torchscript":
        return to_torchscript(model, imgsz=imgsz, batch=opt.batch_size)
    return to_onnx(
        model,
        imgsz=imgsz,
        batch=opt.batch_size,
        dynamic=opt.dynamic,
        simplify=not opt.no_simplify,
        opset=opt.opset,
    )


def check(
    kind: str, model: nn.Module, content: bytes, batches: Sequence[np.ndarray], threads: int
) -> Agreement:
    """Compare an export with PyTorch.

    Raises:
        CheckFailed: they differ by more than `Agreement.holds` allows; a stock checkpoint at all.
    """
    import io

    import torch

    from yolo_slim.deploy.check import compare
    from yolo_slim.deploy.export import quiet
    from yolo_slim.measure.latency import session
    from yolo_slim.numerics import one_thread

    if kind == "onnx":
        runtime = session(content, threads)
        found = compare(model, lambda x: runtime.run(None, {"images": x}), batches)
    elif kind == "stock":
        with one_thread():  # the last bit of a sum may depend on it
            found = compare(model, loaded(content), batches)
        if found.boxes or found.scores or found.masks:
            raise CheckFailed(f"stock differs from our model: {found}; nothing was written")
    else:
        with quiet():  # torch says that TorchScript is deprecated
            script = torch.jit.load(io.BytesIO(content))
        found = compare(
            model, lambda x: [out.numpy() for out in script(torch.from_numpy(x))], batches
        )
    if not found.holds:
        raise CheckFailed(f"{kind} differs from PyTorch: {found}; nothing was written")
    return found


def loaded(content: bytes) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
    """The outputs of a checkpoint, as of a file."""
    import tempfile

    import torch

    from yolo_slim.files import write_aside
    from yolo_slim.host.checkpoint import load
    from yolo_slim.host.classes import yolo

    with tempfile.TemporaryDirectory() as folder:
        model = load(write_aside(Path(folder) / "stock.pt", content)).model
    outputs = 2 if isinstance(model, yolo.SegmentationModel) else 1
    return lambda x: [out.detach().numpy() for out in model(torch.from_numpy(x))[:outputs]]


def time_against(
    dense: nn.Module | None, content: bytes | None, opt: argparse.Namespace, imgsz: int
) -> dict[str, Any]:
    """Median latency of the ONNX file, and of the dense model's beside it."""
    if content is None or opt.repeats < 2:
        return {}
    from yolo_slim.measure.latency import onnx_latency

    models = {"slim": content}
    if dense is not None:
        models["dense"] = convert("onnx", dense, opt, imgsz)
    found = onnx_latency(
        models, imgsz=imgsz, batch=opt.batch_size, threads=opt.threads, repeats=opt.repeats
    )
    timing: dict[str, Any] = {name: asdict(value) for name, value in found.items()}
    if dense is not None:
        timing["ratio"] = found["slim"].median / found["dense"].median
    return timing


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
