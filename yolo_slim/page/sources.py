"""From runs to the models that a page shows: before a cut, after it, trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.finished import Finished, check_same_data, short
from yolo_slim.host.checkpoint import Checkpoint
from yolo_slim.host.data import check_data, check_labels
from yolo_slim.host.tasks import SEGMENTATION, task_of_model
from yolo_slim.host.trained_with import USUAL, all_as_one, stride_of
from yolo_slim.models import load
from yolo_slim.numerics import digest
from yolo_slim.text import counted

BEFORE, AFTER, UNTRAINED = "dense", "cut", "before"  # what models are called, before "model"
STARTS = (BEFORE, UNTRAINED)
TRAINED = {"finetune": "finetuned", "sparse": "sparse", "training": "trained"}


@dataclass(frozen=True)
class Source:
    """A model that a page shows.

    Attributes:
        label: what the page calls it.
        checkpoint: the model and its file.
        known: it knows the classes of the data; False: its head is new, or of other classes.
    """

    label: str
    checkpoint: Checkpoint
    known: bool = True

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.checkpoint.model


def sources_of(runs: Sequence[Finished], data: dict[str, Any] | None) -> tuple[Source, ...]:
    """The models of runs, in the order of the road; each model once.

    Labels that several runs have are told apart by the run: "cut, prune/exp2".

    Args:
        runs: of one model and one data set.
        data: from `check_data`; None: nothing is validated.
    """
    models = dict[str, Source]()  # by what a model is: one file may be another's copy
    rows = [_Row(run, *each) for run in runs for each in _files(run)]
    if not rows:  # of runs that make no model
        rows = [_Row(run, BEFORE, run.dense, True) for run in runs if run.dense]
    several = Counter(label for label, _ in {(row.label, row.key) for row in rows})
    given = dict[str, int]()  # how much the name of a model says
    for row in rows:
        plain = several[row.label] == 1 or row.label in STARTS
        label = row.label if plain else f"{row.label}, {short(row.run)}"
        if row.rank > given.get(row.key, -1):
            given[row.key] = row.rank
            fits = data is None or _fits(row.checkpoint, data)
            models[row.key] = Source(label, row.checkpoint, row.known and fits)
    return tuple(models.values())


@dataclass(frozen=True)
class _Row:
    """A model of a run, as `_files` gives it."""

    run: Finished
    label: str
    file: Path
    known: bool

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return load(self.file)

    @cached_property
    def key(self) -> str:
        return digest(self.checkpoint.model)

    @property
    def rank(self) -> int:
        """A result of a training says more than a cut, and that more than where a run began."""
        return 0 if self.label in STARTS else 1 if self.label.startswith(AFTER) else 2


def _files(run: Finished) -> Iterator[tuple[str, Path, bool]]:
    """Label and file of each model of a run, and whether its head has been trained."""
    if run.kind == "slim":
        yield from _of_slim(run)
    elif run.kind == "prune":
        known = _prunes_known(run)
        if run.dense:
            yield BEFORE, run.dense, True  # whether it knows the classes is seen from its head
        assert run.result is not None
        yield AFTER, run.result, known
    elif run.kind == "finetune":
        yield from _of_finetune(run)
    elif run.result is not None:
        after = "with zeros" if run.kind == "finegrained" else TRAINED[run.kind]
        if run.dense:
            yield UNTRAINED, run.dense, True
        yield after, run.result, True


def _of_slim(run: Finished) -> Iterator[tuple[str, Path, bool]]:
    options = run.options
    known = bool(options.get("same_classes", True)) or not options.get("at_once", False)
    if run.dense:
        yield BEFORE, run.dense, known
    cuts = run.report.get("rounds") or []
    for number, each in enumerate(cuts, 1):
        file = run.folder / f"cut{number}.pt"
        if file.is_file():
            label = AFTER if len(cuts) == 1 else f"cut {number}"
            yield label, file, each.get("recovered") is not None
    assert run.result is not None
    yield "slim", run.result, True


def _of_finetune(run: Finished) -> Iterator[tuple[str, Path, bool]]:
    """The model before the cut is where the pruned one says that it was cut from."""
    assert run.result is not None
    result = load(run.result).model
    cuts = getattr(result, "ancestry", [])
    before = Path(str(cuts[-1].get("weights", ""))) if cuts else None
    known = True
    if before and before.is_file():
        yield BEFORE, before, True
        known = load(before).model.model[-1].nc == result.model[-1].nc
    if run.dense:
        yield AFTER if cuts else UNTRAINED, run.dense, known
    yield TRAINED["finetune"], run.result, True


def _prunes_known(run: Finished) -> bool:
    """False if the cut model got a new head; where its origin is gone the report tells."""
    if run.dense is None:
        return bool(run.report.get("accuracy")) or not run.data
    assert run.result is not None
    return bool(load(run.dense).model.model[-1].nc == load(run.result).model.model[-1].nc)


def _fits(checkpoint: Checkpoint, data: dict[str, Any]) -> bool:
    """True if a model has the classes of the data, or takes all of them for one."""
    if all_as_one(checkpoint.train, checkpoint.model):
        return True
    return bool(checkpoint.model.model[-1].nc == data["nc"])


def data_of(runs: Sequence[Finished], given: str | None = None) -> dict[str, Any] | None:
    """The data of runs, checked.

    Args:
        runs: finished ones.
        given: a data yaml in place of theirs.

    Returns:
        See `check_data`; None where no run has data.

    Raises:
        InputError: runs of different data; the data is gone, or has no validation images.
    """
    files = [given] if given else [run.data for run in runs if run.data]
    if not files:
        return None
    data = check_data(files[0])
    for run in runs if not given else []:
        check_same_data(run, files[0], data)
    return data


def check_model_labels(source: Source, data: dict[str, Any]) -> None:
    """See that the labels of the validation split suit a model.

    Raises:
        InputError: they do not.
    """
    single = all_as_one(source.checkpoint.train, source.model)
    outlines = task_of_model(source.model) is SEGMENTATION
    check_labels(data, ("val",), single_cls=single, outlines=outlines)


def imgsz_of_runs(runs: Sequence[Finished], model: nn.Module, given: int | None) -> int:
    """Image size of a page, px: as given, or of the first run that names one, in whole strides."""
    named = [run.imgsz for run in runs if run.imgsz]
    size, stride = given or (named[0] if named else USUAL), stride_of(model)
    return max(-(-size // stride), 1) * stride


def check_same_road(sources: Sequence[Source]) -> None:
    """See that the models of several runs can be compared.

    Raises:
        InputError: one is for other classes than another.
    """
    known = [source for source in sources if source.known]
    for source in known[1:]:
        first, own = known[0].checkpoint, source.checkpoint
        if len(first.names) != len(own.names):
            got = f"a model of {counted(len(own.names), 'class')}"
            raise InputError(own.path, got, f"the {len(first.names)} of {first.path}")
