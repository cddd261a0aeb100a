"""Data sets: a YOLOv5 data yaml, found, resolved and checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping
from yolo_slim.host.compat import mend

mend()

from yolov5.utils import general  # noqa: E402
from yolov5.utils.dataloaders import IMG_FORMATS, img2label_paths  # noqa: E402


def read_data(path: str | Path | dict, download: bool = True) -> dict[str, Any]:
    """The host's check_dataset, with a relative `path:` taken from where the user stands.

    The host takes it from the folder of its own package. Here it is the working directory, or the
    folder of the yaml, whichever has it; the working directory where the data is still to be made.

    Args:
        path: a data yaml, or what this function returned.
        download: run the yaml's `download:` entry where images are missing.

    Returns:
        The host's data dict with absolute `train`, `val` and `test`, names as a dict, and nc.

    Raises:
        InputError: no such file, not a data yaml, or images missing with no `download:` entry.
    """
    if isinstance(path, dict):
        return general.check_dataset(path, download)
    file = Path(path)
    if not file.is_file():
        known = sorted(Path(general.ROOT).glob(f"data/{file.name}")) if str(path) else []
        if not known:
            raise InputError(file, "no such file", "a data yaml (path, train, val, names)")
        file = known[0]
    data = read_mapping(file, "a data yaml (path, train, val, names)")
    missing = [k for k in ("train", "val", "names") if not data.get(k)]
    if missing:
        raise InputError(file, f"no entry {', '.join(missing)}", "a data yaml (train, val, names)")
    if not isinstance(data["names"], list | dict):
        raise InputError(file, f"names: {data['names']!r}"[:80], "a list or a mapping of classes")
    if not isinstance(data.get("path") or "", str):
        raise InputError(file, f"path: {data['path']!r}"[:80], "a folder")
    root = Path(data.get("path") or ".")
    if not root.is_absolute():
        here, beside = Path.cwd() / root, file.resolve().parent / root
        data["path"] = str((beside if not here.exists() and beside.exists() else here).resolve())
    try:
        return general.check_dataset(data, download)
    except Exception as error:  # the host asserts, and a download entry may do anything
        text = str(error) or type(error).__name__
        raise InputError(
            file, f"cannot be used ({text})", f"images at {data.get('path')}"
        ) from error


def check_data(path: str | Path, nc: int | None = None, splits: tuple[str, ...] = ("val",)) -> dict:
    """`read_data`, and the images are there, and the classes are those of the model.

    Args:
        path: a data yaml.
        nc: number of classes of the model; None: any.
        splits: which of train, val and test must have images.

    Raises:
        InputError: see `read_data`; a split without images; another number of classes.
    """
    data = read_data(path)
    for split in splits:
        if not images(data, split):
            raise InputError(path, f"{split}: no images in {data.get(split)}", "at least one image")
    if nc is not None and nc != data["nc"]:
        raise InputError(path, f"{data['nc']} classes", f"the {nc} of the model")
    return data


def images(data: dict[str, Any], split: str = "val") -> list[Path]:
    """The image files of a split: of folders, of lists of files, in sorted order."""
    entries = data.get(split) or []
    files: list[Path] = []
    for entry in map(Path, entries if isinstance(entries, list) else [entries]):
        if entry.is_dir():
            files += (p for p in entry.rglob("*.*") if p.suffix[1:].lower() in IMG_FORMATS)
        elif entry.is_file():
            lines = [Path(line) for line in entry.read_text().split("\n") if line.strip()]
            files += (p if p.is_absolute() else entry.parent / p for p in lines)
    return sorted(p for p in files if p.is_file())


def label_rows(
    data: dict[str, Any], splits: tuple[str, ...], most: int = 1000
) -> Iterator[tuple[Path, list[str]]]:
    """The rows of the label files of some splits: the file, and the words of a row.

    Args:
        data: from `read_data`.
        splits: of train, val and test.
        most: files to read of a split, about, evenly spread over it.
    """
    for split in splits:
        files = [Path(file) for file in img2label_paths([str(p) for p in images(data, split)])]
        for file in filter(Path.is_file, files[:: max(1, -(-len(files) // most))]):
            for line in file.read_text(errors="ignore").split("\n"):
                yield file, line.split()


def labelled(data: dict[str, Any], split: str = "train") -> bool:
    """Whether some image of a split has a label: of many, a sample is looked at."""
    return any(rows for _, rows in label_rows(data, (split,)))


def check_classes(data: dict[str, Any], splits: tuple[str, ...]) -> None:
    """The labels name classes of the data yaml. The host finds out after it has made its folder.

    Raises:
        InputError: a label names another class.
    """
    for file, row in label_rows(data, splits):
        if row and row[0].isdigit() and int(row[0]) >= data["nc"]:
            expected = f"0 to {data['nc'] - 1}: the data yaml has {data['nc']} names"
            raise InputError(file, f"class {row[0]}", expected)


def check_polygons(data: dict[str, Any], splits: tuple[str, ...]) -> None:
    """The labels are outlines. The host reads a box in their place, and fails or learns nothing.

    Raises:
        InputError: a label is a box.
    """
    for file, row in label_rows(data, splits):
        if len(row) == 5:
            expected = "an outline (class x1 y1 x2 y2 x3 y3 ...): the model is for segmentation"
            raise InputError(file, "a box (class x y w h)", expected)
