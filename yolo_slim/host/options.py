"""The options of YOLOv5's training loops, taken from the host and checked before it starts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from yolo_slim.errors import InputError, check_count
from yolo_slim.files import check_writable, read_mapping, shipped
from yolo_slim.host import checkpoint, data
from yolo_slim.host.command_line import SCRIPTS, default_hyp
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.evaluate import check_device
from yolo_slim.host.image import check_rgb
from yolo_slim.host.soundness import check_finite
from yolo_slim.host.sources import declared_options
from yolo_slim.host.tasks import DETECTION, SEGMENTATION, Task, task_of_model, task_of_yaml
from yolo_slim.host.trained_with import check_trained_imgsz
from yolo_slim.host.training_options import check_training
from yolo_slim.text import counted

mend()

from yolov5.utils import general  # noqa: E402

HYP = default_hyp()
BuildModel = Callable[..., nn.Module]
FAILS = {  # in yolov5 7.0.14
    DETECTION: {
        "noval": "its loop looks up map50s, which only a validation sets",
        "evolve": "as with --noval, which evolution turns on",
    },
    SEGMENTATION: {
        "quad": "its loader of masks has no quad collation",
        "evolve": "its plot at the end has room for 30 hyperparameters, not for 31",
    },
}


def drop_foreign_(opt: argparse.Namespace, task: Task) -> None:
    """Take out the options that only the other loop has.

    Raises:
        InputError: one of them was given.
    """
    other = SEGMENTATION if task is DETECTION else DETECTION
    own = declared_options(SCRIPTS[task.name])
    for name, (flags, kwargs) in declared_options(SCRIPTS[other.name]).items():
        if name in own or not hasattr(opt, name):
            continue
        unset = kwargs.get("default", False if kwargs.get("action") == "store_true" else None)
        if getattr(opt, name) != unset:
            raise InputError(flags[0], f"given for a {task.name} model", f"a {other.name} model")
        delattr(opt, name)


def check_common(
    opt: argparse.Namespace, nc: int | None = None, source: nn.Module | None = None
) -> None:
    """Check what the host would stumble over later: data, cfg, hyp, image size, output folder.

    Options that only the other loop has are taken out.

    Args:
        opt: what was parsed; paths in it become absolute.
        nc: number of classes of the model; None: any.
        source: the model of --weights, if it has been loaded.

    Raises:
        InputError: see the message.
    """
    check_training(opt)
    opt.data = str(opt.data)
    if not Path(opt.data).is_file() and (shipped(opt.data)).is_file():
        opt.data = str(shipped(opt.data))
    if Path(opt.data).is_file():  # also where the run goes on from another folder
        opt.data = str(Path(opt.data).absolute())
    sets = data.check_data(opt.data, nc, ("train", "val"))
    for name in ("cfg", "hyp"):
        value = str(getattr(opt, name))
        if value:
            setattr(opt, name, find_yaml(f"--{name}", value))
    if opt.weights:
        opt.weights = str(Path(opt.weights).absolute())
    task = task_of(opt, source)
    drop_foreign_(opt, task)
    for name, reason in FAILS[task].items():
        if getattr(opt, name):
            raise InputError(f"--{name}", "given", f"no --{name}: yolov5 7.0.14 fails, {reason}")
    check_device(str(opt.device))
    check_batch(opt, len(data.images(sets, "train")))
    if task is SEGMENTATION:
        check_count("--mask-ratio", opt.mask_ratio)
    check_writable(opt.project)
    data.check_labels(
        sets,
        ("train", "val"),
        single_cls=opt.single_cls,
        outlines=task is SEGMENTATION,
        needed=("train",),
    )


def load_weights_(opt: argparse.Namespace) -> checkpoint.Checkpoint:
    """The checkpoint of --weights.

    A --cfg that bare weights were opened with is used up: the training takes the yaml and the
    anchors of the model, as with any checkpoint. The option is emptied.

    Raises:
        InputError: see `checkpoint.load`; also a name that YOLOv5's training does not take, and NaN
            in the model beside the EMA, which is what a training goes on from.
    """
    source = checkpoint.load(opt.weights)
    if Path(opt.weights).suffix != ".pt":
        got = f"a name that ends in {Path(opt.weights).suffix or 'no suffix'}"
        raise InputError(f"--weights {opt.weights}", got, "one in .pt: YOLOv5 trains no other")
    if source.epoch >= 0:  # the file may have both
        check_finite(checkpoint.read(opt.weights)["model"].float(), opt.weights)
    if source.cfg is not None:
        opt.cfg = ""
    return source


def check_batch(opt: argparse.Namespace, images: int) -> None:
    """See that the host can share its batches, and fill them.

    Args:
        opt: what was parsed.
        images: of the training split.

    Raises:
        InputError: it fails on the last batch of the first epoch, or on the GPUs.
    """
    devices = str(opt.device).count(",") + 1
    if devices > 1 and opt.batch_size > 0 and opt.batch_size % devices:
        expected = f"a multiple of {devices}, the GPUs of --device"
        raise InputError("--batch-size", opt.batch_size, expected)
    last = images % min(opt.batch_size, images) if opt.quad else 0
    if 0 < last < 4 or (opt.quad and images < 4):
        got = f"given, and the last batch of {counted(images, 'image')} has {last or images}"
        raise InputError("--quad", got, "another --batch-size: YOLOv5 makes one image of four")


def is_frozen(parameter: str, layers: Sequence[int]) -> bool:
    """Whether --freeze holds a parameter: one number the layers before it, several just these."""
    chosen = layers if len(layers) > 1 else range(layers[0])
    return any(parameter.startswith(f"model.{i}.") for i in chosen)


def check_fits(opt: argparse.Namespace, model: nn.Module, *, keeps_head: bool = False) -> None:
    """What only the model that is trained can tell of the options.

    Args:
        opt: of `check_common`.
        model: of --cfg, or of --weights.
        keeps_head: its shapes have to stay as they are.

    Raises:
        InputError: the host would train at another image size, with another head, or nothing.
    """
    if all(is_frozen(name, opt.freeze) for name, _ in model.named_parameters()):
        got = f"{' '.join(map(str, opt.freeze))}, which leaves no layer to train"
        raise InputError("--freeze", got, f"fewer than all {counted(len(model.model), 'layer')}")
    check_rgb(model, opt.weights or opt.cfg)
    check_trained_imgsz(opt.imgsz, model)
    anchors = read_mapping(opt.hyp, "hyperparameters").get("anchors")
    head = model.model[-1]
    if keeps_head and anchors and round(anchors) != head.na:
        where = f"--hyp {opt.hyp}, anchors"
        raise InputError(where, anchors, f"{head.na}, as the model that was cut has, or no entry")


def check_cfg(path: str, build: BuildModel) -> nn.Module:
    """Build a model yaml once, silently: what is wrong with it is then known at the start.

    Raises:
        InputError: it is no model yaml, or its layers do not fit together.
    """
    if not Path(path).is_file():
        raise InputError(f"--cfg {path}", "no such file", "a model yaml")
    with replaced(general.LOGGER, disabled=True), torch.random.fork_rng(devices=[]):
        try:
            return build(path)
        except InputError:
            raise
        except Exception as error:  # whatever a layer makes of its arguments
            text = f"cannot be built ({type(error).__name__}: {str(error)[:120]})"
            raise InputError(f"--cfg {path}", text, "layers that fit together") from error


def task_of(opt: argparse.Namespace, source: nn.Module | None = None) -> Task:
    """What is to be trained: of --resume, else of --cfg, else of --weights.

    Args:
        opt: what was parsed.
        source: the model of --weights, if it has been loaded.

    Raises:
        InputError: neither is given, or the file cannot be read.
    """
    if opt.resume:
        return task_of_model(checkpoint.load(opt.resume).model)
    if opt.cfg:
        return task_of_yaml(read_mapping(find_yaml("--cfg", opt.cfg), "a model yaml"))
    if opt.weights:
        return task_of_model(checkpoint.load(opt.weights).model if source is None else source)
    raise InputError("--weights", "not given, nor is --cfg", "one of the two")


def find_yaml(option: str, value: str | Path) -> str:
    """A yaml by its path, or by its name among those that ship with the host.

    Raises:
        InputError: there is none, or there are several.
    """
    try:
        return str(general.check_yaml(str(value)))
    except AssertionError as error:
        raise InputError(option, value, "a yaml file") from error
