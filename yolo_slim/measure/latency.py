"""Latency side by side: interleaved, warmed up, medians and ratios.

Absolute times mean little on a shared machine; the ratio of medians taken in turns does.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.measure.images import random_images
from yolo_slim.runtimes.onnx import session

Name = TypeVar("Name", bound=Hashable)
NOISY = 0.2  # distance of the quartiles, as a share of the median: above it a ratio says little


@dataclass(frozen=True)
class Latency:
    """Time of one call.

    Attributes:
        median: ms.
        spread: distance between the quartiles, ms.
    """

    median: float
    spread: float

    @property
    def noise(self) -> float:
        """The spread as a share of the median."""
        return self.spread / self.median


AGAIN = "Measure again on an idle machine, or with more --repeats."


def warning_of(times: Mapping[Any, Latency], again: str = AGAIN) -> str:
    """A sentence if these times cannot be relied on; "" if they can.

    Args:
        times: as they were measured just now: the load of the machine is looked at, too.
        again: what to do then.
    """
    worst, cores = max((t.noise for t in times.values()), default=0.0), os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if worst <= NOISY and load <= cores:
        return ""
    why = [f"the quartiles lie up to {worst:.0%} of a median apart"] * (worst > NOISY)
    why += [f"{load:.1f} programs run on {cores} cores"] * (load > cores)
    text = f"These times are rough: {', and '.join(why)}."
    return f"{text} {again}"


def interleaved(
    calls: Mapping[Name, Callable[[], Any]],
    *,
    repeats: int = 60,
    warmup: int = 8,
    title: str = "latency",
) -> dict[Name, Latency]:
    """Time several calls in turns.

    Args:
        calls: name to function.
        repeats: timed rounds; each round calls each function once, in an order that changes.
        warmup: rounds before, untimed.
        title: of the progress bar.
    """
    names = list(calls)
    times: dict[Name, list[float]] = {name: [] for name in names}
    for index in tqdm(range(warmup + repeats), desc=title, unit="round", leave=False):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            start = time.perf_counter()
            calls[name]()
            if index >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    quartiles = {name: statistics.quantiles(t, n=4) for name, t in times.items()}
    return {name: Latency(q[1], q[2] - q[0]) for name, q in quartiles.items()}


def onnx_call(model: bytes, images: np.ndarray, threads: int = 2) -> Callable[[], Any]:
    """A function that runs an ONNX file, which has one input, on these images.

    Args:
        model, threads: see `session`.
        images: as its input takes them.
    """
    runtime = session(model, threads)
    return partial(runtime.run, None, {runtime.get_inputs()[0].name: images})


def torch_call(model: nn.Module, images: np.ndarray) -> Callable[[], Any]:
    """A function that runs a model in PyTorch, in inference mode, on these images.

    Args:
        model: as `exportable` makes it, that is fused; another one is timed as it is.
        images: (batch, channels, h, w) float32.
    """
    return torch.inference_mode()(partial(model, torch.from_numpy(images)))


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """PyTorch works with so many threads in the block; the number before it is put back."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def onnx_latency(
    models: Mapping[str, bytes], *, imgsz: int, batch: int = 1, threads: int = 2, repeats: int = 60
) -> dict[str, Latency]:
    """Time ONNX files side by side on one random image.

    Args:
        models: name to an ONNX file's content, with one input of three channels.
        imgsz: side of the square image, px.
        batch: images a call.
        threads, repeats: see `session` and `interleaved`.
    """
    images = random_images(batch, 3, imgsz, imgsz)
    calls = {name: onnx_call(content, images, threads) for name, content in models.items()}
    return interleaved(calls, repeats=repeats)
