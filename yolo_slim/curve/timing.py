"""The times of all points, measured in one run and in turns, when nothing else is running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yolo_slim.as_called import named
from yolo_slim.curve.job import network_of, no_bars
from yolo_slim.curve.points import DENSE, SIZE, Point
from yolo_slim.measure.images import random_images
from yolo_slim.measure.latency import interleaved, onnx_call, warning_of

REPEATS = 60


def timed(
    points: Sequence[Point], folder: Path, threads: int, repeats: int = REPEATS
) -> tuple[tuple[Point, ...], str]:
    """Time the ONNX files of all points in ONNX Runtime, each at its image size.

    By the table of a device the dense model's time there is scaled by what is measured here, where
    the table knows no time: of smaller images, and of models that it was not made for.

    Args:
        points: one of them dense.
        folder: of the run.
        threads: of ONNX Runtime.
        repeats: timed rounds.

    Returns:
        The points with their times, and a sentence if these say little, else "".
    """
    calls = {
        point.key: onnx_call(
            network_of(folder, point.key).read_bytes(),
            random_images(1, 3, point.imgsz, point.imgsz),
            threads,
        )
        for point in points
    }
    with no_bars():
        times = interleaved(calls, repeats=repeats)
    dense = next(point for point in points if point.family == DENSE)
    measured = []
    for point in points:
        time, predicted, share = times[point.key], point.predicted, point.share
        if dense.predicted is not None and predicted is None:
            predicted = dense.predicted * time.median / times[dense.key].median
        if dense.predicted is not None and predicted is not None and point.family == SIZE:
            share = predicted / dense.predicted
        measured.append(
            replace(
                point,
                share=share,
                predicted=predicted,
                latency=time.median,
                spread=time.spread,
            )
        )
    again = f"Another `{named('curve')}` on an idle machine measures them again."
    return tuple(measured), warning_of(times, again)
