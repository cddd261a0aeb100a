"""YOLOv5's loaders, which read text in any encoding, and say what is wrong with their files.

For good, the names through which yolov5.utils.dataloaders opens text, looks for files, keys and
reads its label cache and checks an image point to ours. Its processes that read labels get ours by
name, so that this holds where they start anew, too.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from yolo_slim.errors import InputError
from yolo_slim.files import text_of
from yolo_slim.host import image_copies
from yolo_slim.host.compat import mend
from yolo_slim.host.data_yaml import tell
from yolo_slim.host.label_cache import numpy_for_the_host
from yolo_slim.text import counted

mend()

from yolov5.utils import dataloaders  # noqa: E402

OF_A_CACHE = 4  # entries of the host's cache besides the images: hash, results, msgs, version
JPEG, PNG = b"\xff\xd8", b"\x89P"  # Pillow looks into these files, of others it reads the head
_verify = dataloaders.verify_image_label


def open_text(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
    """`open` for the host: text comes from `text_of`, whatever the locale."""
    if mode == "r" and not (args or kwargs):
        return StringIO(text_of(Path(file).read_bytes()))
    return Path(file).open(mode, *args, **kwargs)


def glob_below(pattern: str, **kwargs: Any) -> list[str]:
    """`glob.glob` for the host, to which `[` in the name of a folder is a bracket."""
    deep, flat = f"{os.sep}**{os.sep}*.*", f"{os.sep}*.*"
    if pattern.endswith(deep) and Path(pattern.removesuffix(deep)).is_dir():
        return list(files_below(pattern.removesuffix(deep)))
    folder = pattern.removesuffix(flat)
    if folder != pattern and Path(folder).is_dir():
        pattern = glob.escape(folder) + flat
    return glob.glob(pattern, **kwargs)  # noqa: PTH207 (Path.glob has other rules)


def files_below(folder: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """What `**/*.*` matches below a folder, which is told where it cannot be read.

    A symbolic link to a folder that it lies in is not followed: glob goes 40 times around, and each
    image counts as often.

    Args:
        folder: its path.
        above: device and inode of the folders that it lies in.
    """
    try:
        state = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        tell(f"{folder}: cannot be read ({error.strerror}), what is in it is left out")
        return
    here = (state.st_dev, state.st_ino)
    if here in above:
        tell(f"{folder}: a link to a folder around it is left out")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = os.path.join(folder, entry.name)  # noqa: PTH118 (100,000 of them)
        if "." in entry.name:
            yield path
        if Path(path).is_dir() if entry.is_symlink() else entry.is_dir():  # a link may be a loop
            yield from files_below(path, (*above, here))


def get_hash(paths: Sequence[str]) -> str:
    """What the host keys its label cache by: each file's name, size and time.

    The host takes the names and the sum of the sizes: a label that is edited to the same size is
    then never read again.
    """
    digest = hashlib.sha256(b"yolo_slim, size and time")
    for path in paths:
        try:
            state = Path(path).stat()
        except OSError:
            continue
        digest.update(f"{path}\0{state.st_size} {state.st_mtime_ns}\0".encode(errors="replace"))
    return digest.hexdigest()


def verify_image_label(args: tuple[str, str, str]) -> Any:
    """The host's check of an image and its label, and the image can be decoded.

    Of a JPEG and a PNG the host's check sees whether it is whole. Of others it reads the head, and
    the training ends when the image is loaded; and a file that is no image sends a part of it to
    look for more packages.
    """
    file, _, prefix = args
    if not named(file):
        why = "its name is not UTF-8"
    elif not Path(file).is_file():  # to read a pipe is to wait for ever
        why = "not a file" if Path(file).exists() else "not there"
    elif looked_into(file) or decodes(file):
        return _verify(args)
    else:
        why = "not an image"
    return [None, None, None, None, 0, 0, 0, 1, f"{prefix}{file}: {why}, skipped"]


def named(file: str) -> bool:
    """Whether OpenCV can open a file of this name; others end the process (5.0: a bad access)."""
    try:
        file.encode()
    except UnicodeEncodeError:
        return False
    return True


def looked_into(file: str) -> bool:
    """Whether the host's check sees if an image is whole."""
    try:
        with Path(file).open("rb") as content:
            return content.read(2) in (JPEG, PNG)
    except OSError:  # not there, a folder
        return False


def decodes(file: str | Path) -> bool:
    """Whether OpenCV can read an image."""
    return read_image(file) is not None


def read_image(file: str | Path) -> np.ndarray | None:
    """An image as cv2.imread gives it, (h, w, 3) uint8 BGR; None where it cannot be read."""
    logging = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # it prints several lines for each
    try:
        content = np.fromfile(file, np.uint8) if Path(file).is_file() else np.empty(0, np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # not there, a folder, empty
        return None
    finally:
        logging.setLogLevel(level)
    whole = image is not None and image.ndim == 3 and image.dtype == np.uint8
    return image if whole else None


def with_images(cache_labels: Callable[..., dict]) -> Callable[..., dict]:
    """The host's cache_labels, which makes a traceback of it where no image is left."""

    def checked(self: Any, path: Path = Path("labels.cache"), prefix: str = "") -> dict:
        cache = cache_labels(self, path, prefix)
        if len(cache) > OF_A_CACHE:
            return cache
        path.unlink(missing_ok=True)  # else the next run reads it, and does not get here
        raise InputError(self.path, no_image(self.im_files, cache["msgs"]), "an image to read")

    return checked


def no_image(files: Sequence[str], messages: Sequence[str]) -> str:
    """That none of some images can be used, and why the first one cannot."""
    why = f"{Path(files[0]).name}: {reason(messages[0])}" if messages else "no reason known"
    return f"none of {counted(len(files), 'image')} can be used ({why})"


def reason(message: str) -> str:
    """Why an image is left out, of what the host's check says of it."""
    text = " ".join(message.split(": ", 1)[-1].split())
    return text.removeprefix("ignoring corrupt image/label: ").removesuffix(", skipped")[:120]


def install() -> None:
    """Point the host's names to ours."""
    dataloaders.open = open_text
    dataloaders.glob = SimpleNamespace(glob=glob_below)
    dataloaders.get_hash = get_hash
    dataloaders.np = numpy_for_the_host()
    dataloaders.eval = int  # of the number of a camera
    dataloaders.verify_image_label = verify_image_label
    loader = dataloaders.LoadImagesAndLabels
    loader.cache_labels = with_images(loader.cache_labels)
    image_copies.install()


install()
