"""The runs of bench: each file in its runtime, prepared, timed in turns, and measured alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.commands.bench_options import RUN_IN, TORCH, runtimes_of, title_of
from yolo_slim.errors import note
from yolo_slim.runtimes import opened
from yolo_slim.runtimes.network import Network

if TYPE_CHECKING:
    import numpy as np

    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.measure.latency import Latency
    from yolo_slim.measure.memory import Memory

Run = tuple[int, str]  # index of a file, and name of a runtime
Calls = dict[Run, Callable[[], Any]]


def prepared(
    sources: Sequence[Checkpoint | Network],
    images: np.ndarray,
    aside: Path,
    opt: argparse.Namespace,
) -> tuple[Calls, dict[Run, Path]]:
    """A function for each file and runtime, and the file that it runs.

    Args:
        sources: the files, opened.
        images: what each is run on.
        aside: folder in which checkpoints are exported.
        opt: of bench.

    Raises:
        InputError: a checkpoint cannot be exported for a runtime.
    """
    import torch
    from tqdm import tqdm

    from yolo_slim.deploy.export import exportable
    from yolo_slim.deploy.formats import FORMATS
    from yolo_slim.deploy.options import ExportOptions
    from yolo_slim.measure.latency import torch_call

    calls: Calls = {}
    files: dict[Run, Path] = {}
    jobs = [(i, r) for i, file in enumerate(opt.files) for r in runtimes_of(file, opt.runtime)]
    for index, runtime in tqdm(jobs, desc="preparing", unit="model", leave=False):
        source, file = sources[index], opt.files[index]
        if isinstance(source, Network):
            calls[index, runtime] = partial(source, images)
        elif runtime == TORCH:
            with torch.no_grad():
                calls[index, runtime] = torch_call(exportable(source.model), images)
        else:
            row = FORMATS[runtime]
            content = row.write(source.model, ExportOptions(imgsz=opt.imgsz, batch=opt.batch_size))
            file = row.put(aside / str(index), file.stem, content)
            calls[index, runtime] = partial(opened(file, opt.threads), images)
        files[index, runtime] = file
    return calls, files


def timed(calls: Calls, opt: argparse.Namespace) -> dict[Run, Latency]:
    """One runtime after the other, since their threads disturb each other; its files in turns.

    PyTorch has as many threads as the other runtimes.
    """
    from yolo_slim.measure.latency import interleaved, torch_threads

    times: dict[Run, Latency] = {}
    for runtime in dict.fromkeys(runtime for _, runtime in calls):
        in_torch = runtime == TORCH or "torch" in RUN_IN[runtime].needs
        part = {run: call for run, call in calls.items() if run[1] == runtime}
        with torch_threads(opt.threads if in_torch else 1):
            title = f"latency, {title_of(runtime)}"
            times |= interleaved(part, repeats=opt.repeats, title=title)
    return times


def measured_memory(files: Mapping[Run, Path], opt: argparse.Namespace) -> dict[Run, Memory]:
    """Peak memory of each file in its runtime; what cannot be measured is told in a line."""
    from tqdm import tqdm

    from yolo_slim.measure.memory import CHILD, peak_memory, peak_now

    memories: dict[Run, Memory] = {}
    if peak_now() is None:
        return memories
    about = {"threads": opt.threads, "shape": (opt.batch_size, 3, *opt.imgsz)}
    modules = [str(Path(file).absolute()) for file in opt.modules or ()]
    for (index, runtime), file in tqdm(files.items(), desc="memory", unit="file", leave=False):
        task = {"path": str(file), **about}
        try:
            if runtime == TORCH:
                task |= {"modules": modules, "cfg": opt.cfg}
                memories[index, runtime] = peak_memory("yolo_slim.commands.bench_checkpoint", task)
            else:
                memories[index, runtime] = peak_memory(CHILD, task)
        except ChildProcessError as error:
            name = f"{opt.files[index]}, {title_of(runtime)}"
            note(name, f"its memory is not measured: {error}")
    return memories
