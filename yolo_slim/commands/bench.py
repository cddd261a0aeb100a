"""bench: parameters, MACs, file size and latency of models side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.as_called import named
from yolo_slim.errors import InputError, check_count, option_of
from yolo_slim.files import CHECKPOINT, check_file, check_writable
from yolo_slim.parsing import OneLineParser
from yolo_slim.text import counted, say

if TYPE_CHECKING:
    from torch import nn

    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.measure.latency import Latency
    from yolo_slim.measure.onnx_cost import OnnxFile
    from yolo_slim.report.bench_table import Measured


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("bench"),
        description="Compare models on the CPU: parameters, MACs, file size, and latency in "
        "PyTorch and ONNX Runtime, measured in turns. Shares are of the first file.",
    )
    text = "checkpoints (.pt) and ONNX files (.onnx)"
    parser.add_argument("files", nargs="+", metavar="FILE", help=text)
    add = parser.add_argument_group("what is timed").add_argument
    text = "image size, px (default: that of the ONNX files, or 640)"
    add("--imgsz", "--img", type=int, help=text)
    add("--batch-size", type=int, help="images a call (default: that of the ONNX files, or 1)")
    add("--threads", type=int, default=2, help="of each runtime (default: 2)")
    add("--repeats", type=int, default=60, help="rounds (default: 60)")
    text = "what to time (default: both); for ONNX Runtime a .pt is exported in memory"
    add("--runtime", nargs="+", choices=("torch", "onnx"), default=["torch", "onnx"], help=text)
    add = parser.add_argument_group("shown and written").add_argument
    add("--layers", action="store_true", help="print each checkpoint layer by layer too")
    add("--json", type=Path, metavar="FILE", help="write the figures to a file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[Measured]:
    """Compare; returns what was measured, in the order of the files."""
    opt = parse(argv)
    for name, least in (("imgsz", 1), ("batch_size", 1), ("threads", 1), ("repeats", 2)):
        if getattr(opt, name) is not None:
            check_count(option_of(name), getattr(opt, name), least)
    if opt.json:
        if opt.json.is_dir():
            raise InputError("--json", f"{opt.json}, a folder", "a file to write")
        check_writable(opt.json.parent)
    for file in opt.files:
        check_file(file, file, "an ONNX file" if Path(file).suffix == ".onnx" else CHECKPOINT)

    from tqdm import tqdm

    from yolo_slim.files import write_aside
    from yolo_slim.measure.latency import warning_of
    from yolo_slim.measure.onnx_cost import OnnxFile, read_onnx
    from yolo_slim.models import load
    from yolo_slim.report.bench_table import bench_tables, layer_table

    sources = [read_onnx(f) if Path(f).suffix == ".onnx" else load(f) for f in opt.files]
    if all(isinstance(source, OnnxFile) for source in sources):
        if opt.layers:
            raise InputError("--layers", "given for ONNX files alone", "a checkpoint (.pt)")
        if "onnx" not in opt.runtime:
            raise InputError("--runtime", "torch, for ONNX files alone", "onnx")
    opt.imgsz, opt.batch_size = sizes(sources, opt)
    models = [cost_of(source, opt) for source in sources]
    calls: dict[tuple[int, str], Callable[[], Any]] = {}
    for index, source in enumerate(sources):
        if isinstance(source, OnnxFile) and "onnx" in opt.runtime:
            calls[index, "onnx"] = file_call(source, opt)
    for index, source in enumerate(tqdm(sources, desc="preparing", unit="model", leave=False)):
        if not isinstance(source, OnnxFile):
            calls |= {(index, runtime): call for runtime, call in model_calls(source.model, opt)}
    times = timed(calls, opt)
    models = with_times(models, times)
    if opt.json:
        content = {**measured_with(opt), "models": [m.as_dict(models[0]) for m in models]}
        write_aside(opt.json, json.dumps(content, indent=2).encode())
    for model in models:
        if model.layers:
            print(layer_table(model))
    print(bench_tables(models, [r for r in ("torch", "onnx") if r in opt.runtime]))
    size = f"{counted(opt.threads, 'thread')}, {opt.batch_size} x {opt.imgsz} px"
    say(f"On the CPU, {size} (MACs: one image), {opt.repeats} rounds in turns.")
    for line in unlike(sources):
        say(line)
    if len({isinstance(source, OnnxFile) for source in sources}) > 1:
        say("An ONNX file has its BatchNorms folded into the convs: fewer parameters.")
    if warning := warning_of(times):
        say(warning)
    return models


def sizes(sources: Sequence[Checkpoint | OnnxFile], opt: argparse.Namespace) -> tuple[int, int]:
    """Image size, px, and images a call: as given, else as the ONNX files say, else 640 and 1.

    Raises:
        InputError: an ONNX file has another size than is given or than one before it; it takes
            images that are not square; the size is no multiple of a model's stride; a checkpoint
            takes other images than RGB.
    """
    from yolo_slim.errors import check_imgsz
    from yolo_slim.host.image import check_rgb, smallest_image
    from yolo_slim.measure.onnx_cost import OnnxFile

    imgsz, batch = opt.imgsz, opt.batch_size
    for source in sources:
        if isinstance(source, OnnxFile):
            own_batch, _, height, width = source.shape
            if (height or imgsz) != (width or imgsz):
                got = f"it takes images of {height or '?'} x {width or '?'} px"
                raise InputError(source.path, got, "square ones, the same for all files")
            imgsz = same(source.path, "--imgsz", height or width, imgsz)
            batch = same(source.path, "--batch-size", own_batch, batch)
    imgsz, batch = imgsz or 640, batch or 1
    for source in sources:
        if not isinstance(source, OnnxFile):
            check_rgb(source.model, source.path)
            check_imgsz(imgsz, smallest_image(source.model)[1])
    return imgsz, batch


def same(file: Path, option: str, own: int | None, wanted: int | None) -> int | None:
    """The size that a file is fixed to, or the one wanted.

    Raises:
        InputError: they differ.
    """
    if own and wanted and own != wanted:
        got = f"{own} is fixed in it, {wanted} given or fixed in another file"
        raise InputError(f"{file}, {option}", got, f"{option} {own}, or an export with --dynamic")
    return own or wanted


def cost_of(source: Checkpoint | OnnxFile, opt: argparse.Namespace) -> Measured:
    """Parameters and MACs of a model, not yet timed.

    Raises:
        InputError: see `onnx_cost`.
    """
    from yolo_slim.measure.cost import cost, layer_costs
    from yolo_slim.measure.onnx_cost import OnnxFile, onnx_cost
    from yolo_slim.report.bench_table import Measured

    if isinstance(source, OnnxFile):
        return Measured(source.path, onnx_cost(source, source.images(opt.batch_size, opt.imgsz)))
    layers = layer_costs(source.model, opt.imgsz) if opt.layers else ()
    return Measured(source.path, cost(source.model, opt.imgsz, source.path), layers=layers)


def unlike(sources: Sequence[Checkpoint | OnnxFile]) -> list[str]:
    """A line on each model that is made for something else than the first one."""
    from yolo_slim.measure.onnx_cost import OnnxFile
    from yolo_slim.report.heads import head_of_model, head_of_onnx

    heads = [
        head_of_onnx(each) if isinstance(each, OnnxFile) else head_of_model(each.model)
        for each in sources
    ]
    lines = []
    for source, head in zip(sources, heads, strict=True):
        if heads[0] and head and (text := head.unlike(heads[0])):
            lines.append(f"Another task: {source.path} has {text}. Shares of the first say little.")
    return lines


def file_call(source: OnnxFile, opt: argparse.Namespace) -> Callable[[], Any]:
    """A function that runs an ONNX file.

    Raises:
        InputError: ONNX Runtime cannot.
    """
    from yolo_slim.measure.latency import onnx_call, random_images

    images = random_images(*source.images(opt.batch_size, opt.imgsz)).astype(source.dtype)
    try:
        call = onnx_call(source.content, images, opt.threads)
        call()
    except Exception as error:  # ONNX Runtime raises a dozen types
        got = f"ONNX Runtime refuses it ({' '.join(str(error).split())[:200]})"
        raise InputError(source.path, got, "a model that it runs") from error
    return call


def model_calls(
    model: nn.Module, opt: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Runtime and a function that runs the model in it, for each that was asked for."""
    import torch

    from yolo_slim.deploy.export import exportable, to_onnx
    from yolo_slim.measure.latency import onnx_call, random_images, torch_call

    images = random_images(opt.batch_size, 3, opt.imgsz, opt.imgsz)
    if "torch" in opt.runtime:
        with torch.no_grad():
            yield "torch", torch_call(exportable(model), images)
    if "onnx" in opt.runtime:
        content = to_onnx(model, imgsz=opt.imgsz, batch=opt.batch_size)
        yield "onnx", onnx_call(content, images, opt.threads)


def timed(
    calls: dict[tuple[int, str], Callable[[], Any]], opt: argparse.Namespace
) -> dict[tuple[int, str], Latency]:
    """One runtime after the other, since their threads disturb each other; its models in turns.

    PyTorch has as many threads as ONNX Runtime.
    """
    from yolo_slim.measure.latency import interleaved, torch_threads

    times: dict[tuple[int, str], Latency] = {}
    for runtime in opt.runtime:
        with torch_threads(opt.threads if runtime == "torch" else 1):
            part = {key: call for key, call in calls.items() if key[1] == runtime}
            times |= interleaved(part, repeats=opt.repeats) if part else {}
    return times


def with_times(
    models: Sequence[Measured], latencies: dict[tuple[int, str], Latency]
) -> list[Measured]:
    """The models with the times of each."""
    return [
        replace(model, latency={runtime: t for (i, runtime), t in latencies.items() if i == index})
        for index, model in enumerate(models)
    ]


def measured_with(opt: argparse.Namespace) -> dict[str, Any]:
    """What a figure is worth depends on it: sizes, threads, rounds, versions."""
    import onnxruntime
    import torch

    names = ("imgsz", "batch_size", "threads", "repeats")
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    return {**{name: getattr(opt, name) for name in names}, "versions": versions}
