"""What a TorchScript file costs: its MACs are counted while it runs."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from yolo_slim.measure.counted import Counted


@torch.no_grad()
def torchscript_cost(path: Path, shape: tuple[int, int, int, int]) -> Counted:
    """Count a TorchScript file, which has been opened before: it is whole.

    Args:
        path: the file.
        shape: (batch, channels, height, width) of the images.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated
        script = torch.jit.load(path, map_location="cpu")
    weights = list(script.parameters())
    with FlopCounterMode(display=False) as counter:
        script(torch.zeros(shape, dtype=weights[0].dtype if weights else None))
    macs = counter.get_total_flops() // 2
    return Counted(sum(w.numel() for w in weights), macs // shape[0])
