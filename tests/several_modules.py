"""Modules that read several layers, with the constructors that such modules have: for the tests."""

from __future__ import annotations

import torch
from torch import nn


class AddOfTwo(nn.Module):
    """(c1, c2): one number for all; often with both written in the yaml."""

    def __init__(self, c1, c2):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.conv = nn.Conv2d(c1, c2, 1)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.conv(self.act(self.w[0] * x[0] + self.w[1] * x[1]))


class Projected(nn.Module):
    """(c1, c2) with a list: one number for each."""

    def __init__(self, c1, c2):
        super().__init__()
        self.m = nn.ModuleList(nn.Conv2d(c, c2, 1) for c in c1)

    def forward(self, x):
        return sum(m(part) for m, part in zip(self.m, x, strict=True))


class Fused(nn.Module):
    """(inc, mode): the channels alone, then what the yaml gives."""

    def __init__(self, inc, mode="bifpn"):
        super().__init__()
        self.mode = mode
        self.w = nn.Parameter(torch.ones(len(inc)))

    def forward(self, x):
        return sum(w * part for w, part in zip(self.w, x, strict=True))


class Weighted(nn.Module):
    """(length): how many layers it reads."""

    def __init__(self, length):
        super().__init__()
        self.w = nn.Parameter(torch.ones(length))

    def forward(self, x):
        return sum(self.w[i] * part for i, part in enumerate(x))


class WeightedConcat(nn.Module):
    """(dimension): as Concat; hands on more channels than each of what it reads has."""

    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return torch.cat([w * part for w, part in zip(self.w, x, strict=True)], self.d)


class Plus(nn.Module):
    """No argument at all."""

    def forward(self, x):
        return torch.stack(x).sum(0)
