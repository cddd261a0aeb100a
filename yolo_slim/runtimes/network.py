"""An exported file that is opened: what it takes, what it says of itself, and a way to run it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.errors import InputError
from yolo_slim.plain_yaml import parse

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int | None, ...]  # None where it is open
DIGEST = "bin_sha256"  # key of the yaml beside a network


@dataclass(frozen=True)
class Network:
    """A detector in a runtime.

    Attributes:
        path: the file.
        shape: (batch, channels, height, width) of its images; () where it does not say.
        outputs: the shapes of what it returns; () where they are not known before it runs.
        run: images (n, 3, h, w), float32 in [0, 1], RGB, to the outputs of the model in PyTorch:
            (n, anchors, 5 + nc), of a segmentation model (n, anchors, 5 + nc + nm) and the
            prototypes (n, nm, h / 4, w / 4), all float32; boxes in px.
        inputs: how many it takes; more than images are too many.
        floats: its images, and what it returns, are float32.
        metadata: what stands in the file, unchecked: stride and names, as YOLOv5 writes them.
    """

    path: Path
    shape: Shape
    outputs: tuple[Shape, ...]
    run: Callable[[np.ndarray], Sequence[np.ndarray]]
    metadata: dict[str, Any] = field(default_factory=dict)
    inputs: int = 1
    floats: bool = True

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run it."""
        import numpy as np

        return [np.asarray(out, dtype=np.float32) for out in self.run(images)]


def refused(path: Path, runtime: str, error: Exception) -> InputError:
    """That a runtime does not open a file, in its own words."""
    why = " ".join(str(error).split())[:160] or type(error).__name__
    return InputError(path, f"{runtime} refuses it ({why})", "a file that was copied whole")


def beside(path: Path) -> dict[str, Any]:
    """The metadata of a file in a folder: a yaml of the same name, as YOLOv5 writes it.

    Returns:
        What stands in it; nothing where there is none.

    Raises:
        InputError: it cannot be read or is no mapping, or the .bin is of another network.
    """
    file = path.with_suffix(".yaml")
    if not file.is_file():
        return {}
    expected = "stride and names"
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:  # YOLOv5 fails on it
        raise InputError(file, "not UTF-8", "a text in UTF-8") from error
    data = parse(text, str(file), expected, names="names")
    if not isinstance(data, dict):
        raise InputError(file, f"a {type(data).__name__}", expected)
    weights = path.with_suffix(".bin")
    if DIGEST in data and weights.is_file() and digest(weights.read_bytes()) != data[DIGEST]:
        raise InputError(weights, "the weights of another model", f"those of {path.name}")
    return data


def digest(content: bytes) -> str:
    """What tells weights from others: SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def unheard(stream: int = 2) -> Iterator[None]:
    """What a library in C writes to stderr within the block is not seen; 1: to stdout."""
    (sys.stdout if stream == 1 else sys.stderr).flush()
    kept, nowhere = os.dup(stream), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream)
        yield
    finally:
        os.dup2(kept, stream)
        os.close(kept)
        os.close(nowhere)
