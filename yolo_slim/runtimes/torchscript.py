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
    text = extra["config.txt"] or "{}"
    try:
        metadata = json.loads(text)
    except ValueError as error:
        got = repr(text)[:80]
        raise InputError(f"{path}, config.txt", got, "shape, stride and names") from error

    @torch.inference_mode()
    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = script(torch.from_numpy(images))
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        return [out.numpy() for out in outputs if isinstance(out, torch.Tensor)]

    return Network(path, tuple(metadata.get("shape", ())), (), run, metadata)
