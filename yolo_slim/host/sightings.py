"""The host's loader of images and videos for detect, which skips what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.files import text_of
from yolo_slim.host.compat import mend
from yolo_slim.host.loading import named
from yolo_slim.text import counted

mend()

from yolov5.utils import dataloaders  # noqa: E402
from yolov5.utils.general import LOGGER  # noqa: E402

LOADABLE = {*dataloaders.IMG_FORMATS, *dataloaders.VID_FORMATS}


class ReadableImages(dataloaders.LoadImages):  # type: ignore[misc]
    """LoadImages: a broken image or video is one line in the log, and only broken ones an error.

    A text file of paths has one in each line; the host splits it at each space. Files that OpenCV
    cannot name are left out.
    """

    files: list[str]
    video_flag: list[bool]
    nf: int

    def __init__(self, path: Any, *args: Any, **kwargs: Any) -> None:
        self.given, self.read = path, 0
        if isinstance(path, str) and path.endswith(".txt"):
            path = text_of(Path(path).read_bytes()).splitlines()
        super().__init__(path, *args, **kwargs)
        pairs = list(zip(self.files, self.video_flag, strict=True))
        kept = [pair for pair in pairs if named(pair[0]) and Path(pair[0]).is_file()]
        for file, _ in pairs:
            if named(file) and not Path(file).is_file():  # to read a pipe is to wait for ever
                LOGGER.warning(f"skipped: {file} is no file")
        if unnamed := sum(not named(file) for file, _ in pairs):
            LOGGER.warning(f"skipped: {counted(unnamed, 'file')} with a name that is not UTF-8")
        self.files, self.video_flag = [f for f, _ in kept], [video for _, video in kept]
        self.nf = len(kept)

    def __next__(self) -> Any:
        while True:
            number = self.count
            try:
                item = super().__next__()
            except StopIteration:
                if not self.read:
                    expected = "whole image or video files"
                    raise InputError(
                        f"--source {self.given}", f"none of {self.nf} can be read", expected
                    ) from None
                raise
            except AssertionError:  # the host has counted it, and goes on with the next one
                LOGGER.warning(f"skipped: {self.files[number]} cannot be read as an image")
                continue
            self.read += 1
            return item


def check_loadable(source: str) -> None:
    """See that a file or folder holds images or videos, by the host's list of suffixes.

    Raises:
        InputError: it holds none.
    """
    path = Path(source)
    files = list(path.glob("*.*")) if path.is_dir() else [path]
    if path.suffix in (".txt", ".streams") or not path.exists():  # a list, a glob or a camera
        return
    if not any(file.suffix[1:].lower() in LOADABLE for file in files):
        expected = f"files such as .jpg, .png or .mp4{' in it' * path.is_dir()}"
        raise InputError(f"--source {source}", "no image and no video", expected)
