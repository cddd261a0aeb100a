"""Figures of the models of a page, all taken now, side by side: cost, time, mAP, boxes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from yolo_slim.deploy.export import to_onnx
from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.host.checkpoint import save_model
from yolo_slim.host.data import images as image_files
from yolo_slim.host.predictions import Objects, Predictions, predictions, true_objects
from yolo_slim.host.validation import Validation
from yolo_slim.measure.cost import cost
from yolo_slim.measure.latency import onnx_latency, warning_of
from yolo_slim.page.changes import changed, matches, tally
from yolo_slim.page.images import order, pictures
from yolo_slim.page.model import ClassAccuracy, Picture, Shown
from yolo_slim.page.sources import Source

IMAGES, REPEATS, THREADS = 200, 30, 2  # of a page, unless others are asked for
THRESHOLD = 0.25  # confidence of the boxes that are shown and counted, as in YOLOv5's detect.py


@dataclass(frozen=True)
class Seen:
    """What models were seen to do on the validation images.

    Attributes:
        models: with their accuracy.
        pictures: most lost and gained first.
        looked: images that were looked at, and how many there are.
        first: index of the model that the others are compared with.
        classes: their names.
    """

    models: tuple[Shown, ...]
    pictures: tuple[Picture, ...]
    looked: tuple[int, int]
    first: int
    classes: tuple[str, ...]


def counted_models(sources: Sequence[Source], imgsz: int) -> tuple[Shown, ...]:
    """What each model costs. A file is counted as it is saved for use: without its optimizer."""
    shown = []
    for source in sources:
        total = cost(source.model, imgsz)
        with tempfile.TemporaryDirectory() as folder:
            size = save_model(source.model, Path(folder) / "model.pt").stat().st_size
        file = str(source.checkpoint.path)
        shown.append(Shown(source.label, file, total.params, total.macs, size))
    return tuple(shown)


def timed(
    models: tuple[Shown, ...], sources: Sequence[Source], imgsz: int, repeats: int = REPEATS
) -> tuple[tuple[Shown, ...], str]:
    """The models with their time in ONNX Runtime, taken in turns, and what to know of it.

    Args:
        models: of `counted_models`.
        sources: the same models.
        imgsz: side of the square image, px.
        repeats: timed rounds; 0: nothing is timed.
    """
    if not repeats:
        return models, ""
    files: dict[int, bytes] = {}
    bar = {"desc": "exporting to time", "unit": "model", "leave": False}
    try:
        for index, source in enumerate(tqdm(sources, **bar)):
            files[index] = to_onnx(source.model, imgsz=imgsz)
        named = {str(index): content for index, content in files.items()}
        times = onnx_latency(named, imgsz=imgsz, threads=THREADS, repeats=max(repeats, 2))
    except (InputError, CheckFailed) as error:
        return models, f"No time was measured: {error}."
    rows = tuple(
        replace(each, ms=times[str(i)].median, spread=times[str(i)].spread)
        for i, each in enumerate(models)
    )
    return rows, warning_of(times, "Make the page again on an idle machine.")


def validated(
    models: tuple[Shown, ...],
    sources: Sequence[Source],
    data: dict[str, Any],
    *,
    imgsz: int,
    images: int | None = IMAGES,
    device: str = "",
) -> Seen:
    """The models with their accuracy, and what they found in the images.

    Args:
        models, sources: see `timed`. Those that do not know the classes are left as they are.
        data: from `check_data`.
        imgsz: px.
        images: of the validation split, evenly spread over it; None: all.
        device: see `evaluate`.

    Raises:
        InputError: no validation images, or none with labels.
    """
    known = [index for index, source in enumerate(sources) if source.known]
    names = tuple(sources[known[0]].checkpoint.names.values())
    validation = Validation(
        sources[known[0]].model, data, imgsz=imgsz, images=images, device=device
    )
    truths = true_objects(validation)
    seen: dict[int, Predictions] = {}
    for index in tqdm(known, desc="validating for the page", unit="model", leave=False):
        seen[index] = predictions(validation, sources[index].model, least=THRESHOLD)
    match = {
        index: [matches(t, f) for t, f in zip(truths, each.images, strict=True)]
        for index, each in seen.items()
    }
    first, last = known[0], known[-1]
    rows = list(models)
    objects = np.bincount(np.concatenate([t.labels for t in truths]), minlength=len(names))
    for index, each in seen.items():
        accuracy = each.accuracy
        rows[index] = replace(
            rows[index],
            map50=accuracy.map50,
            map=accuracy.map,
            mask_map50=accuracy.mask_map50,
            mask_map=accuracy.mask_map,
            classes=by_class(each, objects),
            tally=tally(truths, match[index], match[first]),
        )
    found: list[list[tuple[Objects, np.ndarray]] | None] = [None] * len(rows)
    for index, each in seen.items():
        found[index] = list(zip(each.images, match[index], strict=True))
    shown = pictures(truths, found, order(changed(truths, match[last], match[first])))
    looked = (validation.images, len(image_files(data, "val")))
    return Seen(tuple(rows), shown, looked, first, names)


def by_class(seen: Predictions, objects: np.ndarray) -> tuple[ClassAccuracy | None, ...]:
    """AP of each class; None for one without objects in these images."""
    rows: list[ClassAccuracy | None] = []
    for label, count in enumerate(objects.tolist()):
        ap50, ap = seen.classes.get(label, (0.0, 0.0))
        rows.append(ClassAccuracy(ap50, ap, count) if count else None)
    return tuple(rows)
