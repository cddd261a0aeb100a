"""bench: file size, parameters, MACs, latency and peak memory of models side by side."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.commands.bench_options import (
    RUN_IN,
    TORCH,
    check,
    check_importable,
    own_runtime,
    parse,
    title_of,
)
from yolo_slim.commands.bench_runs import Run, measured_memory, prepared, timed
from yolo_slim.errors import InputError, note
from yolo_slim.runtimes import opened, runtime_of
from yolo_slim.runtimes.network import Network, refused
from yolo_slim.text import counted, say

if TYPE_CHECKING:
    import numpy as np

    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.measure.latency import Latency
    from yolo_slim.measure.memory import Memory
    from yolo_slim.report.bench_table import Measured


def main(argv: Sequence[str] | None = None) -> list[Measured]:
    """Compare; returns what was measured, in the order of the files."""
    opt = parse(argv)
    check(opt)
    check_importable(opt)
    opt.files = [Path(file) for file in opt.files]
    networks = {file: opened_file(file, opt) for file in opt.files if runtime_of(file)}

    from yolo_slim.deploy.room import trial_folder
    from yolo_slim.files import write_aside
    from yolo_slim.measure.latency import random_images, warning_of
    from yolo_slim.models import load
    from yolo_slim.report.bench_table import bench_tables, eight_bit_lines, layer_table

    sources = [networks[file] if file in networks else load(file) for file in opt.files]
    opt.imgsz, opt.batch_size = sizes(sources, opt)
    images = random_images(opt.batch_size, 3, *opt.imgsz)
    outputs = {file: first_outputs(file, each, images) for file, each in networks.items()}
    models = [counts_of(*pair, opt) for pair in zip(opt.files, sources, strict=True)]
    with trial_folder() as aside:
        calls, files = prepared(sources, images, aside, opt)
        times = timed(calls, opt)
        memories = {} if opt.no_memory else measured_memory(files, opt)
    models = with_figures(models, times, memories)
    if opt.json:
        runtimes = list(dict.fromkeys(runtime for _, runtime in times))
        head = measured_with(runtimes, opt)
        content = {**head, "models": [model.as_dict(models[0]) for model in models]}
        write_aside(opt.json, json.dumps(content, indent=2).encode())
    for model in models:
        if model.layers:
            print(layer_table(model))
    print(bench_tables(models, title_of))
    say(conditions(opt))
    for line in [*eight_bit_lines(models, title_of), *unlike(opt.files, sources, outputs)]:
        say(line)
    if 0 < len(networks) < len(set(opt.files)):
        say("An exported file has its BatchNorms folded into the convs: fewer parameters.")
    if warning := warning_of(times):
        say(warning)
    return models


def opened_file(file: Path, opt: argparse.Namespace) -> Network:
    """An exported file that takes images.

    Raises:
        InputError: its runtime refuses it, or it takes something else.
    """
    network = opened(file, opt.threads)
    if len(network.shape) not in (0, 4) or (network.shape and network.shape[1] not in (None, 3)):
        got = f"it takes {[size or '?' for size in network.shape]}"
        raise InputError(file, got, "images, (batch, 3, height, width)")
    return network


def sizes(
    sources: Sequence[Checkpoint | Network], opt: argparse.Namespace
) -> tuple[tuple[int, int], int]:
    """Height and width of the images, px, and images a call.

    They are as given, else as the exported files say, else 640, 640 and 1.

    Raises:
        InputError: an exported file has another size than is given or than one before it; the size
            is no multiple of a model's stride; a checkpoint takes other images than RGB.
    """
    from yolo_slim.errors import check_imgsz
    from yolo_slim.host.image import check_rgb, smallest_image

    height, width = (opt.imgsz[0], opt.imgsz[-1]) if opt.imgsz else (None, None)
    batch = opt.batch_size
    for file, source in zip(opt.files, sources, strict=True):
        if isinstance(source, Network) and source.shape:
            own_batch, _, own_height, own_width = source.shape
            both = (own_height or height, own_width or width)
            if (height or both[0], width or both[1]) != both:
                raise another_size(file, "--imgsz", told(both), told((height, width)))
            if own_batch and batch and own_batch != batch:
                raise another_size(file, "--batch-size", str(own_batch), str(batch))
            (height, width), batch = both, own_batch or batch
    height, width = height or width or 640, width or height or 640
    for file, source in zip(opt.files, sources, strict=True):
        if not isinstance(source, Network):
            check_rgb(source.model, file)
            for side in (height, width):
                check_imgsz(side, smallest_image(source.model)[1])
    return (height, width), batch or 1


def told(sides: tuple[int | None, int | None]) -> str:
    """A size as --imgsz takes it."""
    return " ".join(str(side or "?") for side in dict.fromkeys(sides))


def another_size(file: Path, option: str, own: str, wanted: str) -> InputError:
    """That a file is fixed to a size, and another one is wanted."""
    got = f"{own} is fixed in it, {wanted} given or fixed in another file"
    return InputError(f"{file}, {option}", got, f"{option} {own}, or an export with --dynamic")


def first_outputs(file: Path, network: Network, images: np.ndarray) -> list[np.ndarray]:
    """What an exported file returns.

    Raises:
        InputError: it does not run.
    """
    try:
        return network(images)
    except Exception as error:  # each runtime raises types of its own
        raise refused(file, title_of(own_runtime(file)), error) from error


def counts_of(file: Path, source: Checkpoint | Network, opt: argparse.Namespace) -> Measured:
    """Size, parameters and MACs of a file, which is neither timed nor run."""
    from yolo_slim.measure.cost import Cost, cost, layer_costs
    from yolo_slim.measure.counted import counted_file
    from yolo_slim.report.bench_table import Measured

    if not isinstance(source, Network):
        layers = layer_costs(source.model, opt.imgsz) if opt.layers else ()
        counts = cost(source.model, opt.imgsz, file)
        return Measured(file, file.stat().st_size, counts, layers=layers)
    runtime, size = runtime_of(file), size_of(file)
    assert runtime
    shape = (opt.batch_size, 3, *opt.imgsz)
    try:
        figures = counted_file(source.path, runtime.suffix, shape)
    except InputError as error:  # it runs, so that the times of all files are still worth something
        note(file, f"its parameters and MACs are not counted: {error.parts[1]}")
        figures = None
    if figures is None:
        return Measured(file, size, None)
    counts = Cost(figures.params, figures.macs, opt.imgsz[0], size)
    return Measured(file, size, counts, in_8_bits=figures.in_8_bits)


def size_of(file: Path) -> int:
    """Bytes of a file, or of all files in its folder where it stands for one."""
    runtime = runtime_of(file)
    folder = file.parent if file.is_file() and runtime and runtime.inside else file
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) or file.stat().st_size


def with_figures(
    models: Sequence[Measured], times: dict[Run, Latency], memories: dict[Run, Memory]
) -> list[Measured]:
    """The files with the times and the memory of each."""
    return [
        replace(
            model,
            latency={runtime: each for (i, runtime), each in times.items() if i == index},
            memory={runtime: each for (i, runtime), each in memories.items() if i == index},
        )
        for index, model in enumerate(models)
    ]


def unlike(
    files: Sequence[Path],
    sources: Sequence[Checkpoint | Network],
    outputs: dict[Path, list[np.ndarray]],
) -> list[str]:
    """A line on each file that is made for something else than the first one."""
    from yolo_slim.report.heads import head_of_model, head_of_network

    heads = [
        head_of_network(each, outputs[file])
        if isinstance(each, Network)
        else head_of_model(each.model)
        for file, each in zip(files, sources, strict=True)
    ]
    lines = []
    for file, head in zip(files, heads, strict=True):
        if heads[0] and head and (text := head.unlike(heads[0])):
            lines.append(f"Another task: {file} has {text}. Shares of the first say little.")
    return lines


def conditions(opt: argparse.Namespace) -> str:
    """What was measured, in a sentence."""
    height, width = opt.imgsz
    size = f"{height} px" if height == width else f"{height} x {width} px (height x width)"
    images, rounds = counted(opt.batch_size, "image"), counted(opt.repeats, "round")
    text = f"On the CPU, {counted(opt.threads, 'thread')}, {images} of {size} a call (MACs: of one)"
    return f"{text}, {rounds}, the files of a runtime in turns."


def measured_with(runtimes: Sequence[str], opt: argparse.Namespace) -> dict[str, Any]:
    """What a figure is worth depends on it: sizes, threads, rounds, versions.

    Args:
        runtimes: names of those that ran.
        opt: of bench.
    """
    height, width = opt.imgsz
    names = ("batch_size", "threads", "repeats")
    needs = [TORCH, *(m for name in runtimes if name in RUN_IN for m in RUN_IN[name].needs)]
    return {
        "imgsz": height if height == width else [height, width],
        **{name: getattr(opt, name) for name in names},
        "versions": {name: version_of(name) for name in needs},
    }


def version_of(module: str) -> str | None:
    """The version of a package that was imported; None where it does not tell."""
    package = module.partition(".")[0]
    try:
        return getattr(sys.modules[package], "__version__", None) or version(package)
    except (KeyError, PackageNotFoundError):
        return None
