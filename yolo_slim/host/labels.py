"""One pass over the label files of a data set, before anything starts.

The host reads a label file as its own check does (verify_image_label): what it cannot read it drops
with the whole image, and what is no class of the data it finds out after an epoch. Here each file
is judged by the same rules: 100,000 files take some seconds. Of large data sets the results are
kept beside the labels, and each holds as long as size and time of its file are the same.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from yolo_slim.errors import InputError
from yolo_slim.files import decode, write_aside

KEPT_FROM = 1000  # label files; fewer are read again in a moment
SHARED_FROM = 20_000  # label files; of fewer the processes would be started in vain
FRESH = 2.0  # seconds: what was changed so lately may change again without another time
VERSION = 1
MISSING, EMPTY, BOXES, OUTLINES, MIXED, UNREADABLE = "-", "e", "b", "o", "m", "!"


class Label(NamedTuple):
    """What one label file is to the host.

    Attributes:
        kind: MISSING, EMPTY, BOXES, OUTLINES, MIXED (outlines, and rows of 5 numbers, which are
            taken for outlines of two points), UNREADABLE (dropped, with its image).
        top: the highest class, -1 without labels.
        odd: some class is negative, or no whole number.
    """

    kind: str
    top: float = -1.0
    odd: bool = False


def read_labels(files: Sequence[str], kept: Path | None = None) -> list[Label]:
    """Judge label files, with a bar where that takes long.

    Args:
        files: paths; some may not be there.
        kept: file of results of an earlier pass, which are used and renewed; None: there is none.
            It is left out where its folder cannot be written.
    """
    known, now = read_kept(kept), time.time()
    marks = {file: mark for file in files if (mark := mark_of(file))}
    new = [file for file, mark in marks.items() if known.get(file, [])[:2] != mark]
    judged = dict(zip(new, judge_files(new), strict=True))
    for file in marks.keys() - judged.keys():
        judged[file] = Label(*known[file][2:])
    settled = (file for file, mark in marks.items() if now - mark[1] / 1e9 > FRESH)
    fresh = {file: [*marks[file], *judged[file]] for file in settled}
    if kept and len(fresh) >= KEPT_FROM and fresh != known:
        with suppress(InputError):  # a folder that cannot be written
            write_aside(kept, json.dumps({"version": VERSION, "files": fresh}).encode())
    return [judged.get(file, Label(MISSING)) for file in files]


def mark_of(file: str) -> list[int] | None:
    """Size and time of a file, by which a change shows; None where there is none."""
    try:
        state = os.stat(file)  # noqa: PTH116 (no Path for each of 100,000 files)
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns] if stat.S_ISREG(state.st_mode) else None


def judge_files(files: Sequence[str]) -> list[Label]:
    """Judge label files, many of them in several processes."""
    bar = {"desc": "checking labels", "unit": "file", "delay": 1, "leave": False}
    if len(files) < SHARED_FROM or (os.cpu_count() or 1) < 2:
        return [judge_file(file) for file in tqdm(files, **bar)]
    with Pool(min(os.cpu_count() or 1, 8)) as pool:
        labels = pool.imap(judge_file, files, chunksize=500)
        return list(tqdm(labels, total=len(files), **bar))


def read_kept(kept: Path | None) -> dict[str, list]:
    """The results of an earlier pass by file: size, time, and the fields of `Label`."""
    try:
        content = json.loads(kept.read_bytes()) if kept else {}
        files = content["files"] if content.get("version") == VERSION else {}
        return files if all(len(row) == 5 for row in files.values()) else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or not ours
        return {}


def judge_file(file: str) -> Label:
    """Judge a label file that is there."""
    try:
        with open(file, "rb", buffering=0) as content:  # noqa: PTH123 (as above)
            read = content.read()
    except OSError:
        return Label(UNREADABLE)
    return plain_boxes(read) or judge(rows_of(read))


def plain_boxes(content: bytes) -> Label | None:
    """`judge` for nearly all label files, in a third of the time; None for the others.

    That is for lines of five numbers with one space between two, each box within the image.
    """
    lines, words = content.splitlines(), content.split()
    if not lines or len(words) != 5 * len(lines) or b"\t" in content:
        return None
    if any(line.count(b" ") != 4 for line in lines):
        return None
    try:
        values = list(map(float, words))
    except ValueError:
        return None
    numbers = values[::5]
    del values[::5]
    top = max(numbers)
    if not (min(values) >= 0 and max(values) <= 1 and sum(values) + top >= 0 <= min(numbers)):
        return None
    whole = all(map(float.is_integer, numbers))
    return Label(BOXES, top) if whole else None


def rows_of(content: bytes) -> list[list[str]]:
    """The words of each line of a label file that has some, as the host gets them."""
    return [row for line in decode(content).splitlines() if (row := line.split())]


def judge(rows: list[list[str]]) -> Label:
    """Judge the rows of a label file.

    Example:
        >>> judge([["0", "0.5", "0.5", "0.1", "0.1"], ["7.5", "0.5", "0.5", "0.1", "0.1"]])
        Label(kind='b', top=7.5, odd=True)
    """
    if not rows:
        return Label(EMPTY)
    outlines = any(len(row) > 6 for row in rows)
    top, odd, clear = -1.0, False, True
    try:
        for row in rows:
            number, *values = map(float, row)
            top = max(top, number)
            odd = odd or number < 0 or number // 1 != number
            clear = clear and number == number and min(values) >= 0 and max(values) <= 1
            clear = clear and sum(values) >= 0  # a nan: no comparison above is sure to see it
            clear = clear and (len(row) % 2 == 1 if outlines else len(row) == 5)
    except (ValueError, OverflowError):  # no number, or no values
        return Label(UNREADABLE)
    if not clear and not taken_by_host(rows, outlines):
        return Label(UNREADABLE)
    if not outlines:
        return Label(BOXES, top, odd)
    return Label(MIXED if any(len(row) == 5 for row in rows) else OUTLINES, top, odd)


def taken_by_host(rows: list[list[str]], outlines: bool) -> bool:
    """Whether the host's check takes rows of numbers; a negative class it need not like.

    It makes boxes of outlines before it looks: a point may lie outside of the image.
    """
    import numpy as np

    boxes = []
    for row in rows:
        values = np.array(row[1:], np.float32)
        if outlines:
            if len(values) % 2 or not len(values):
                return False
            low, high = values.reshape(-1, 2).min(0), values.reshape(-1, 2).max(0)
            values = np.concatenate([(low + high) / 2, high - low])
        if len(values) != 4:
            return False
        boxes.append(values)
    numbers = np.array([row[0] for row in rows], np.float32)
    all_boxes = np.array(boxes)
    return not np.isnan(numbers).any() and bool(((all_boxes >= 0) & (all_boxes <= 1)).all())
