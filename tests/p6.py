"""A detector whose largest stride is 64, as those of YOLOv5's P6 models."""

from __future__ import annotations

from copy import deepcopy
from typing import Any


def p6_yaml(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny model with one more stride: it takes images in multiples of 64."""
    model = deepcopy(tiny)
    model["backbone"].insert(7, [-1, 1, "Conv", [256, 3, 2]])
    model["head"] = [[-1, 1, "Conv", [128, 1, 1]], [[4, 5, 9], 1, "Detect", ["nc", "anchors"]]]
    return model
