"""`--criterion auto`: which criterion a cut goes by, if it goes by images.

Measured in docs/results.md, "Criteria": right after a cut that leaves most of a model, obs keeps
most, but needs labels of the model's classes, and takes long for large models. Where much goes the
training that follows decides, and thinet is as good.
"""

from __future__ import annotations

from torch import nn

from yolo_slim.pruning.budget.target import Target

SMALL = 0.6  # share of MACs, parameters or latency that a small cut leaves at least
FEW = 0.25  # share of the channels that a small cut takes at most
LARGE = 10_000_000  # parameters: obs takes ten times as long as thinet for yolov5s, more beyond


def criterion_for(model: nn.Module, target: Target, labels: bool) -> str:
    """obs or thinet.

    Args:
        model: that is cut.
        target: of the cut.
        labels: the images have labels, of the model's classes.

    Example:
        >>> criterion_for(nn.Conv2d(8, 8, 3), Target("macs", 0.8), labels=True)
        'obs'
    """
    name, value = target.name, target.value
    small = value <= FEW if name == "percent" else name != "size_mb" and value >= SMALL
    light = sum(parameter.numel() for parameter in model.parameters()) <= LARGE
    return "obs" if labels and small and light else "thinet"
