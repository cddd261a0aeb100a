"""Data sets: a YOLOv5 data yaml, found, resolved and checked before anything starts."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.data_yaml import (
    SPLITS,
    check_places,
    find_data,
    read_data_yaml,
    resolved,
    tell,
)
from yolo_slim.host.images import images, listed
from yolo_slim.host.label_checks import check_labels, labelled
from yolo_slim.text import counted

mend()

from yolov5.utils import general  # noqa: E402

__all__ = [
    "check_data",
    "check_labels",
    "check_nc",
    "check_val",
    "images",
    "labelled",
    "listed",
    "read_data",
]


def read_data(path: str | Path | dict, download: bool = True, nc: int | None = None) -> dict:
    """The host's check_dataset, with paths read as `data_yaml.resolved` does.

    Args:
        path: a data yaml, or what this function returned.
        download: run the yaml's `download:` entry where images are missing.
        nc: number of classes that are needed, which is compared before; None: any.

    Returns:
        The host's data dict with absolute `train`, `val` and `test`, names as a dict, and nc.

    Raises:
        InputError: no such file, not a data yaml, another number of classes, or images missing
            with no `download:` entry.
    """
    if isinstance(path, dict):
        check_nc(path, nc, "data")
        return check_dataset(path, "data", download)
    file = find_data(path)
    data = resolved(read_data_yaml(file), file)
    check_nc(data, nc, path)
    script = data.get("download") if download else None
    if not script:
        check_places(data, file, ("val",))
    data = check_dataset(data, file, download)
    if script:
        check_places(data, file, ("val",))
    return data


def check_dataset(data: dict[str, Any], where: str | Path, download: bool) -> dict[str, Any]:
    """The host's check_dataset.

    Raises:
        InputError: the host asks for more, or the `download:` entry failed.
    """
    ours = "yolo_slim.shapes" in str(data.get("download"))  # it is drawn, not downloaded
    try:
        with replaced(general.LOGGER, disabled=ours or general.LOGGER.disabled):
            return general.check_dataset(data, download)
    except Exception as error:  # the host asserts, and a download entry may do anything
        text = plain(str(error)) or type(error).__name__
        raise InputError(
            where, f"cannot be used ({text})", f"images at {data.get('path')}"
        ) from error


def plain(text: str) -> str:
    """A message of the host's without colours and signs."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return " ".join(text.encode("ascii", "ignore").decode().split())


def check_nc(data: dict[str, Any], nc: int | None, where: str | Path) -> None:
    """See that a data set has the classes that are needed.

    Raises:
        InputError: it has another number; None: any will do.
    """
    if nc is not None and nc != data["nc"]:
        raise InputError(where, counted(data["nc"], "class"), f"the {nc} of the model")


def check_data(path: str | Path, nc: int | None = None, splits: tuple[str, ...] = ("val",)) -> dict:
    """`read_data`, and the images are there, and the classes are those of the model.

    Args:
        path: a data yaml.
        nc: number of classes of the model; None: any.
        splits: which of train, val and test must have images.

    Raises:
        InputError: see `read_data`; a split that is not there, or without images; another number
            of classes.
    """
    data = read_data(path, nc=nc)
    check_places(data, Path(path), splits)
    for split in splits:
        files = listed(data, split)
        missing = [file for file in files if not Path(file).is_file()]
        if not files:
            raise InputError(path, f"{split}: no images in {data.get(split)}", "at least one image")
        if len(missing) == len(files):
            got = f"{split}: none of {counted(len(files), 'image')} is there, such as {missing[0]}"
            expected = "lines from where you stand, or with ./ from the folder of the text file"
            raise InputError(path, got, expected)
        if missing:
            tell(f"{split}: {counted(len(missing), 'image')} not there, such as {missing[0]}")
    return data


def check_val(opt: argparse.Namespace, nc: int | None, *, outlines: bool) -> None:
    """What val.py validates on is there, and its labels fit the model.

    Args:
        opt: the options of the host's val.py.
        nc: number of classes of the model; None: not known.
        outlines: the model is for segmentation.

    Raises:
        InputError: see `check_data` and `check_labels`.
    """
    split = opt.task if opt.task in SPLITS else "val"  # speed and study take val, as the host
    sets = check_data(opt.data, None if opt.single_cls else nc, (split,))
    check_labels(sets, (split,), single_cls=opt.single_cls, outlines=outlines)
