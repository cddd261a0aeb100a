"""What is wrong with a label file, line by line: for a message; `labels` judges them fast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.files import decode
from yolo_slim.host.labels import taken_by_host
from yolo_slim.text import counted

LARGEST = 1 + 2.0**-24  # the host compares in float32, in which this is 1
SMALLEST = -(2.0**-150)  # and this 0


@dataclass(frozen=True)
class Fault:
    """What is wrong with a label file, where it shows first."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.text}"


def faults(file: str, nc: int | None) -> Iterator[Fault]:
    """What is wrong with a label file, line by line: for a message, not for speed.

    Args:
        file: a label file.
        nc: number of classes; None: any class will do.
    """
    try:
        lines = decode(Path(file).read_bytes()).splitlines()
    except OSError as error:
        yield Fault(file, 0, f"cannot be opened ({error.strerror})")
        return
    rows = [(i, line.split()) for i, line in enumerate(lines, 1) if line.split()]
    outlines = any(len(row) > 6 for _, row in rows)
    for line, row in rows:
        text = fault_of(row, outlines)
        if text:
            yield Fault(file, line, text)
        elif nc is not None:
            number = float(row[0])
            if number < 0 or number // 1 != number or number >= nc:
                yield Fault(file, line, f"class {row[0]}")


def fault_of(row: list[str], outlines: bool) -> str:
    """Why the host drops a file with this row; "" where it does not."""
    for word in row:
        try:
            float(word)
        except ValueError:
            shown = ascii(word)[:40] if not word.isprintable() else repr(word)[:40]
            return f"{shown} is no number"
    if not outlines and len(row) != 5:
        return f"{counted(len(row), 'column')}, not 5 (class x y w h)"
    if outlines and (len(row) % 2 == 0 or len(row) < 3):
        return f"{counted(len(row), 'column')}: an outline is a class and pairs of x y"
    for word in row:
        if float(word) != float(word):
            return f"{word}"
    if outlines:
        return "" if taken_by_host([row], outlines) else "an outline that leaves the image"
    for word in row[1:]:
        if not SMALLEST <= float(word) <= LARGEST:
            return f"{word} is not within 0 and 1 (a share of the image)"
    return ""
