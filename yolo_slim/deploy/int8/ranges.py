"""The range of a tensor that its 256 steps are spread over: one function a method.

A range that holds all values has coarse steps; a narrower one cuts the largest values off. Where a
SiLU follows, x * sigmoid(x), steps are wasted on large negative x: all of them become about 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from yolo_slim.deploy.int8.samples import Sample

Range = tuple[float, float]
STEPS = 255
TRIED = 6_000  # values that a range is tried on
PLACES = 30


def extremes(sample: Sample, silu: bool) -> Range:
    """All values of all images."""
    return float(sample.low.min()), float(sample.high.max())


def mean_extremes(sample: Sample, silu: bool) -> Range:
    """The mean over images of the extremes of each: what one odd image holds is cut off."""
    return float(sample.low.mean()), float(sample.high.mean())


def percentile(sample: Sample, silu: bool) -> Range:
    """All values but 1 in 10 000 at each end."""
    low, high = np.percentile(sample.values, (0.01, 99.99))
    return float(low), float(high)


def least_error(sample: Sample, silu: bool) -> Range:
    """The range whose steps and cuts change the values least, in squares; behind a SiLU if one is.

    Each end in turn, twice, is tried at PLACES places between nothing and the extreme.
    """
    values = sample.values[:: -(-sample.values.size // TRIED)].astype(np.float64)
    low, high = extremes(sample, silu)
    kept = _silu(values) if silu else values

    def error(low: float, high: float) -> float:
        scale = max(high - low, 1e-12) / STEPS
        steps = np.clip(np.round(values / scale), np.round(low / scale), np.round(high / scale))
        stepped = steps * scale
        return float(np.square((_silu(stepped) if silu else stepped) - kept).mean())

    lows, highs = (np.linspace(0.02, 1, PLACES) * end for end in (min(low, 0), max(high, 0)))
    for _ in range(2):
        high = min(highs, key=partial(error, low))
        low = min(lows, key=lambda end: error(end, high))
    return float(low), float(high)


def _silu(values: np.ndarray) -> np.ndarray:
    return values / (1 + np.exp(-values))


METHODS: dict[str, Callable[[Sample, bool], Range]] = {
    "minmax": extremes,
    "mean": mean_extremes,
    "percentile": percentile,
    "error": least_error,
}
