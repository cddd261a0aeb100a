"""What a worker does for a curve: it cuts, recovers, validates and exports a point at a time.

What is the same for several points is made once, where the first of them asks for it: the images in
each worker, what the channels are worth by a criterion in one of them, which writes it to a file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.channels.rules import channel_graph
from yolo_slim.curve.points import CUT, DENSE, SIZE, TRAINED, Point
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device.table import DeviceTable
from yolo_slim.errors import InputError
from yolo_slim.files import write_aside
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.compat import replaced
from yolo_slim.host.evaluate import Accuracy
from yolo_slim.host.validation import Validation
from yolo_slim.measure.cost import Cost, cost
from yolo_slim.models import load
from yolo_slim.pruning.latency import LatencyCut
from yolo_slim.pruning.masks import Scores
from yolo_slim.pruning.options import CutOptions
from yolo_slim.pruning.prune import Chooser, Worth, prune_by

WORK = "work"  # folder of what is needed until all is timed: the ONNX files, and the scores
EFFORT = {DENSE: 0.4, CUT: 1.0, SIZE: 0.15, TRAINED: 0.2}  # shares of what a cut takes


@dataclass(frozen=True)
class Task:
    """A point that is to be measured.

    Attributes:
        family, label, imgsz: see `Point`.
        options: of a cut.
        weights: of a trained model.
    """

    family: str
    label: str
    imgsz: int
    options: CutOptions | None = None
    weights: Path | None = None

    @property
    def key(self) -> tuple[str, str]:
        """That of its point."""
        return self.family, self.label

    @property
    def effort(self) -> float:
        """How long it takes, as a share of a cut; the start of a worker counts with the first."""
        return EFFORT[self.family]


@dataclass(frozen=True)
class Job:
    """What a worker needs to measure points.

    Attributes:
        weights: the checkpoint.
        data: from `check_data`.
        imgsz: side of the image that cuts are for, px.
        images: validation images; evenly spread over the split.
        folder: of the run; ONNX files go to a folder in it.
        calib_images: training images that the cuts look at.
        table: of a device, for cuts by its times.
        device: of the validation, as for `Validation`.
        modules: the files of --modules.
        cfg: of --cfg, for weights without a model.
    """

    weights: Path
    data: dict[str, Any]
    imgsz: int
    images: int
    folder: Path = Path()
    calib_images: int = 128
    table: DeviceTable | None = None
    device: str = ""
    modules: tuple[str, ...] = ()
    cfg: str | None = None

    def start(self, progress: bool = True) -> Worker:
        """Load the model; returns what measures a point. It shows no bars."""
        return Worker(self)


class Worker:
    """Measures one point after the other.

    Args:
        job: what is measured on.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.model = job, load(job.weights, job.cfg).model
        self._calibrations: dict[tuple[int, bool], Calibration] = {}
        self._worth: dict[str, tuple[Scores, Worth]] = {}

    def __call__(self, task: Task) -> Point:
        """Measure a point and write its ONNX file.

        Raises:
            InputError: the dense model finds nothing, so that there is nothing to lose.
        """
        with no_bars():
            model, accuracy, predicted = self._made(task)
            counted = cost(model, task.imgsz)
            content = to_onnx(model, imgsz=task.imgsz)
        dense = self._predicted_dense
        share = counted.macs / self._dense.macs
        if task.family == CUT and predicted and dense:
            share = predicted / dense
        write_aside(network_of(self.job.folder, task.key), content)
        return Point(
            *task.key,
            share=share,
            imgsz=task.imgsz,
            params=counted.params,
            macs=counted.macs,
            bytes=len(content),
            predicted=predicted,
            latency=None,
            spread=None,
            map50=accuracy.map50,
            map=accuracy.map,
        )

    def _made(self, task: Task) -> tuple[nn.Module, Accuracy, float | None]:
        """The model of a point, its accuracy, and its time by the table, ms."""
        if task.options is not None:
            return self._cut(task.options)
        model = load(task.weights).model if task.weights else self.model
        accuracy = self._judge(task.imgsz)(model)
        if task.family == DENSE and not accuracy.map50:
            got = "mAP50 0 on these images, nothing to lose"
            raise InputError(self.job.weights, got, "a trained model and its kind of data")
        if task.family == DENSE:
            return model, accuracy, self._predicted_dense
        return model, accuracy, self._predicted(model, task.imgsz) if task.weights else None

    def _cut(self, options: CutOptions) -> tuple[nn.Module, Accuracy, float | None]:
        """A cut with its recovery; its accuracy was measured on the way."""
        row = options.row
        images = self._calibration(row.batch, row.labels)
        worth = self._scored(options, images)
        pruned = prune_by(options, self.model, images, self._judge(self.job.imgsz), worth)
        accuracy, times = pruned.recovery.accuracy, pruned.report.times
        assert accuracy is not None
        return pruned.model, accuracy, times.predicted[1] if times else None

    def _scored(self, options: CutOptions, images: Calibration) -> tuple[Scores, Worth]:
        """What the channels are worth by a criterion: from another worker where it has that."""
        name, file = options.criterion, self.job.folder / WORK / f"{options.criterion}.pt"
        if name not in self._worth and file.is_file():
            with suppress(Exception):  # damaged since: it is scored again
                self._worth[name] = torch.load(file, weights_only=True)
        if name not in self._worth:
            self._worth[name] = Chooser(options, self.model).scored(images)
            content = io.BytesIO()
            torch.save(self._worth[name], content)
            write_aside(file, content.getvalue())
        return self._worth[name]

    def _calibration(self, batch: int, labels: bool) -> Calibration:
        """The images that a cut looks at, as `prune` takes them."""
        job, key = self.job, (batch, labels)
        if key not in self._calibrations:
            self._calibrations[key] = calibrate(
                job.data,
                self.model,
                imgsz=job.imgsz,
                images=job.calib_images,
                batch_size=batch,
                labels=labels,
            )
        return self._calibrations[key]

    def _judge(self, imgsz: int) -> Validation:
        """YOLOv5's validation at an image size; the images of smaller sizes are not kept."""
        return self._whole if imgsz == self.job.imgsz else self._validation(imgsz)

    @cached_property
    def _whole(self) -> Validation:
        return self._validation(self.job.imgsz)

    def _validation(self, imgsz: int) -> Validation:
        job = self.job
        return Validation(
            self.model,
            job.data,
            imgsz=imgsz,
            images=job.images,
            device=job.device,
            progress=False,
        )

    @cached_property
    def _dense(self) -> Cost:
        return cost(self.model, self.job.imgsz)

    @cached_property
    def _predicted_dense(self) -> float | None:
        return self._predicted(self.model, self.job.imgsz)

    def _predicted(self, model: nn.Module, imgsz: int) -> float | None:
        """ms by the table; None without one, or where it does not know this model or size."""
        table = self.job.table
        if table is None or table.imgsz != imgsz:
            return None
        graph = channel_graph(model)
        try:
            return 1e3 * LatencyCut(model, graph, table, imgsz).timed.dense
        except InputError:
            return None


def network_of(folder: Path, key: tuple[str, str]) -> Path:
    """The ONNX file of a point, in the folder of a run."""
    family, label = key
    return folder / WORK / f"{family}-{sha256(label.encode()).hexdigest()[:12]}.onnx"


@contextmanager
def no_bars() -> Iterator[None]:
    """In the block no new bar is shown: there is one for the whole work."""
    begin = tqdm.__init__

    def hidden(bar: tqdm, *args: Any, **kwargs: Any) -> None:
        begin(bar, *args, **{**kwargs, "disable": True})

    with replaced(tqdm, __init__=hidden):
        yield
