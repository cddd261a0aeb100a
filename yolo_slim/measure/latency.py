"""Latency side by side: interleaved, warmed up, medians and ratios.

Absolute times mean little on a shared machine; the ratio of medians taken in turns does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm


@dataclass(frozen=True)
class Latency:
    """Time of one call.

    Attributes:
        median: ms.
        spread: distance between the quartiles, ms.
    """

    median: float
    spread: float


def interleaved(
    calls: Mapping[str, Callable[[], Any]], *, repeats: int = 60, warmup: int = 8
) -> dict[str, Latency]:
    """Time several calls in turns.

    Args:
        calls: name to function.
        repeats: timed rounds; each round calls each function once, in an order that changes.
        warmup: rounds before, untimed.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for index in tqdm(range(warmup + repeats), desc="latency", unit="round", leave=False):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            start = time.perf_counter()
            calls[name]()
            if index >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    quartiles = {name: statistics.quantiles(t, n=4) for name, t in times.items()}
    return {name: Latency(q[1], q[2] - q[0]) for name, q in quartiles.items()}


def session(model: bytes, threads: int = 2) -> Any:
    """An ONNX Runtime CPU session that does not spin.

    Spinning threads of one session take the cores from the other that it is compared with.

    Args:
        model: an ONNX file's content.
        threads: of one operator.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_latency(
    models: Mapping[str, bytes], *, imgsz: int, batch: int = 1, threads: int = 2, repeats: int = 60
) -> dict[str, Latency]:
    """Time ONNX files side by side on one random image.

    Args:
        models: name to an ONNX file's content, with one input `images`.
        imgsz: side of the square image, px.
        batch: images a call.
        threads, repeats: see `session` and `interleaved`.
    """
    sessions = {name: session(model, threads) for name, model in models.items()}
    image = np.random.default_rng(0).random((batch, 3, imgsz, imgsz), dtype=np.float32)
    calls = {name: partial(s.run, None, {"images": image}) for name, s in sessions.items()}
    return interleaved(calls, repeats=repeats)
