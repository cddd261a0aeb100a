"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from yolo_slim.errors import InputError


def write_aside(path: str | Path, data: bytes) -> Path:
    """Write a file beside its name and rename it: the old one stays whole until the new one is.

    Raises:
        InputError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(
            path, f"cannot be written ({error.strerror})", "a writable place"
        ) from error
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
