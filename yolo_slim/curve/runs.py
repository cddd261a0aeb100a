"""Finished runs in a curve: what they came to, if it is of the same data."""

from __future__ import annotations

from typing import Any

from yolo_slim.curve.job import Task
from yolo_slim.curve.points import TRAINED
from yolo_slim.errors import InputError
from yolo_slim.finished import Finished, check_same_data
from yolo_slim.host.data import check_nc
from yolo_slim.host.trained_with import classes_of, stride_of
from yolo_slim.models import load


def task_of_run(run: Finished, file: str, data: dict[str, Any], imgsz: int) -> Task:
    """The result of a run as a point.

    Args:
        run: finished.
        file: the data yaml of the curve.
        data: what it says.
        imgsz: where the run names none, px.

    Raises:
        InputError: it made no model, or one of other data.
    """
    if run.result is None:
        raise InputError(run.folder, f"a run of {run.kind}", "one that makes a model")
    check_same_data(run, file, data)
    source = load(run.result)
    check_nc(data, classes_of(source), file)
    stride = stride_of(source.model)
    size = -(-(run.imgsz or imgsz) // stride) * stride
    label = " ".join(str(run.folder).split())  # a line of the csv is a point
    return Task(TRAINED, label, size, weights=run.result.absolute())
