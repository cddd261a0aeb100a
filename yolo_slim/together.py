"""Files and folders that appear in a folder at once, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from yolo_slim.errors import InputError


def hidden_beside(path: Path) -> Path:
    """A free name for what is written before it gets the name of a path, in the same folder.

    The name is known before anything lies there: an interruption leaves nothing that is not.
    """
    return path.parent / f".{path.name}.{token_hex(4)}"


def not_written(path: object, error: Exception) -> InputError:
    """That something cannot be written, and why."""
    reason = getattr(error, "strerror", None) or error
    return InputError(path, f"cannot be written ({reason})", "a writable place")


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """A hidden folder for files that belong to `folder`: they get there at the end of the block.

    Files and folders of the same names go when all new ones are there. After any failure, in the
    block or at its end, the folder is as it was.

    Args:
        folder: where they belong; it is made if it is not there.

    Yields:
        The hidden folder, in the same file system. An InputError of the block that names a file in
        it is told of the file's place in `folder`.

    Raises:
        InputError: they cannot be written, or a file would take the place of a folder.
    """
    hidden = hidden_beside(folder / "files")
    new, before = hidden / "new", hidden / "before"
    done = False
    try:
        new.mkdir(parents=True)
        before.mkdir()
        yield new
        _swap(new, folder, before)
        done = True
    except InputError as error:
        where, got, expected = error.parts
        raise InputError(where.replace(str(new), str(folder)), got, expected) from error
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(hidden if done else new, ignore_errors=True)
        with suppress(OSError):  # what could not be put back stays in it
            before.rmdir()
        with suppress(OSError):
            hidden.rmdir()


def _swap(new: Path, folder: Path, before: Path) -> None:
    """Move all that lies in one folder to another; what stood there before is moved out of it.

    Raises:
        InputError: a file would take the place of a folder.
        OSError: one cannot be moved; all lie as they did then.
    """
    names = [path.name for path in new.iterdir()]
    replaced = [name for name in names if _stands(folder / name)]
    for name in replaced:
        if (new / name).is_file() and (folder / name).is_dir():
            raise InputError(folder / name, "a folder", "a file to replace, or no such name")
    try:
        for name in names:
            if name in replaced:
                (folder / name).replace(before / name)
            (new / name).replace(folder / name)
    except BaseException:
        for name in names:
            _put_back(name, new, folder, before, there=name in replaced)
        raise


def _put_back(name: str, new: Path, folder: Path, before: Path, *, there: bool) -> None:
    """Undo what `_swap` may have done with one name, wherever it was interrupted.

    Args:
        name: of a file or folder.
        new, folder, before: of `_swap`.
        there: whether something of the name stood in the folder.
    """
    if not _stands(new / name):
        (folder / name).replace(new / name)
    if there and _stands(before / name):
        (before / name).replace(folder / name)


def _stands(path: Path) -> bool:
    """True for a file, a folder, and a link, wherever it leads."""
    return path.is_symlink() or path.exists()
