"""Modules of one's own, with rules: python prune.py --modules examples/my_modules.py ...

In a model yaml they stand as YOLOv5's do: [-1, 1, SE, [256]], [-1, 1, Residual, [256]],
[[-1, 6], 1, WeightedAdd, [256]].
"""

import torch
from torch import nn
from yolov5.models.common import Conv

from yolo_slim import rule, walk


class SE(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): each channel times a gate of its own."""

    def __init__(self, c1: int, c2: int, r: int = 4) -> None:  # c1 == c2
        super().__init__()
        self.reduce = nn.Conv2d(c1, c1 // r, 1)
        self.expand = nn.Conv2d(c1 // r, c1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.expand(self.reduce(mean).relu()).sigmoid()


@rule(SE)
def _se(m, name, x, t):
    inner = t.conv(f"{name}.reduce", m.reduce, x)
    t.conv(f"{name}.expand", m.expand, inner, out=x)  # a gate goes with the channel that it gates
    return x


class Residual(nn.Module):
    """Two convs and an add."""

    def __init__(self, c1: int, c2: int) -> None:  # c1 == c2
        super().__init__()
        self.cv1 = Conv(c1, c2, 3)
        self.cv2 = Conv(c2, c2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.cv2(self.cv1(x))


@rule(Residual)
def _residual(m, name, x, t):
    inner = walk(m.cv1, f"{name}.cv1", x, t)
    out = walk(m.cv2, f"{name}.cv2", inner, t)
    return t.add(name, x, out, inside=[inner])


class WeightedAdd(nn.Module):
    """The weighted add of BiFPN (Tan et al. 2020): it reads two layers with as many channels."""

    def __init__(self, c1: int, c2: int) -> None:  # c1 of each of them
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.conv = Conv(c1, c2, 1)

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
        share = self.weight.relu() / (self.weight.relu().sum() + 1e-4)
        return self.conv(share[0] * x[0] + share[1] * x[1])


@rule(WeightedAdd)
def _weighted_add(m, name, x, t):
    t.tie(x[0], x[1])  # what is added is cut together
    return walk(m.conv, f"{name}.conv", x[0], t)


class SpatialAttention(nn.Module):
    """The spatial half of CBAM (Woo et al. 2018). It has no rule: what feeds it is not cut."""

    def __init__(self, c1: int, c2: int, k: int = 7) -> None:  # c1 == c2
        super().__init__()
        self.conv = nn.Conv2d(2, 1, k, padding=k // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        return x * self.conv(both).sigmoid()
