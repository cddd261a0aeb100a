"""Exported files, run on images: what an export is compared by."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from yolo_slim.deploy.export import quiet
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.files import write_aside
from yolo_slim.host.classes import yolo
from yolo_slim.measure.latency import session
from yolo_slim.models import load

Outputs = Callable[[np.ndarray], Sequence[np.ndarray]]


def run_onnx(content: bytes, options: ExportOptions) -> Outputs:
    """In ONNX Runtime."""
    runtime = session(content, options.threads)
    return lambda images: runtime.run(None, {"images": images})


def run_torchscript(content: bytes, options: ExportOptions) -> Outputs:
    """In torch's own runtime."""
    with quiet():  # torch says that TorchScript is deprecated
        script = torch.jit.load(io.BytesIO(content))
    return lambda images: [out.numpy() for out in script(torch.from_numpy(images))]


def run_stock(content: bytes, options: ExportOptions) -> Outputs:
    """Loaded as any checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        model = load(write_aside(Path(folder) / "stock.pt", content)).model
    outputs = 2 if isinstance(model, yolo.SegmentationModel) else 1
    return lambda images: [
        out.detach().numpy() for out in model(torch.from_numpy(images))[:outputs]
    ]
