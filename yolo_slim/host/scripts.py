"""YOLOv5's own scripts, run as they are: val and detect, those for segmentation too."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import torch

from yolo_slim.as_called import named
from yolo_slim.errors import InputError, check_imgsz
from yolo_slim.files import shipped
from yolo_slim.host import checkpoint, data
from yolo_slim.host.assertions import in_our_words, is_hosts
from yolo_slim.host.backend import loadable
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.drawn import pictures_written
from yolo_slim.host.evaluate import check_device
from yolo_slim.host.exported import Exported, read_exported
from yolo_slim.host.image import check_rgb
from yolo_slim.host.quiet_log import quiet
from yolo_slim.host.running import layers_named
from yolo_slim.host.script_options import add_ours, has_display, parsed, trim_
from yolo_slim.host.sightings import ReadableImages, check_loadable
from yolo_slim.host.tasks import DETECTION, SEGMENTATION, Task, task_of_model
from yolo_slim.host.trained_with import all_as_one, classes_of, stride_of
from yolo_slim.text import indices

mend()

PROJECTS = {"val": "runs/val-seg", "detect": "runs/predict-seg"}  # the host's are in its package


def run_host(name: str, argv: Sequence[str] | None = None) -> None:
    """Run yolov5.val or yolov5.detect with its own command line; for a segmentation model
    yolov5.segment.val or yolov5.segment.predict.

    Args:
        name: val or detect.
        argv: the options, None for sys.argv.

    Raises:
        InputError: weights or data cannot be used, or the host refused its options.
    """
    from yolo_slim.parsing import OneLineParser

    options = list(sys.argv[1:] if argv is None else argv)
    first = parsed(name, options)
    exported = {file: read_exported(file) for file in first.weights if not file.endswith(".pt")}
    task, masks = kind(first.weights, exported)
    host, made = task.script(name), list[Path]()

    class Parser(OneLineParser):
        def parse_args(self, *args: object, **kwargs: object) -> argparse.Namespace:  # type: ignore[override]
            self.prog = named(name)
            if task is SEGMENTATION:
                self.set_defaults(project=PROJECTS[name])
            sizes = size_of(exported.get(first.weights[0]), name)
            if sizes:
                self.set_defaults(imgsz=sizes)
            add_ours(self, name)
            opt = super().parse_args(options)
            del opt.modules, opt.cfg  # the host takes its own options as arguments
            opt.__dict__.pop("square", None)
            trim_(opt)
            check_device(opt.device)
            if opt.half and (opt.device == "cpu" or not torch.cuda.is_available()):
                raise InputError("--half", "given", "a GPU: a CPU computes in float32")
            for file in opt.weights:
                check_sizes(opt, file, exported.get(file))
            if name == "val":
                if exported:  # what is forked beside threads of a runtime may stand still
                    opt.workers = 0
                settle_data_(opt, first.data, task, exported.get(opt.weights[0]))
            else:
                check_classes(opt, opt.weights[0], exported.get(opt.weights[0]))
                opt.data = names_of(opt.data, first.data, exported.get(opt.weights[0]))
                check_loadable(str(opt.source))
            opt.weights = [str(place(file, exported.get(file))) for file in opt.weights]
            return opt

    def increment_path(*args: Any, **kwargs: Any) -> Path:
        path = Path(increment(*args, **kwargs))
        made.extend(folder for folder in (path, *path.parents) if not folder.exists())
        return path

    silence_opencv()
    increment = host.increment_path
    swapped: dict[str, Any] = {"argparse": SimpleNamespace(ArgumentParser=Parser)}
    swapped["increment_path"] = increment_path
    if name == "detect":
        shows = host.check_imshow
        swapped["LoadImages"] = ReadableImages
        swapped["check_imshow"] = lambda warn=False: has_display() and shows(warn=warn)
    if hasattr(host, "check_dataset"):
        swapped["check_dataset"] = data.read_data
    if getattr(first, "square", False):
        load = host.create_dataloader
        swapped["create_dataloader"] = lambda *a, **kw: load(*a, **{**kw, "rect": False})
    if task is SEGMENTATION:  # the host takes 32 masks for granted
        suppress = host.non_max_suppression
        swapped["non_max_suppression"] = lambda *a, **kw: suppress(*a, **{**kw, "nm": masks})
    with (
        layers_named(first.weights[0]),
        checkpoint.safe_loading(),
        quiet(host.LOGGER, Path),
        loadable(first.weights[0]) as loader,
        pictures_written(made),
        replaced(host, check_requirements=lambda *args, **kwargs: None, **swapped, **loader),
    ):
        try:
            if task is SEGMENTATION:
                host.main(host.parse_opt())
            else:
                host.main()
        except BaseException as error:
            remove_empty(made)
            if isinstance(error, ModuleNotFoundError):
                where = named(name)
                raise InputError(where, f"needs {error.name}", "that package installed") from error
            if isinstance(error, URLError):
                where = f"--source {getattr(first, 'source', '')}"
                got = f"cannot be downloaded ({error.reason})"
                raise InputError(where, got, "a file that is here") from error
            if is_hosts(error):
                raise in_our_words(error, name) from error
            raise


def silence_opencv() -> None:
    """OpenCV writes its own warnings about cameras and videos; what it cannot open is told here."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove the folders of a run, and those around it, in which nothing was written."""
    for folder in folders:
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder)


def settle_data_(
    opt: argparse.Namespace, given: str | None, task: Task, exported: Exported | None = None
) -> None:
    """The data that a model is validated on: as given, or what it was trained on.

    Args:
        opt: of val; `data`, and `single_cls` for a model that was trained so, are set.
        given: --data, if it was given.
        task: of the model.
        exported: the file, if it is no checkpoint.

    Raises:
        InputError: it is not there, has no such split, or other classes than the model.
    """
    is_checkpoint = opt.weights[0].endswith(".pt")
    source = checkpoint.load(opt.weights[0]) if is_checkpoint else None
    known = source.train.get("data") if source else None
    if given is None and not (known and Path(str(known)).is_file()):
        why = f", and {known}, which it was trained on, is not here" if known else ""
        raise InputError("--data", f"not given{why}", "a data yaml")
    opt.data = ours_or(str(given or known))
    if source and all_as_one(source.train, source.model):
        opt.single_cls = True
    classes = classes_of(source) if source else exported.classes if exported else None
    data.check_val(opt, classes, outlines=task is SEGMENTATION)


def names_of(default: str, given: str | None, exported: Exported | None) -> str | None:
    """The data yaml that detect takes names from, for a file that has none.

    The default is COCO's, whose names would be wrong: without one YOLOv5 says class0, class1, ...
    """
    if exported and not exported.named and given is None:
        return None
    return ours_or(default)


def ours_or(file: str) -> str:
    """A data yaml of yolo-slim's own by its path, any other as it was given."""
    return str(shipped(file) if shipped(file).is_file() else file)


def place(file: str, exported: Exported | None) -> Path:
    """Where YOLOv5's loader finds a file: for an .xml its folder."""
    return (exported.path if exported else Path(file)).absolute()


def size_of(exported: Exported | None, name: str) -> int | list[int] | None:
    """What --imgsz is where it is not given: the size that a file was exported for."""
    if exported is None or exported.imgsz is None:
        return None
    return list(exported.imgsz) if name == "detect" else exported.imgsz[0]


def check_sizes(opt: argparse.Namespace, file: str, exported: Exported | None) -> None:
    """See that a file of weights takes the images that it will be given.

    Raises:
        InputError: their size is no multiple of the model's stride, or not that of the export.
    """
    sides = opt.imgsz if isinstance(opt.imgsz, list) else [opt.imgsz]
    if file.endswith(".pt"):
        model = checkpoint.load(file).model
        check_rgb(model, file)
        for side in sides:
            check_imgsz(side, stride_of(model))
        return
    fixed = exported.imgsz if exported else None
    if fixed and isinstance(opt.imgsz, int) and fixed[0] != fixed[1]:
        got = f"exported for images of {fixed[0]} x {fixed[1]} px (height x width)"
        raise InputError(file, got, "one for square images: val gives no others")
    if fixed and list(fixed) != [sides[0], sides[-1]]:
        got, wanted = (" ".join(map(str, dict.fromkeys(pair))) for pair in (sides, fixed))
        raise InputError("--imgsz", got, f"{wanted}, as {Path(file).name} was exported")
    if exported and (exported.batch or 1) > 1:
        expected = "an export with --batch-size 1, or with --dynamic"
        raise InputError(file, f"exported for batches of {exported.batch}", expected)


def check_classes(opt: argparse.Namespace, file: str, exported: Exported | None) -> None:
    """See that a model has the classes that detect is to show: of others it would show nothing.

    Raises:
        InputError: it has not.
    """
    nc = exported.classes if exported else None
    if opt.classes and file.endswith(".pt"):
        nc = int(checkpoint.load(file).model.model[-1].nc)
    wrong = [index for index in opt.classes or () if index >= (nc or index + 1)]
    if nc and wrong:
        got = " ".join(map(str, wrong))
        raise InputError("--classes", got, f"{indices(nc)}, the classes of {Path(file).name}")


def kind(weights: Sequence[str], exported: Mapping[str, Exported | None]) -> tuple[Task, int]:
    """What the first of the files is for, and its number of masks, 0 for detection."""
    if weights[0].endswith(".pt"):
        model = checkpoint.load(weights[0]).model
        task = task_of_model(model)
        return task, (model.model[-1].nm if task is SEGMENTATION else 0)
    file = exported.get(weights[0])
    return (SEGMENTATION, file.masks) if file and file.masks else (DETECTION, 0)
