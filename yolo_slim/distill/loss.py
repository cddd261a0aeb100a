"""What a student differs from its teacher by: outputs (see `host.outputs`) and features.

Features after Romero et al. 2015: what the head reads, through a 1x1 conv that is thrown away
afterwards, since student and teacher have other channels. Departure: errors are shares of the
teacher's energy.
"""

from __future__ import annotations

import torch

from yolo_slim.host import outputs
from yolo_slim.host.outputs import Maps
from yolo_slim.numerics import relative_error

GAINS = {**outputs.GAINS, "features": 0.05}  # to the size of the host's losses
PARTS = tuple(GAINS)


def feature_part(adapted: Maps, teacher: Maps) -> torch.Tensor:
    """Mean over the scales of the squared error, a share of the teacher's energy.

    Args:
        adapted: (n, C, h, w), the student's features through the adapters.
        teacher: (n, C, h, w), a scale each.
    """
    parts = [relative_error(a, t) for a, t in zip(adapted, teacher, strict=True)]
    return torch.stack(parts).mean()
