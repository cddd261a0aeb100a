"""Calibration images for a YOLOv5 model: the host's loader, its letterbox and its loss."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Batch, Calibration
from yolo_slim.errors import InputError, as_arguments, check_count, check_imgsz, check_seed
from yolo_slim.files import read_mapping
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.data import check_labels, read_data
from yolo_slim.host.data import images as image_files
from yolo_slim.host.data_yaml import SPLITS, tell
from yolo_slim.host.evaluate import is_single
from yolo_slim.host.image import check_model, is_detector
from yolo_slim.host.loading import verify_image_label
from yolo_slim.host.options import HYP
from yolo_slim.host.outputs import apart
from yolo_slim.host.tasks import SEGMENTATION, task_of_model
from yolo_slim.text import counted

mend()

from yolov5.utils import general  # noqa: E402
from yolov5.utils.dataloaders import img2label_paths  # noqa: E402

OF_THE_LOSS = ("box", "cls", "obj", "cls_pw", "obj_pw", "fl_gamma", "anchor_t")
MASK_RATIO = 4  # of segment/train.py: px of the image to a px of a mask


@as_arguments()
def calibrate(
    data: str | Path | dict[str, Any],
    model: nn.Module,
    *,
    imgsz: int,
    images: int = 64,
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    split: str = "train",
    labels: bool = True,
) -> Calibration:
    """Load some images of a data set, letterboxed to squares and not augmented, and their labels.

    The host reads the labels of these images alone, and its label cache goes to a temporary folder.

    Args:
        data: a data yaml, or what `read_data` made of it.
        model: gives stride, task and the hyperparameters of the loss; left untouched.
        imgsz: side of the images, px.
        images: how many, chosen at random; all where there are fewer. Others stand in for those
            that cannot be read.
        batch_size: images of a batch; the last may have fewer.
        workers: processes that load.
        seed: of the choice and of the order.
        split: train, val or test.
        labels: False: nobody will look at them; they may be of other classes than the model's, or
            missing.

    Returns:
        Images (n, 3, imgsz, imgsz), float32 in [0, 1]; targets and loss as in the host's training,
        but for the state of BatchNorm, which the caller decides. No loss without labels. To a model
        of one class all labels are that class, as after --single-cls.

    Raises:
        InputError: an argument is out of range; no images, or none that can be read; no labels at
            all, labels of other classes than the model's, or boxes for a segmentation model.

    Example:
        >>> import yaml
        >>> from yolo_slim import calibrate
        >>> from yolo_slim.shapes import NAMES, make_shapes
        >>> folder = make_shapes("shapes", train=6, val=1, size=64)
        >>> sets = {"path": str(folder), "train": "images/train", "val": "images/val"}
        >>> _ = open("shapes.yaml", "w").write(yaml.safe_dump({**sets, "names": list(NAMES)}))
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> images = calibrate("shapes.yaml", model, imgsz=64, images=4, labels=False)
        >>> images.images, images.batches[0][0].shape
        (4, torch.Size([4, 3, 64, 64]))
    """
    check_model(model)
    if not is_detector(model):
        raise InputError("model", f"a {type(model).__name__}", "a YOLOv5 detector")
    images = check_count("calibration, images", images)
    batch_size = check_count("calibration, batch_size", batch_size)
    workers = check_count("calibration, workers", workers, 0)
    seed = check_seed("calibration, seed", seed)
    imgsz = check_imgsz(imgsz, max(int(model.stride.max()), 32))
    if split not in SPLITS:
        raise InputError("split", f"{split!r:.80}", f"one of {', '.join(SPLITS)}")
    if not isinstance(data, str | os.PathLike | dict):
        raise InputError("data", f"{data!r:.80}", "the path of a data yaml, or what it holds")
    if not isinstance(data, dict) or "nc" not in data:
        data = read_data(data)
    files = image_files(data, split)
    where = f"{split}: {data.get(split)}"
    nc, single = model.model[-1].nc, is_single(model, data)
    if labels and data["nc"] != nc and not single:
        raise InputError(where, counted(data["nc"], "class"), f"the {nc} of the model")
    if not files:
        raise InputError(where, "no images", "at least one image")
    chosen = _readable(files, images, seed, where)
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "calibration.txt"
        listed.write_text("\n".join(map(str, chosen)), encoding="utf-8")
        outlines = task_of_model(model) is SEGMENTATION  # the loader makes masks of them
        sets = {**data, split: str(listed)}
        check_labels(sets, (split,), single_cls=single, outlines=outlines)
        batches, readable = _load(
            listed,
            model,
            where,
            labels,
            single=single,
            imgsz=imgsz,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
        )
    source = f"{readable} of {counted(len(files), 'image')} of {where}"
    loss = training_loss(model, imgsz) if labels else None
    return Calibration(batches, loss, source, compare=partial(apart, nc=nc))


def _readable(files: list[Path], count: int, seed: int, where: str) -> list[Path]:
    """Some images that the host can read with their labels, at random, in their own order.

    Raises:
        InputError: there is none.
    """
    readable: list[int] = []
    unreadable: list[str] = []
    labels = img2label_paths([str(file) for file in files])
    with replaced(general.LOGGER, disabled=True):
        for index in np.random.default_rng(seed).permutation(len(files)):
            file, *_, message = verify_image_label((str(files[index]), labels[index], ""))
            if file is None:
                unreadable.append(" ".join(message.split())[-160:])
                continue
            readable.append(index)
            if len(readable) == count:
                break
    if not readable:
        raise InputError(where, f"cannot be read ({unreadable[0]})", "images with labels")
    if unreadable:
        more = f" and {len(unreadable) - 1} more" * (len(unreadable) > 1)
        tell(f"calibration: left out {unreadable[0]}{more}")
    return [files[index] for index in sorted(readable)]


def _load(
    listed: Path,
    model: nn.Module,
    where: str,
    labels: bool,
    *,
    single: bool,
    imgsz: int,
    **loading: int,
) -> tuple[tuple[Batch, ...], int]:
    """Batches of images by the host's loader, and how many images it could read.

    Args:
        listed: a text file with the images' paths.
        model, labels, imgsz: see `calibrate`.
        where: what images they are, for messages.
        single: all labels are one class.
        loading: batch_size, workers and seed, see `calibrate`.

    Raises:
        InputError: no image can be read, or there are no labels.
    """
    task = task_of_model(model)
    masks = {"mask_downsample_ratio": MASK_RATIO, "overlap_mask": True}
    try:
        with replaced(general.LOGGER, disabled=True):  # it announces the cache
            loader, dataset = task.script("train").create_dataloader(
                str(listed),
                imgsz,
                stride=int(model.stride.max()),
                shuffle=True,
                prefix="calibration: ",
                single_cls=single,
                **loading,
                **(masks if task is SEGMENTATION else {}),
            )
        if labels and not any(map(len, dataset.labels)):
            raise InputError(where, f"no labels of {counted(len(dataset), 'image')}", "some labels")
        batches = tuple(map(_batch, tqdm(loader, desc="calibration images", unit="batch")))
    except InputError:
        raise
    except Exception as error:  # the host raises any where images cannot be read
        text = " ".join(str(error).split())[:160]
        raise InputError(where, f"cannot be read ({text})", "images with labels") from error
    return batches, len(dataset)


def _batch(loaded: tuple[Any, ...]) -> Batch:
    """Of what the host's loader gives: uint8 images, labels, paths, shapes, masks if any."""
    images, labels, _, _, *masks = loaded
    return images.float() / 255, (labels, *masks)


def training_loss(model: nn.Module, imgsz: int) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """The host's training loss for models like this one.

    Args:
        model: the hyperparameters are its own where it has all that the loss asks for, else the
            host's defaults, scaled as its training scales them.
        imgsz: side of the images, px.

    Returns:
        (model, batch) to a scalar. The model may be another with the same head.
    """
    hyp, script = loss_hyp(model, imgsz), task_of_model(model).script("train")
    settings = {"overlap": True} if task_of_model(model) is SEGMENTATION else {}

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        images, (labels, *masks) = batch
        device = next(model.parameters()).device
        view = SimpleNamespace(hyp=hyp, model=model.model, parameters=model.parameters)
        with raw_outputs(model):
            outputs = model(images.to(device))
        parts = [mask.to(device).float() for mask in masks]
        return script.ComputeLoss(view, **settings)(outputs, labels.to(device), *parts)[0].sum()

    return loss


def loss_hyp(model: nn.Module, imgsz: int) -> dict[str, Any]:
    """The hyperparameters of the loss; see `training_loss`."""
    own = getattr(model, "hyp", None)
    if isinstance(own, Mapping) and all(isinstance(own.get(k), int | float) for k in OF_THE_LOSS):
        return dict(own)
    hyp, head = read_mapping(HYP, "hyperparameters"), model.model[-1]
    hyp["box"] *= 3 / head.nl
    hyp["cls"] *= head.nc / 80 * 3 / head.nl
    hyp["obj"] *= (imgsz / 640) ** 2 * 3 / head.nl
    return hyp


@contextmanager
def raw_outputs(model: Any) -> Iterator[None]:
    """The head gives what the loss takes, and makes no grids; BatchNorms stay in their modes."""
    head = model.model[-1]
    mode = head.training
    try:
        head.training = True
        yield
    finally:
        head.training = mode
