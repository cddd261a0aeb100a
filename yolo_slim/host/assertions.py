"""What YOLOv5 asserts, in our words: one line that says where, what was given, what was expected.

What a user can cause is checked before YOLOv5 starts, wherever it can be known by then. Here is the
rest: a table of what its loops, its loaders and its inference raise, and a line for what is not in
the table.
"""

from __future__ import annotations

import re
from pathlib import Path
from traceback import walk_tb

from yolo_slim.errors import InputError
from yolo_slim.host.sources import root

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
TYPES = (AssertionError, Exception, FileNotFoundError, NotImplementedError, ConnectionError)

# A pattern of its text; where, got and expected of ours. {1} is the pattern's first group.
TABLE = (
    (
        r"Label class (\S+) exceeds nc=(\d+) in (.+?)\. ",
        ("{3}", "labels of class {1}", "a class that the data yaml names: it has {2}"),
    ),
    (
        r"No labels found in (.+?),",
        ("{1}", "no labels for any training image", "a .txt in labels/ for each .jpg in images/"),
    ),
    (
        r"All labels empty in (.+?),",
        ("{1}", "no object in any training image", "label files with rows (class x y w h)"),
    ),
    (
        r"Error loading data from (.+?): (.+?)(?: See http.*)?$",
        ("{1}", "cannot be loaded ({2})", "a folder of images, or a .txt with their names"),
    ),
    (r"insufficient CUDA devices", ("torchrun", "more processes than GPUs", "a GPU for each")),
    (
        r"batch-size (\d+) not multiple of GPU count (\d+)",
        ("--batch-size", "{1}", "a multiple of {2}, the GPUs of --device"),
    ),
    (r"Invalid CUDA '--device (.+?)'", ("--device", "{1}", "a GPU that is there, or cpu")),
    (
        r"(\d+) classes\) trained on different --data than what you passed \((\d+) classes",
        ("--data", "another number of classes: {2}", "that of the model, {1}"),
    ),
    (r"Invalid Confidence threshold (\S+),", ("--conf-thres", "{1}", "a number from 0 to 1")),
    (r"Invalid IoU (\S+),", ("--iou-thres", "{1}", "a number from 0 to 1")),
    (
        r"No images or videos found in (.+?)\. ",
        ("--source {1}", "no images or videos there", "files such as .jpg, .png or .mp4"),
    ),
    (r"Image Not Found (.+)$", ("{1}", "cannot be read as an image", "a whole image file")),
    (r"Failed to open (.+)$", ("--source {1}", "cannot be opened", "a camera or a stream")),
    (r"^(.+) does not exist$", ("{1}", "no such file or folder", "an image, a video or a folder")),
    (
        r"input size .*?\[(.+?)\]\) .*?max model size \((.+?)\)",
        ("--imgsz", "batches of ({1})", "those of the exported file: ({2})"),
    ),
    (
        r"(\S+) is not a supported format",
        ("{1}", "no format that YOLOv5 runs", "a .pt, .onnx or .torchscript file"),
    ),
    (r"--task (\S+) not in", ("--task", "{1}", "train, val, test, speed or study")),
    (
        r"training to (\d+) epochs is finished",
        ("--resume", "a finished training (epochs: {1})", "one that was interrupted"),
    ),
    (r"File not found: (.*)$", ("{1}", "no such file", "a file that is here")),
    (r"File download failed: (.*)$", ("{1}", "cannot be downloaded", "a file that is here")),
)


def is_hosts(error: BaseException) -> bool:
    """True for what YOLOv5 raises to tell its user something; its and our own bugs are others."""
    frames = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    return type(error) in TYPES and bool(frames) and Path(frames[-1]).is_relative_to(root())


def in_our_words(error: BaseException, where: str) -> InputError:
    """What YOLOv5 raised, as an error of ours.

    Args:
        error: of the host.
        where: what was run, for what is not in the table.
    """
    text = plain(COLOURS.sub("", str(error)))
    for pattern, parts in TABLE:
        match = re.search(pattern, text)
        if match:
            words = ("", *match.groups())
            place, got, expected = (part.format(*words).strip() for part in parts)
            return InputError(without_prefix(place), got, expected)
    what = text[:200] or type(error).__name__
    return InputError(f"YOLOv5's {where}", what, "options and data that it can use (see --help)")


def plain(text: str) -> str:
    """A text without emojis, with the letters of file names."""
    return " ".join("".join(c for c in text if ord(c) < 0x2000 or c.isalnum()).split())


def without_prefix(place: str) -> str:
    """A place without the split that the host's loaders put before it."""
    return re.sub(r"^(?:train|val|test): ", "", place)
