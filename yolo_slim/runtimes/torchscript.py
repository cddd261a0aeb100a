"""TorchScript files in torch's own runtime."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.errors import InputError
from yolo_slim.runtimes.network import Network, refused


def read(path: Path, threads: int, exact: bool) -> Network:
    """Open a TorchScript file; its threads are those of PyTorch in this process.

    Raises:
        InputError: it is damaged, or what YOLOv5 notes in it is no JSON.
    """
    import torch

    extra: dict[str, Any] = {"config.txt": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated
            script = torch.jit.load(path, map_location="cpu", _extra_files=extra)
    except Exception as error:  # torch raises RuntimeError and others
        raise refused(path, "PyTorch", error) from error
    metadata = noted(path, extra["config.txt"])

    @torch.inference_mode()
    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = script(torch.from_numpy(images))
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        return [out.numpy() for out in outputs if isinstance(out, torch.Tensor)]

    return Network(path, tuple(metadata.get("shape", ())), (), run, metadata)


def noted(path: Path, text: str | bytes) -> dict[str, Any]:
    """Shape, stride and names, which YOLOv5 notes in the file as JSON; nothing where it did not.

    Raises:
        InputError: what stands there is something else.
    """
    if not text:
        return {}
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    try:
        metadata: dict[str, Any] = json.loads(text, object_hook=_with_numbers)
        shape = metadata["shape"]
        if len(shape) != 4 or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(shape)
    except (KeyError, TypeError, ValueError) as error:
        got, expected = repr(text)[:80], "shape, stride and names"
        raise InputError(f"{path}, config.txt", got, expected) from error
    return metadata


def _with_numbers(pairs: dict[str, Any]) -> dict[Any, Any]:
    """In JSON each key is a text; the names of classes are by number."""
    return {int(key) if key.isdecimal() else key: value for key, value in pairs.items()}
