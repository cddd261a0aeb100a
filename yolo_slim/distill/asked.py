"""A model that is only asked in a training: a fused copy that does not learn."""

from __future__ import annotations

import torch
from torch import nn

from yolo_slim.host.compat import replaced
from yolo_slim.host.training import LOGGER
from yolo_slim.weight_masks import baked

LAYOUT = torch.channels_last  # the pass takes three quarters of the time in it


def asked(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of a detector for forward passes beside a training.

    Args:
        model: left untouched.
        device: where the copy lives.

    Returns:
        A detector in eval mode, fused, without gradients, in `LAYOUT`, that gives raw maps.
    """
    copy = baked(model).float().eval().requires_grad_(False)
    with replaced(LOGGER, disabled=True):
        copy = copy.fuse().requires_grad_(False)
    copy.model[-1].training = True  # raw maps
    return copy.to(device, memory_format=LAYOUT)
