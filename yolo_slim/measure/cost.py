"""What a model costs: parameters, MACs, bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of one image (one fused multiply-add = 1), convs and matrix products.
        imgsz: side of that square image, px.
        bytes: size of its file; None where there is none.
    """

    params: int
    macs: int
    imgsz: int
    bytes: int | None = None


@torch.no_grad()
def cost(model: nn.Module, imgsz: int = 640, file: Path | None = None) -> Cost:
    """Count a model with torch's own FLOP counter (two FLOPs a MAC). The model is left untouched.

    Args:
        model: a YOLOv5 detector.
        imgsz: side of the square image, px.
        file: its checkpoint, for the size in bytes.
    """
    training, stride = model.training, int(max(model.stride.max(), 32))
    parameter = next(model.parameters())
    image = torch.zeros(1, int(model.yaml.get("ch", 3)), stride, stride).to(parameter)
    counter = FlopCounterMode(display=False)
    try:
        model.eval()
        with counter:
            model(image)
    finally:
        model.train(training)
    macs = counter.get_total_flops() * imgsz**2 // (2 * stride**2)  # convs scale with the area
    params = sum(p.numel() for p in model.parameters())
    return Cost(params, int(macs), imgsz, file.stat().st_size if file else None)
