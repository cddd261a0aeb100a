"""A CSV of results that grows by a line a result, with the settings that it is of in its head:

    # yolo-slim sensitivity scan
    # digest: 1a2b3c4d5e6f
    kind,layer,channels
    dense,-,0

An interruption, whichever, loses what is being measured at that moment: half a last line is
dropped.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from yolo_slim.errors import InputError
from yolo_slim.files import write_aside


class Keyed(Protocol):
    """A result."""

    @property
    def key(self) -> Any:
        """What no other result has."""


Row = TypeVar("Row", bound=Keyed)


@dataclass(frozen=True)
class Layout:
    """What such a file looks like.

    Attributes:
        kind: what it holds, as errors call it: "scan".
        made_by: "a sensitivity.csv of yolo-slim sensitivity", what an error expects.
        title: its first line.
        settings: the names in its head, in their order.
        may_differ: those that do not matter when a run goes on.
        columns: names of the columns.
    """

    kind: str
    made_by: str
    title: str
    settings: Sequence[str]
    may_differ: Sequence[str]
    columns: Sequence[str]

    def write(self, path: Path, settings: Mapping[str, str], rows: Sequence[Any]) -> Path:
        """Write a file as a whole, aside and renamed; rows are dataclasses."""
        head = [self.title, *(f"# {key}: {settings[key]}" for key in self.settings)]
        text = "\n".join([*head, ",".join(self.columns)]) + "\n" + "".join(map(line, rows))
        return write_aside(path, text.encode())

    def read(self, path: Path) -> tuple[dict[str, str], list[tuple[int, str]]]:
        """The settings of a file, and the number and the text of each line of results.

        Raises:
            InputError: no such file, or one of another kind.
        """
        if not path.is_file():
            raise InputError(path, "no such file", self.made_by)
        text = path.read_bytes().decode("utf-8", errors="replace")
        lines = text[: text.rfind("\n") + 1].split("\n")[:-1]
        head = [text[2:] for text in lines if text.startswith("# ")]
        settings = dict(text.split(": ", 1) for text in head if ": " in text)
        if not lines or lines[0] != self.title or any(key not in settings for key in self.settings):
            raise InputError(path, f"not a {self.kind}", self.made_by)
        body = list(enumerate(lines, 1))[len(head) :]
        if not body or body[0][1] != ",".join(self.columns):
            raise InputError(path, "other columns", ",".join(self.columns))
        return settings, body[1:]

    def check_same(self, path: Path, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
        """See that a file is of the settings that are wanted.

        Raises:
            InputError: it is of others.
        """
        for key in (key for key in self.settings if key not in self.may_differ):
            old, new = theirs[key], ours[key]
            if old != new and key == "digest":
                raise InputError(path, f"of another model (weights {old})", f"weights {new}")
            if old != new:
                raise InputError(path, f"made with {key} {old}", f"the same options (now {new})")

    def rows(
        self,
        path: Path,
        body: Sequence[tuple[int, str]],
        parsed: Callable[[str], Row | None],
        *,
        first: Callable[[Row], bool],
        what: str,
        result: str,
    ) -> tuple[Row, ...]:
        """The results of the lines that `read` gave.

        Args:
            path: for errors.
            body: the lines.
            parsed: a line to its result; None: it is none.
            first: whether a result is that of the dense model, which comes first.
            what: that a line is of, as errors call it: "cut".
            result: what a line is, as errors call it.

        Raises:
            InputError: a line is no result, or comes twice; there is none.
        """
        rows = dict[Any, Row]()
        for number, text in body:
            row = parsed(text)
            if row is None or row.key in rows or first(row) == bool(rows):
                expected = f"{','.join(self.columns)}, each {what} once"
                raise InputError(f"{path}, line {number}", repr(text[:80]), expected)
            rows[row.key] = row
        if not rows:
            raise InputError(path, f"no {result}", "that of the dense model at least")
        return tuple(rows.values())


def line(row: Any) -> str:
    """A dataclass as a line; numbers come back as they were, to the last bit.

    Example:
        >>> @dataclass
        ... class Row:
        ...     layer: str
        ...     share: float
        >>> line(Row("model.0, bn", 0.1))
        '"model.0, bn",0.1\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(astuple(row))
    return text.getvalue()
