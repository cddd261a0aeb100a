"""Exported files, opened to be compared and timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from yolo_slim.host.classes import yolo
from yolo_slim.models import load
from yolo_slim.runtimes import opened

Outputs = Callable[[np.ndarray], Sequence[np.ndarray]]


def run_file(path: Path, threads: int, exact: bool) -> Outputs:
    """In the runtime that the file is made for."""
    return opened(path, threads, exact=exact)


def run_stock(path: Path, threads: int, exact: bool) -> Outputs:
    """Loaded as any checkpoint."""
    model = load(path).model
    outputs = 2 if isinstance(model, yolo.SegmentationModel) else 1
    return lambda images: [
        out.detach().numpy() for out in model(torch.from_numpy(images))[:outputs]
    ]
