"""From finished runs to a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.finished import Finished, finished_run, reading
from yolo_slim.page import model
from yolo_slim.page.cuts import ancestry, cuts_of
from yolo_slim.page.measured import IMAGES, REPEATS, THRESHOLD, counted_models, timed, validated
from yolo_slim.page.scans import curve_of, scans_of
from yolo_slim.page.sources import (
    Source,
    check_model_labels,
    check_same_road,
    data_of,
    imgsz_of_runs,
    sources_of,
)
from yolo_slim.page.trainings import told_of, trainings_of
from yolo_slim.page.verdict import verdict
from yolo_slim.page.weights import histograms
from yolo_slim.runs import CALLED, SECRET
from yolo_slim.text import apart, counted

ENDS = ("cut", "finetuned")  # labels of the models before and after a finetuning
LONGEST = 200  # characters of an option's value
ANOTHER = "{}: its mAP is not known, since it has not learned the classes of this data."


def page_of(
    places: Sequence[str | Path],
    *,
    data: str | None = None,
    imgsz: int | None = None,
    images: int | None = IMAGES,
    repeats: int = REPEATS,
    device: str = "",
) -> model.Page:
    """Measure the models of finished runs side by side, and put all that is known on a page.

    Args:
        places: folders of runs; the models of the first one are shown first.
        data: a data yaml in place of that of the runs.
        imgsz: px; None: that of the runs.
        images: of the validation split that are looked at; None: all.
        repeats: timed rounds in ONNX Runtime; 0: nothing is timed.
        device: that models are validated on.

    Raises:
        InputError: a folder that is none of ours, a run that is not finished, runs of different
            data, data without validation images.
    """
    given = [finished_run(place) for place in places]
    runs = with_cuts(given)
    sets = data_of(runs, data)
    with reading(given[0].folder):
        sources = sources_of(runs, sets)
    if not sources:
        raise InputError(places[0], "a run whose model is gone", "a run with its checkpoints")
    check_same_road(sources)
    size = imgsz_of_runs(runs, sources[0].model, imgsz)
    known = [source for source in sources if source.known]
    if sets is not None and known:
        check_model_labels(known[0], sets)
    elif data:
        names = counted(len(sources[-1].checkpoint.names), "class")
        raise InputError(
            f"--data {data}", "no model here knows its classes", f"the {names} of the models"
        )
    models = counted_models(sources, size)
    seen = None
    if sets is not None and known:
        seen = validated(models, sources, sets, imgsz=size, images=images, device=device)
        models = seen.models
    models, rough = timed(models, sources, size, repeats)
    parts = _Parts.of(runs, size)
    notes = list(parts.told)
    notes += [*lost_in_training(models), *same_images(sets), rough]
    makes_models = any(run.result for run in runs)
    notes += notes_of(sources, sets, seen is not None, gone=makes_models and len(sources) == 1)
    return model.Page(
        title=", ".join(f"{run.kind} {run.folder}" for run in given),
        verdict=verdict(models, parts.curve, rough=bool(rough)),
        models=models,
        classes=seen.classes if seen else tuple(sources[-1].checkpoint.names.values()),
        imgsz=size,
        looked=seen.looked if seen else (0, 0),
        threshold=THRESHOLD,
        notes=tuple(note for note in notes if note),
        pictures=seen.pictures if seen else (),
        cuts=parts.cuts,
        trainings=parts.trainings,
        histograms=histograms([source.model for source in sources]),
        scans=parts.scans,
        curve=parts.curve,
        ancestry=ancestry([source.model for source in sources]),
        made=tuple(made_of(run) for run in runs),
    )


@dataclass(frozen=True)
class _Parts:
    """What the files of runs say, without a model."""

    cuts: tuple[model.Cut, ...]
    trainings: tuple[model.Training, ...]
    scans: tuple[model.Scan, ...]
    curve: model.Curve | None
    told: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Finished], imgsz: int) -> _Parts:
        """Read all of it.

        Raises:
            InputError: a file is damaged.
        """
        cuts, trainings, several = list[model.Cut](), list[model.Training](), len(runs) > 1
        told = list[str]()
        for run in runs:
            with reading(run.folder):
                cuts += cuts_of(run, imgsz, named=several)
                trainings += trainings_of(run, named=several)
                told += told_of(run)
        with reading(runs[0].folder):
            scans, curve = scans_of(runs), curve_of(runs)
        return cls(tuple(cuts), tuple(trainings), scans, curve, tuple(told))


def with_cuts(runs: Sequence[Finished]) -> list[Finished]:
    """The runs, and before each finetuning the cut that it trains, if that is at hand."""
    chain, folders = list[Finished](), set[Path]()
    for run in runs:
        parts = [run]
        if run.kind == "finetune" and run.dense:
            try:
                before = finished_run(run.dense)
            except InputError:
                before = run
            parts = [before, run] if before.kind == "prune" else [run]
        for part in parts:
            if part.folder.resolve() not in folders:
                folders.add(part.folder.resolve())
                chain.append(part)
    return chain


def lost_in_training(models: Sequence[model.Shown]) -> list[str]:
    """A sentence if a finetuned model ended below the cut one that it began with."""
    before, after = [next((m for m in models if m.label == name), None) for name in ENDS]
    if before is None or after is None or before.map is None or after.map is None:
        return []
    if after.map >= before.map:
        return []
    now, then = apart(after.map, before.map)
    text = f"The training made it worse: mAP50-95 is {now}, less than the {then} of the cut model "
    return [f"{text}that it began with. More --epochs give more."]


def same_images(data: Mapping[str, Any] | None) -> list[str]:
    """A sentence if a model is validated on what it is trained on."""
    if data is None or data.get("train") != data["val"]:
        return []
    return ["Training and validation images are the same: each mAP here flatters the models."]


def notes_of(
    sources: Sequence[Source], data: Mapping[str, Any] | None, measured: bool, *, gone: bool
) -> list[str]:
    """What a reader misses, and why it is not there."""
    notes = []
    if data is None:
        notes.append("No mAP and no pictures: the run has no data; --data of the report gives it.")
    elif not measured:
        notes.append("No mAP and no pictures: no model here knows the classes of the data.")
    else:
        notes += [ANOTHER.format(source.label) for source in sources if not source.known]
    if gone:
        notes.append("The model before the cut is gone: there is nothing to compare with.")
    return notes


def made_of(run: Finished) -> model.Made:
    """How a run was called."""
    called: dict[str, Any] = {}
    file = run.folder / CALLED
    if file.is_file():
        try:
            called = dict(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            called = {}
    options = {
        key: str(value)[:LONGEST]
        for key, value in sorted(run.options.items())
        if value not in (None, "", [], {}, False) and not str(key).endswith(SECRET)
    }
    versions = called.get("versions")
    return model.Made(
        str(run.folder),
        str(called.get("command", "")),
        options,
        {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {},
    )
