"""Models of older YOLOv5s, brought to the form of 7.0."""

from __future__ import annotations

import torch
from torch import nn

from yolo_slim.host.classes import yolo


def modernise_(model: nn.Module) -> None:
    """Bring a model of an older YOLOv5 to the form that 7.0 expects; fp32 and eval, in place.

    Mends: Detect.anchor_grid as a buffer (before 6.1), a grid cached for
    another image size, Upsample without recompute_scale_factor (torch < 1.11), no `inplace`; and
    the SyncBatchNorm of a training on several GPUs.
    """
    detect = model.model[-1]
    if "anchor_grid" in detect._buffers:
        del detect._buffers["anchor_grid"]
    detect.grid = [torch.empty(0) for _ in range(detect.nl)]
    detect.anchor_grid = [torch.empty(0) for _ in range(detect.nl)]
    detect.nc, detect.nl, detect.na, detect.no = map(
        int, (detect.nc, detect.nl, detect.na, detect.no)
    )
    model.stride = detect.stride
    detect.export = detect.dynamic = False  # as AutoShape and exports leave them
    model.nc = int(detect.nc)
    model.inplace = getattr(model, "inplace", True)
    for module in model.modules():
        if type(module) is nn.SyncBatchNorm:  # --sync-bn: it needs GPUs, its numbers do not
            module.__class__ = nn.BatchNorm2d
        if isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None
        if isinstance(
            module, yolo.Detect | nn.SiLU | nn.Hardswish | nn.LeakyReLU | nn.ReLU | nn.ReLU6
        ):
            module.inplace = getattr(module, "inplace", True)
    model.float().eval()
