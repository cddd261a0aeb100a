"""VGG 11, 13, 16 and 19 with BatchNorm for images of 32 px, and its rule for yolo_slim.

The networks of Simonyan & Zisserman (2015, table 1, A, B, D and E) in the form that network
slimming used on CIFAR (Liu et al. 2017, section 4.1): BatchNorm after each conv, an average pool
and one linear layer in place of the last max pool and the three large ones, gammas that start
at 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim import InputError, rule, walk
from yolo_slim.host.checkpoint import write

POOL = "M"
CFGS: dict[int, list[int | str]] = {
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512],
    13: [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512],
    16: [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3],
    19: [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4],
}


class VGG(nn.Module):
    """Stacks of conv, BatchNorm and ReLU.

    Args:
        cfg: output channels of each conv, "M" for a max pool; four of these.
        classes: number of classes.

    Attributes:
        image: what it takes: channels, height, width; yolo_slim asks for it.
    """

    image = (3, 32, 32)

    def __init__(self, cfg: Sequence[int | str], classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = self.image[0]
        for entry in cfg:
            if entry == POOL:
                layers.append(nn.MaxPool2d(2))
                continue
            conv = nn.Conv2d(last, int(entry), 3, padding=1, bias=False)
            nn.init.normal_(conv.weight, std=math.sqrt(2 / (9 * conv.out_channels)))
            norm = nn.BatchNorm2d(conv.out_channels)
            nn.init.constant_(norm.weight, 0.5)
            layers += [conv, norm, nn.ReLU(inplace=True)]
            last = conv.out_channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(2)
        self.classifier = nn.Linear(last, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 32, 32) to (n, classes)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))

    @property
    def cfg(self) -> list[int | str]:
        """What builds it: also after a cut, when the counts are what is left."""
        return [
            m.out_channels if isinstance(m, nn.Conv2d) else POOL
            for m in self.features
            if isinstance(m, nn.Conv2d | nn.MaxPool2d)
        ]


@rule(VGG)
def _vgg(m, name, x, t):
    # The pools leave one pixel of each channel, so that flatten changes nothing.
    return t.conv(f"{name}.classifier", m.classifier, walk(m.features, f"{name}.features", x, t))


def scaled(cfg: Sequence[int | str], width: float) -> list[int | str]:
    """A cfg with this share of the channels in each layer, at least one."""
    return [c if isinstance(c, str) else max(1, round(c * width)) for c in cfg]


def save(model: VGG, path: Path, record: dict[str, Any]) -> Path:
    """Write a checkpoint: weights, the cfg that builds the model, and what is known of it."""
    state = {key: value.cpu() for key, value in model.state_dict().items()}
    return write(path, {"cfg": model.cfg, "state_dict": state, "record": record})


def load(path: Path) -> tuple[VGG, dict[str, Any]]:
    """Open a checkpoint that `save` wrote; nothing in it is run.

    Returns:
        The model, and its record.

    Raises:
        InputError: no such file, or not such a checkpoint.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "a checkpoint of the step before")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        state = data["state_dict"]
        model = VGG(data["cfg"], len(state["classifier.bias"]))
        model.load_state_dict(state)
        return model.eval(), dict(data["record"])
    except Exception as error:  # torch raises a dozen types on damaged files
        raise InputError(path, "not a checkpoint of this example", "one") from error
