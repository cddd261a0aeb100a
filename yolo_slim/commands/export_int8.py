"""export --int8: files in 8 bits beside the float ones, held to a drop of mAP."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.deploy.formats import FORMATS, Content, Format, length
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import InputError
from yolo_slim.files import size_of
from yolo_slim.text import counted, say, table

if TYPE_CHECKING:
    from yolo_slim.deploy.int8.choose import Judge
    from yolo_slim.deploy.int8.methods import Maker, OnnxMaker
    from yolo_slim.deploy.int8.quantise import Int8
    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.host.evaluate import Accuracy

SUFFIX = "-int8"  # of the name of the checkpoint


def data_of(source: Checkpoint, given: str | None) -> dict[str, Any]:
    """The data to calibrate and to validate on, looked at before anything is exported.

    Raises:
        InputError: there is none, or it does not fit; too few images to calibrate on; no labels to
            validate on.
    """
    from yolo_slim.host.data import check_data, check_labels
    from yolo_slim.host.tasks import SEGMENTATION, task_of_model
    from yolo_slim.host.trained_with import all_as_one, classes_of

    known = source.train.get("data")
    if not given and not (known and Path(str(known)).is_file()):
        why = f", and {known}, which the model was trained on, is not here" if known else ""
        raise InputError(
            "--int8", f"no --data{why}", "--data mydata.yaml, to calibrate and to validate on"
        )
    data = check_data(str(given or known), classes_of(source), ("train", "val"))
    check_labels(
        data,
        ("val",),
        single_cls=all_as_one(source.train, source.model),
        outlines=task_of_model(source.model) is SEGMENTATION,
        needed=("val",),
    )
    return data


@dataclass
class Quantisation:
    """What all formats in 8 bits share.

    Attributes:
        source: the checkpoint.
        data: see `data_of`.
        options, opt: of the export.
        aside: a folder for files that are tried; None before there is one.
    """

    source: Checkpoint
    data: dict[str, Any]
    options: ExportOptions
    opt: argparse.Namespace
    aside: Path | None = None

    def run(self, row: Format, content: Content) -> Any:
        """A function that runs a file's content."""
        assert self.aside is not None
        file = row.put(self.aside, f"tried{next(_NUMBERS)}", content)
        run = row.open(file, self.opt.threads, exact=True)
        with suppress(OSError):  # where an open file cannot go, it goes with the folder
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        return run

    def of(self, row: Format) -> Int8:
        """The file of a format in 8 bits.

        Raises:
            CheckFailed: see `quantised`.
        """
        from yolo_slim.deploy.int8.quantise import quantised

        content = row.write(self.source.model, replace(row.own(self.options), nms=None))
        run = self.run(row, content)

        def accuracy(made: Content) -> Accuracy:
            return self._accuracy(self.run(row, made), f"validating {row.name} in 8 bits")

        made = quantised(
            self.maker(row),
            self.judge(row, run),
            accuracy,
            self._accuracy(run, f"validating {row.name} in float"),
            lambda: list(self.layer_costs),
            self.opt.max_drop,
            row.name,
        )
        nms = row.own(self.options).nms
        if nms is None or not isinstance(made.content, bytes):
            return made
        from yolo_slim.deploy.nms import with_nms

        return replace(made, content=with_nms(made.content, self.source.model, nms))

    def maker(self, row: Format) -> Maker:
        """What makes files of a format."""
        if row.name == "onnx":
            return self._onnx_maker
        from yolo_slim.deploy.export import metadata
        from yolo_slim.deploy.int8.nncf import nncf_maker

        about = metadata(self.source.model)
        return nncf_maker(self._onnx, self._images[0], about, row.own(self.options))

    def judge(self, row: Format, run: Any) -> Judge:
        """The float file on images that were not calibrated on."""
        from yolo_slim.deploy.int8.choose import judge

        classes = self.source.model.model[-1].nc
        return judge(run, self._images[1], classes, lambda made: self.run(row, made))

    @cached_property
    def layer_costs(self) -> dict[str, float]:
        """What each layer costs alone in 8 bits, in ONNX Runtime, the dearest first."""
        from yolo_slim.deploy.int8.choose import layer_costs

        row = FORMATS["onnx"]
        return layer_costs(self._onnx_maker, "mean", self.judge(row, self.run(row, self._onnx)))

    @cached_property
    def _onnx(self) -> bytes:
        content = FORMATS["onnx"].write(self.source.model, replace(self.options, nms=None))
        assert isinstance(content, bytes)
        return content

    @cached_property
    def _onnx_maker(self) -> OnnxMaker:
        from yolo_slim.deploy.int8.cpu import this_cpu
        from yolo_slim.deploy.int8.methods import onnx_maker

        narrow = this_cpu().overflows
        return onnx_maker(self._onnx, self._images[0], narrow=narrow, threads=self.opt.threads)

    @cached_property
    def _images(self) -> Any:
        from yolo_slim.deploy.int8.images import training_images

        options = self.options
        number = self.opt.calibration_images
        return training_images(self.data, number, options.imgsz, options.batch)

    @cached_property
    def _accuracy(self) -> Any:
        from yolo_slim.host.file_accuracy import FileAccuracy

        options = self.options
        model, side = self.source.model, options.imgsz[0]
        return FileAccuracy(model, self.data, imgsz=side, batch=options.batch)

    @property
    def images(self) -> int:
        """The number of images that are calibrated on.

        Raises:
            InputError: there are too few.
        """
        return len(self._images[0].files)


def begun(source: Checkpoint, options: ExportOptions, opt: argparse.Namespace) -> Quantisation:
    """What files in 8 bits are made of, looked at before anything is exported.

    Raises:
        InputError: see `data_of`.
    """
    shared = Quantisation(source, data_of(source, opt.data), options, opt)
    assert shared.images
    return shared


_NUMBERS = count()  # of files that are tried: each has a name of its own


def tell(
    made: Mapping[Format, Int8],
    files: Mapping[Format, Path],
    shared: Quantisation,
) -> None:
    """Print the methods of calibration, the files, and the layers that went back to float."""
    rows = [
        [row.runtime, method, *(f"{x:.4f}" for x in (m.cost, m.scores, m.boxes))]
        for row, int8 in made.items()
        for method, m in int8.methods.items()
    ]
    title = f"What calibration costs in 8 bits, on {counted(shared.images, 'image')}; shares of "
    title += "the float model's scores"
    print(table(["", "method", "cost", "scores", "boxes"], rows, title))
    for row, int8 in made.items():
        say(f"{files[row]}: {int8}.")
        if int8.float_layers:
            costs = shared.layer_costs
            rows = [[name, f"{costs[name]:.4f}"] for name in int8.float_layers]
            print(table(["layer in float", "cost alone in 8 bits"], rows))


def report_of(
    made: Mapping[Format, Int8], files: Mapping[Format, Path], shared: Quantisation
) -> dict[str, Any]:
    """What report.json says of the files in 8 bits."""
    rows = {}
    for row, int8 in made.items():
        costs = {name: shared.layer_costs[name] for name in int8.float_layers}
        rows[row.name] = {
            "file": str(files[row]),
            "bytes": length(int8.content),
            "method": int8.method,
            "methods": {name: asdict(m) | {"cost": m.cost} for name, m in int8.methods.items()},
            "float": asdict(int8.before),
            "int8": asdict(int8.after),
            "layers": int8.layers,
            "float_layers": costs,
            "attempts": [asdict(attempt) for attempt in int8.attempts],
        }
    return {"images": shared.images, "max_drop": shared.opt.max_drop, "files": rows}


def tell_pays(
    times: Mapping[Format, Any], files: Mapping[Format, Path], small: Mapping[Format, Path]
) -> None:
    """Say whether 8 bits pay on this machine."""
    from yolo_slim.deploy.int8.cpu import this_cpu, verdict
    from yolo_slim.measure.latency import warning_of

    for row, file in small.items():
        if row in times:
            ratio = times[row]["int8"].median / times[row]["exported"].median
            size = size_of(file) / size_of(files[row])
            rough = bool(warning_of(times[row]))
            say(verdict(ratio, size, row.runtime, this_cpu(), rough))
