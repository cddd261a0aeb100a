"""Files .tflite, in LiteRT."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.errors import InputError
from yolo_slim.runtimes.network import Network, refused, unheard

ARCHIVE = b"PK\x03\x04\x14\x00\x00\x00"  # begins a file in a zip archive


def read(path: Path, threads: int, exact: bool) -> Network:
    """Open a .tflite file; its arithmetic is that of the file.

    The file takes images (batch, height, width, 3), and gives boxes as shares of the image's sides.

    Raises:
        InputError: it is damaged, or LiteRT does not run it.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with unheard():
            interpreter = Interpreter(str(path), num_threads=threads)
            interpreter.allocate_tensors()
        image, *_ = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
    except Exception as error:  # LiteRT raises ValueError and RuntimeError
        raise refused(path, "LiteRT", error) from error
    batch, height, width, channels = (int(size) for size in image["shape"])
    sides = np.array([width, height, width, height], np.float32)

    def run(images: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(image["index"], np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
        interpreter.invoke()
        rows, *rest = (interpreter.get_tensor(out["index"]) for out in outputs)
        rows[..., :4] *= sides
        return [rows, *rest]

    shapes = tuple(tuple(int(size) for size in out["shape"]) for out in outputs)
    return Network(path, (batch, channels, height, width), shapes, run, noted(path))


def noted(path: Path) -> dict[str, Any]:
    """Stride and names, from the zip archive behind the file; nothing where there is none.

    Raises:
        InputError: what stands there is no dict of plain values, or is cut off.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
    except (zipfile.BadZipFile, IndexError):
        if ARCHIVE in path.read_bytes():
            expected = "a file that was copied whole"
            raise InputError(path, "its end, with stride and names, is cut off", expected) from None
        return {}
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, metadata", "bytes", "a text with stride and names") from error
    try:
        metadata = ast.literal_eval(text)
    except Exception as error:  # code, or a text that no parser takes
        raise InputError(f"{path}, metadata", repr(text)[:80], "plain values, no code") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{path}, metadata", repr(text)[:80], "stride and names")
    return metadata
