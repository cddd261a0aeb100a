"""Modules that have no rule, as users put them into YOLOv5: written for the tests."""

from __future__ import annotations

import torch
from models.common import Conv  # as in a clone
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual


class CBAM(nn.Module):
    """Channel and spatial attention, after Woo et al. 2018."""

    def __init__(self, c1, c2, k=7, r=4):
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(c1, c1 // r, 1), nn.ReLU(), nn.Conv2d(c1 // r, c1, 1))
        self.spatial = nn.Conv2d(2, 1, k, padding=k // 2, bias=False)

    def forward(self, x):
        mean, top = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * (self.gate(mean) + self.gate(top)).sigmoid()
        both = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        return x * self.spatial(both).sigmoid()


class SEBlock(nn.Module):
    """Squeeze and excitation; takes what stands in the yaml, as the host treats such a module."""

    def __init__(self, channels, r=4):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, channels // r), nn.ReLU())
        self.out = nn.Linear(channels // r, channels)

    def forward(self, x):
        gate = self.out(self.fc(x.mean((2, 3)))).sigmoid()
        return x * gate[:, :, None, None]


class ShuffleUnit(nn.Module):
    """ShuffleNet V2 unit, after Ma et al. 2018: split, convs on one half, join, shuffle."""

    def __init__(self, inp, oup, stride):
        super().__init__()
        half, self.stride = oup // 2, stride
        entering = inp if stride > 1 else half
        self.past = nn.Sequential()
        if stride > 1:
            self.past = nn.Sequential(
                nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                Conv(inp, half, 1),
            )
        self.main = nn.Sequential(
            Conv(entering, half, 1),
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            Conv(half, half, 1),
        )

    def forward(self, x):
        a, b = x.chunk(2, 1) if self.stride == 1 else (x, x)
        y = torch.cat((self.past(a), self.main(b)), 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class MobileBlock(nn.Module):
    """A block of torchvision, wrapped so that it can stand in a yaml."""

    def __init__(self, c1, c2, stride=1):
        super().__init__()
        self.block = InvertedResidual(c1, c2, stride, 4)

    def forward(self, x):
        return self.block(x)


class Repeats(nn.Module):
    """Takes the number of repeats after the channels, as C3 does."""

    def __init__(self, c1, c2, n=1):
        super().__init__()
        self.m = nn.Sequential(*(Conv(c2 if i else c1, c2, 3) for i in range(n)))

    def forward(self, x):
        return self.m(x)


class Blur(nn.Module):
    """Has no weights: how it was built shows in its settings alone."""

    def __init__(self, c1, c2, k=5):
        super().__init__()
        self.pool = nn.AvgPool2d(k, 1, k // 2)

    def forward(self, x):
        return self.pool(x)
