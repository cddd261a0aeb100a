"""Data sets: a YOLOv5 data yaml, found, resolved and checked before anything starts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.host.compat import mend
from yolo_slim.host.data_yaml import (
    SPLITS,
    check_places,
    find_data,
    read_data_yaml,
    resolved,
    tell,
)
from yolo_slim.host.images import images, label_files, listed
from yolo_slim.host.labels import (
    BOXES,
    EMPTY,
    MISSING,
    MIXED,
    OUTLINES,
    UNREADABLE,
    Fault,
    Label,
    faults,
    read_labels,
)
from yolo_slim.host.loading import verify_image_label

mend()

from yolov5.utils import general  # noqa: E402

__all__ = ["check_data", "check_labels", "check_nc", "images", "labelled", "listed", "read_data"]

EXAMPLES = 3  # of what is wrong, in a line


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
        return general.check_dataset(path, download)
    file = find_data(path)
    data = resolved(read_data_yaml(file), file)
    check_nc(data, nc, path)
    script = data.get("download") if download else None
    if not script:
        check_places(data, file, ("val",))
    try:
        data = general.check_dataset(data, download)
    except Exception as error:  # the host asserts, and a download entry may do anything
        text = str(error) or type(error).__name__
        raise InputError(
            file, f"cannot be used ({text})", f"images at {data.get('path')}"
        ) from error
    if script:
        check_places(data, file, ("val",))
    return data


def check_nc(data: dict[str, Any], nc: int | None, where: str | Path) -> None:
    """See that a data set has the classes that are needed.

    Raises:
        InputError: it has another number; None: any will do.
    """
    if nc is not None and nc != data["nc"]:
        raise InputError(where, f"{data['nc']} classes", f"the {nc} of the model")


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
        if not images(data, split):
            raise InputError(path, f"{split}: no images in {data.get(split)}", "at least one image")
    return data


def check_labels(
    data: dict[str, Any],
    splits: tuple[str, ...],
    *,
    single_cls: bool = False,
    outlines: bool = False,
    needed: tuple[str, ...] = (),
) -> None:
    """Judge all label files of some splits, see `labels`: nothing of them may end a run later.

    What the host drops with a warning is told in a line.

    Args:
        data: from `read_data`.
        splits: of train, val and test.
        single_cls: all classes are one to the host, whatever their numbers.
        outlines: the model is for segmentation, and the loader makes masks of outlines.
        needed: of the splits, those in which some image must have a label and be readable.

    Raises:
        InputError: a class that the data yaml has no name for; a box in place of an outline; no
            labelled image in a split that needs some, or none that can be read.
    """
    for split in splits:
        files = label_files(data, split)
        labels = read_labels(files, kept_at(data, split, files))
        pairs = list(zip(files, labels, strict=True))
        check_classes(pairs, None if single_cls else data["nc"])
        if outlines:
            check_outlines(pairs)
        tell_dropped(split, pairs)
        if split in needed:
            check_usable(data, split, pairs)


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


def kept_at(data: dict[str, Any], split: str, files: Sequence[str]) -> Path | None:
    """Where the results of the pass over a split are kept: beside the host's label cache."""
    entry = data.get(split)
    place = Path(entry[-1] if isinstance(entry, list) else entry or "")
    if not files:
        return None
    return (place if place.is_file() else Path(files[0]).parent).with_suffix(".checked.json")


def check_classes(pairs: Sequence[tuple[str, Label]], nc: int | None) -> None:
    """The labels name classes of the data yaml. The host finds out late, or not at all.

    Raises:
        InputError: a label names another class.
    """
    for file, label in pairs:
        if label.kind != UNREADABLE and nc is not None and (label.odd or label.top >= nc):
            fault = next(faults(file, nc))
            expected = f"0 to {nc - 1} (line {fault.line}; the data yaml has {nc} names)"
            raise InputError(file, fault.text, expected)


def check_outlines(pairs: Sequence[tuple[str, Label]]) -> None:
    """The labels are outlines. The host reads a box in their place, and fails or learns nothing.

    Raises:
        InputError: a label is a box.
    """
    for file, label in pairs:
        if label.kind in (BOXES, MIXED):
            expected = "an outline (class x1 y1 x2 y2 x3 y3 ...): the model is for segmentation"
            raise InputError(file, "a box (class x y w h)", expected)


def tell_dropped(split: str, pairs: Sequence[tuple[str, Label]]) -> None:
    """Tell what the host leaves out, and what it reads as something else: a line for each."""
    dropped = [file for file, label in pairs if label.kind == UNREADABLE]
    if dropped:
        examples = "; ".join(str(fault_in(file)) for file in dropped[:EXAMPLES])
        more = "; ..." * (len(dropped) > EXAMPLES)
        tell(
            f"{split}: {len(dropped)} of {len(pairs)} label files cannot be read, their images are "
            f"left out: {examples}{more}"
        )
    folders = [f for f, label in pairs if label.kind == MISSING and Path(f).is_dir()]
    if folders:
        tell(f"{split}: {folders[0]} is a folder, no label file: its image counts as empty")
    mixed = [file for file, label in pairs if label.kind == MIXED]
    if mixed:
        tell(
            f"{split}: {len(mixed)} label files mix outlines and boxes; YOLOv5 takes such a box "
            f"for an outline of two points: {mixed[0]}"
        )


def fault_in(file: str) -> Fault:
    """Why the host drops a label file."""
    return next(faults(file, None), Fault(file, 0, "cannot be read"))


def check_usable(
    data: dict[str, Any], split: str, pairs: Sequence[tuple[str, Label]]
) -> None:
    """See that some image of a split has a label and can be read.

    Raises:
        InputError: none has, or can.
    """
    where = f"{split}: {data.get(split)}"
    with_rows = [label.kind in (BOXES, OUTLINES, MIXED) for _, label in pairs]
    if not any(with_rows):
        dropped = [file for file, label in pairs if label.kind == UNREADABLE]
        if dropped:
            fault = fault_in(dropped[0])
            got = f"no label file of {len(dropped)} can be read; {fault}"
        elif any(label.kind == EMPTY for _, label in pairs):
            got = f"all labels of {len(pairs)} images are empty or missing"
        else:
            got = f"no labels of {len(pairs)} images, such as {pairs[0][0]}"
        raise InputError(where, got, "an image with a label (class x y w h)")
    message = ""
    for image, (file, _), useful in zip(images(data, split), pairs, with_rows, strict=True):
        if useful:
            image_file, *_, message = verify_image_label((str(image), file, ""))
            if image_file is not None:
                return
    text = message.split(": ", 1)[-1][:120]
    raise InputError(where, f"no image with a label can be read ({text})", "an image to read")


def labelled(data: dict[str, Any], split: str = "train") -> bool:
    """Whether some image of a split has a label that the host takes."""
    files = label_files(data, split)
    labels = read_labels(files, kept_at(data, split, files))
    return any(label.kind in (BOXES, OUTLINES, MIXED) for label in labels)
