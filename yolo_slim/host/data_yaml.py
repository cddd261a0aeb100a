"""Data yamls: what they say, and where their images lie; YOLOv5 is not imported, which takes time.

YOLOv5 takes `train: ../train/images` relative to `path`, and that relative to the folder of its own
package. Here a relative `path` is looked for where the user stands, then beside the yaml.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping, shipped
from yolo_slim.host.sources import root
from yolo_slim.parsing import at_home
from yolo_slim.text import indices

EXPECTED = "a data yaml (path, train, val, names)"
SPLITS = ("train", "val", "test")
_told: set[str] = set()


def tell(text: str) -> None:
    """Print a note about the data once a process, in the first of torchrun's."""
    if text not in _told and int(os.getenv("RANK", "-1")) < 1:
        print(text)
    _told.add(text)


def find_data(path: str | Path) -> Path:
    """A data yaml by its path, or by the name of one that ships with us or with YOLOv5.

    Raises:
        InputError: there is none.
    """
    if not isinstance(path, str | Path):
        raise InputError("data", repr(path)[:80], EXPECTED)
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if shipped(str(path)).is_file():
        return shipped(str(path))
    if file.name and not file.is_dir() and (root() / "data" / file.name).is_file():
        return root() / "data" / file.name
    raise InputError(file, "a folder" if file.is_dir() else "no such file", EXPECTED)


def check_data_file(path: str | Path, splits: tuple[str, ...] = ("val",)) -> None:
    """See that a data yaml is there, can be read, and names images that are there.

    Args:
        path: the yaml.
        splits: of train, val and test, that have to be there, unless the yaml makes them
            (`download:`).

    Raises:
        InputError: see `find_data`, `read_data_yaml` and `resolved`.
    """
    file = find_data(path)
    data = resolved(read_data_yaml(file), file)
    if not data.get("download"):
        check_places(data, file, splits)


def read_data_yaml(file: Path) -> dict[str, Any]:
    """What a data yaml says: names from class index to name, nc, and path, train, val, test.

    Raises:
        InputError: it is no yaml, or an entry is missing or of another kind.
    """
    data = read_mapping(file, EXPECTED, names="names")
    missing = [key for key in ("train", "val", "names") if data.get(key) in (None, "", [])]
    if missing:
        hint = ""
        if "names" in missing and data.get("nc") is not None:
            hint = f"; nc: {data['nc']} does not say what they are called"
        got = f"no entry {', '.join(missing)}"
        raise InputError(file, got, f"a data yaml (train, val, names){hint}")
    if not isinstance(data.get("path") or "", str) or "\0" in (data.get("path") or ""):
        raise InputError(file, f"path: {data['path']!r}"[:80], "a folder")
    for split in SPLITS:
        entry = data.get(split)
        entries = entry if isinstance(entry, list) else [entry] if entry else []
        if not all(isinstance(each, str) and each and "\0" not in each for each in entries):
            expected = "a folder of images, a text file of their paths, or a list of these"
            raise InputError(file, f"{split}: {entry!r}"[:80], expected)
    data["names"] = read_names(data["names"], file)
    check_count_of(data, file)
    return data


def read_names(names: Any, file: Path) -> dict[int, str]:
    """The names of a data yaml by class index, in order.

    Args:
        names: a list, or a mapping from 0 on, as `read_mapping` gives them.
        file: the yaml.

    Raises:
        InputError: it is something else, an index is missing, or a name is empty.
    """
    if isinstance(names, str):
        got = f"names: {names!r}"[:80]
        raise InputError(file, got, "a list of names; a file of names is not read")
    if not isinstance(names, list | Mapping) or not names:
        raise InputError(file, f"names: {names!r}"[:80], "a list or a mapping of classes")
    if isinstance(names, list):
        names = dict(enumerate(names))
    by_index: dict[int, str] = {}
    for key, name in names.items():
        number = key if isinstance(key, int) and not isinstance(key, bool) else None
        if number is None and isinstance(key, str) and key.strip().isdecimal():
            number = int(key)
        if number is None:
            raise InputError(file, f"names: {key!r}: {name!r}"[:80], "class numbers, as in 0: car")
        if not isinstance(name, str) or not name.strip():
            got = "no name" if isinstance(name, str) else repr(name)[:60]
            raise InputError(file, f"names: {got} of class {number}", "a name for each class")
        if by_index.setdefault(number, name) != name:
            raise InputError(file, f"names: class {number} twice", "one name for each class")
    gap = next((i for i in range(len(by_index)) if i not in by_index), None)
    if gap is not None:
        got = (
            f"names: class{'es' * (len(by_index) > 1)} {', '.join(map(str, sorted(by_index)[:8]))}"
        )
        got += ", ..." if len(by_index) > 8 else ""
        raise InputError(file, got, f"{indices(len(by_index))}: class {gap} has no name")
    for name, count in Counter(by_index.values()).items():
        if count > 1:
            same = " and ".join(str(i) for i in sorted(by_index) if by_index[i] == name)
            tell(f"{file}: classes {same} have one name, {name}; each stays a class of its own")
    return {i: by_index[i] for i in range(len(by_index))}


def check_count_of(data: dict[str, Any], file: Path) -> None:
    """See that nc, where the yaml has it, is the number of names; set it.

    Raises:
        InputError: it is another number, or none.
    """
    nc, names = data.get("nc"), data["names"]
    if isinstance(nc, str) and nc.strip().isdecimal():
        nc = int(nc)
    if nc is not None and (isinstance(nc, bool) or nc != len(names)):
        few = ", ".join(list(names.values())[:3]) + ", ..." * (len(names) > 3)
        got = f"nc: {nc}, and names for {len(names)} ({few})"
        raise InputError(file, got, f"nc: {len(names)}, or a name for each class")
    data["nc"] = len(names)


def resolved(data: dict[str, Any], file: Path) -> dict[str, Any]:
    """The same with absolute path, train, val and test.

    YOLOv5's reading is tried first: below `path` from where the user stands, and without a leading
    `../` where an entry is not there. Then the yaml's own folder takes the place of where the user
    stands, with `path` and without it, each with all entries as written and with none that has a
    leading `../`: exports of Roboflow say `../train/images` of a folder beside the yaml. The first
    reading that has all of train and val is taken, else the first that has val, else YOLOv5's.
    Which one it is is told where it is not YOLOv5's.
    """
    given, own = Path(at_home(data.get("path") or ".")), file.absolute().parent
    bases = [Path.cwd() / given]
    readings = [{split: as_yolov5(data.get(split), bases[0]) for split in SPLITS}]
    for base in dict.fromkeys([own / given, own]):
        for up in (True, False):
            bases.append(base)
            readings.append({split: below(data.get(split), base, up) for split in SPLITS})

    def has(reading: dict[str, list[Path]], *splits: str) -> bool:
        return all(is_there(place) for split in splits for place in reading[split])

    whole = [i for i, reading in enumerate(readings) if has(reading, "train", "val")]
    taken = (whole or [i for i, reading in enumerate(readings) if has(reading, "val")] or [0])[0]
    if readings[taken] != readings[0]:
        tell(
            f"{file}: train and val are read from its own folder, {bases[taken]}; "
            f"they are not below {os.path.realpath(bases[0])}"
        )
    out = {**data, "path": os.path.realpath(bases[taken])}
    for split, files in readings[taken].items():
        if files:
            texts = [str(file) for file in files]
            out[split] = texts if isinstance(data[split], list) else texts[0]
    return out


def below(entry: str | list[str] | None, base: Path, up: bool = True) -> list[Path]:
    """Where the entries of a split lie below a folder; `up`: a leading `../` counts."""
    entries = entry if isinstance(entry, list) else [entry] if entry else []
    files = []
    for text in entries:
        if "\\" in text and os.sep == "/" and not is_there(base / text):  # written on Windows
            text = text.replace("\\", "/")
        text = text if up else text.removeprefix("../")
        files.append(Path(os.path.realpath(base / at_home(text))))  # resolve() fails on a loop
    return files


def is_there(place: Path) -> bool:
    """Whether there is a file or folder; there is none of a name that no file can have."""
    try:
        return place.exists()
    except OSError:  # too long
        return False


def as_yolov5(entry: str | list[str] | None, base: Path) -> list[Path]:
    """As YOLOv5 looks: each entry as written, or else without a leading `../`."""
    both = zip(below(entry, base), below(entry, base, up=False), strict=True)
    return [other if is_there(other) and not is_there(place) else place for place, other in both]


def check_places(data: dict[str, Any], file: Path, splits: tuple[str, ...]) -> None:
    """See that the folders and files of some splits are there.

    Args:
        data: from `resolved`.
        file: the yaml, for the error.
        splits: of train, val and test.

    Raises:
        InputError: one is not there, or the yaml has no such entry.
    """
    for split in splits:
        entry = data.get(split)
        if not entry:
            got = f"no entry {split}"
            raise InputError(file, got, f"the images of {split}")
        for place in map(Path, entry if isinstance(entry, list) else [entry]):
            if not is_there(place):
                expected = "a folder of images or a text file of their paths"
                raise InputError(file, f"cannot be used ({split}: {place} is not there)", expected)
