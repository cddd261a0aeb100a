"""Files: written whole or not at all, and read with one line of what is wrong with them."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.file_kinds import other_kind
from yolo_slim.plain_yaml import parse
from yolo_slim.together import hidden_beside, not_written, together

CHECKPOINT = "a YOLOv5 checkpoint (.pt)"  # what a file of weights should be
PUBLISHED = re.compile(r"yolov5[nsmlx]6?(-seg)?\.pt")  # names of YOLOv5's own weights


def write_aside(path: str | Path, data: bytes) -> Path:
    """Write a file beside its name and rename it: the old one stays whole until the new one is.

    Raises:
        InputError: the folder cannot be written or the disk is full; the old file is untouched. Or
            the path is a device or a pipe, whose place a file would take.
    """
    path = Path(path)
    temporary = hidden_beside(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(path, "a device or a pipe", "the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, ValueError) as error:  # a ValueError is one of a name with a NUL byte
        raise not_written(path, error) from error
    finally:
        with suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)
    return path


def write_folder_aside(path: str | Path, files: Mapping[str, bytes]) -> Path:
    """Write a folder of files beside its name and rename it, as `write_aside` does with one.

    Args:
        path: the folder; what was there before goes when the new one is whole.
        files: name to content.

    Raises:
        InputError: it cannot be written; what was there before is untouched.
    """
    path = Path(path)
    with together(path.parent) as aside:
        for name, content in files.items():
            write_aside(aside / path.name / name, content)
    return path


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in ([path] if path.is_file() else path.iterdir()))


def check_writable(folder: str | Path) -> None:
    """Try that a folder can be made and written; what was made for it is removed again.

    Raises:
        InputError: it cannot.
    """
    if int(os.getenv("RANK", "-1")) > 0:  # one of torchrun's: the first one looks
        return
    folder = Path(folder)
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe{os.getpid()}"
        probe.touch()
        probe.unlink()
        for made in missing:
            made.rmdir()
    except OSError as error:
        raise InputError(
            folder, f"cannot be written ({error.strerror})", "a writable folder"
        ) from error


def shipped(name: str) -> Path:
    """A file of cfg/ or data/: beside the package in a clone, inside it when installed."""
    package = Path(__file__).resolve().parent
    candidates = [base / name for base in (package.parent, package) if (base / name).is_file()]
    return candidates[0] if candidates else package.parent / name


def decode(content: bytes) -> str:
    """The text of a file, whatever the locale: UTF-8, or UTF-16 with its mark; else Windows-1252.

    A byte order mark at the beginning is dropped, and no byte is an error.

    Example:
        >>> decode(b"\\xef\\xbb\\xbf0 0.5"), decode("Ära".encode("latin-1"))
        ('0 0.5', 'Ära')
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read_text(path: str | Path) -> str:
    """`decode` the content of a file."""
    return decode(Path(path).read_bytes())


def text_of(content: bytes) -> str:
    """A label file or a list of images as the host can read it: what is read safely is read.

    That is: with a byte order mark, UTF-16, any ends of lines, spaces at an end, lines of spaces.
    The host takes each of these for a corrupt file, or for a part of a name.
    """
    lines = (line.rstrip() for line in decode(content).splitlines())
    return "\n".join(line for line in lines if line)


def read_mapping(path: str | Path, expected: str, *, names: str = "") -> dict[str, Any]:
    """Read a yaml that holds a mapping; `1e-2` is a number in it, see `plain_yaml`.

    Args:
        path: the file: UTF-8, with or without a byte order mark.
        expected: what it should be, for the error.
        names: a key whose entries are words as written: `no` is the word no, and not False.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", expected) from error
    data = parse(text, str(path), expected, names=names)
    if not isinstance(data, dict):
        raise InputError(path, f"a {type(data).__name__}", expected)
    return data


def check_file(where: object, path: str | Path, expected: str) -> Path:
    """See that a file is there, and holds something.

    Args:
        where: what the error calls it.
        path: the file.
        expected: what it should be; for CHECKPOINT it is also seen that it is not plainly the file
            of another program.

    Raises:
        InputError: it is not there, a folder, empty or not readable, or of another kind.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise InputError(where, f"{path!r:.80}, which is no path", expected)
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(where, *_missing(path, expected))
        if path.stat().st_size == 0:
            raise InputError(where, "an empty file", expected)
        kind = other_kind(path) if expected == CHECKPOINT else None
    except OSError as error:
        raise InputError(where, f"cannot be read ({error.strerror})", expected) from error
    if kind:
        instead = f": {kind[1]}" if kind[1] else ""
        raise InputError(where, kind[0], f"{expected}{instead}")
    return path


def _missing(path: Path, expected: str) -> tuple[str, str]:
    """What stands in the place of a file, and what was expected."""
    if path.is_dir():
        inside = [p for p in (path / "weights" / "best.pt", path / "best.pt") if p.is_file()]
        return "a folder", f"{expected}, such as {inside[0]}" if inside else expected
    if path.exists():
        return "neither a file nor a folder", expected
    if re.match(r"\w+:/", str(path)):
        return "an address", f"{expected} on this machine: nothing is downloaded"
    if expected == CHECKPOINT and PUBLISHED.fullmatch(path.name):
        return "no such file", f"{expected}: download it from the release v7.0 of YOLOv5"
    return "no such file", expected
