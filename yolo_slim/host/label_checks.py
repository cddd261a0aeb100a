"""What is wrong with the labels of a data set is told, or refused, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.host.data_yaml import tell
from yolo_slim.host.images import images, labels_of
from yolo_slim.host.label_faults import Fault, faults
from yolo_slim.host.labels import (
    BOXES,
    EMPTY,
    MISSING,
    MIXED,
    OUTLINES,
    UNREADABLE,
    Label,
    read_labels,
)
from yolo_slim.host.loading import reason, verify_image_label
from yolo_slim.text import counted, indices

WITH_ROWS = (BOXES, OUTLINES, MIXED)
EXAMPLES = 3  # of what is wrong, in a line


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
        pictures = images(data, split)
        files = labels_of(pictures)
        labels = read_labels(files, kept_at(data, split, files))
        pairs = list(zip(files, labels, strict=True))
        check_classes(pairs, None if single_cls else data["nc"])
        if outlines:
            check_outlines(pairs)
        tell_dropped(split, pairs)
        if split == "val" and not any(label.kind in WITH_ROWS for label in labels):
            count = counted(len(files), "image")
            tell(f"val: no labels of {count}, such as {files[0]}: mAP will be 0")
        if split in needed:
            check_labelled(f"{split}: {data.get(split)}", pairs)
            useful = [label.kind in WITH_ROWS for label in labels]
            pictures, files = list(compress(pictures, useful)), list(compress(files, useful))
        check_readable(f"{split}: {data.get(split)}", pictures, files)


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
            expected = f"{indices(nc)} (line {fault.line}; the data yaml has {counted(nc, 'name')})"
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
            f"{split}: {len(dropped)} of {counted(len(pairs), 'label file')} cannot be read, "
            f"{'its image is' if len(dropped) == 1 else 'their images are'} left out: "
            f"{examples}{more}"
        )
    missing = [Path(file) for file, label in pairs if label.kind == MISSING]
    folders = [file for file in missing if file.is_dir()]
    if folders:
        tell(f"{split}: {folders[0]} is a folder, no label file: its image counts as empty")
    other = in_other_case(missing)
    if other:
        tell(
            f"{split}: {counted(len(other), 'label file')} with another case at the end, such as "
            f"{other[0]}; YOLOv5 looks for .txt, and takes such an image for an empty one"
        )
    mixed = [file for file, label in pairs if label.kind == MIXED]
    if mixed:
        tell(
            f"{split}: outlines and boxes are mixed in {counted(len(mixed), 'label file')}; YOLOv5 "
            f"takes such a box for an outline of two points: {mixed[0]}"
        )


def in_other_case(missing: Sequence[Path]) -> list[Path]:
    """The files that are there under the same name but for upper and lower case."""
    names: dict[Path, dict[str, Path]] = {}
    for folder in {file.parent for file in missing if file.parent.is_dir()}:
        names[folder] = {file.name.lower(): file for file in folder.iterdir() if file.is_file()}
    others = (names.get(file.parent, {}).get(file.name.lower()) for file in missing)
    return [file for file in others if file is not None]


def fault_in(file: str) -> Fault:
    """Why the host drops a label file."""
    return next(faults(file, None), Fault(file, 0, "cannot be read"))


def check_labelled(where: str, pairs: Sequence[tuple[str, Label]]) -> None:
    """See that some image of a split has a label.

    Raises:
        InputError: none has.
    """
    with_rows = [label.kind in WITH_ROWS for _, label in pairs]
    if not any(with_rows):
        dropped = [file for file, label in pairs if label.kind == UNREADABLE]
        if dropped:
            fault = fault_in(dropped[0])
            got = f"no label file of {len(dropped)} can be read; {fault}"
        elif any(label.kind == EMPTY for _, label in pairs):
            got = f"the labels of {counted(len(pairs), 'image')}: all empty or missing"
        else:
            got = f"no labels of {counted(len(pairs), 'image')}, such as {pairs[0][0]}"
            other = in_other_case([Path(file) for file, _ in pairs])
            got += f" ({other[0].name} is there)" if other else ""
        raise InputError(where, got, "an image with a label (class x y w h)")


def check_readable(where: str, pictures: Sequence[Path], files: Sequence[str]) -> None:
    """See that the host takes one of some images with their labels; mostly it takes the first.

    Raises:
        InputError: there are some, and it takes none.
    """
    reasons = []
    for picture, file in zip(pictures, files, strict=True):
        taken, *_, text = verify_image_label((str(picture), file, ""))
        if taken is not None:
            return
        reasons.append(f"{picture.name}: {reason(text)}")
    if reasons:
        got = f"none of {counted(len(reasons), 'image')} can be read with its label ({reasons[0]})"
        raise InputError(where, got, "an image to read")


def labelled(data: dict[str, Any], split: str = "train") -> bool:
    """Whether some image of a split has a label that the host takes."""
    files = labels_of(images(data, split))
    labels = read_labels(files, kept_at(data, split, files))
    return any(label.kind in WITH_ROWS for label in labels)
