"""Modules that use one conv, BatchNorm or weight in several places, with rules: for the tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from yolov5.models.common import Conv

from yolo_slim import rule, walk


class Twice(nn.Module):
    """A recursive block: one Conv, called again on what it wrote."""

    def __init__(self, c1, c2):
        super().__init__()
        self.cv = Conv(c1, c1, 3)
        self.out = Conv(c1, c2, 1)

    def forward(self, x):
        return self.out(self.cv(self.cv(x)))


@rule(Twice)
def _twice(m, name, x, t):
    y = walk(m.cv, f"{name}.cv", walk(m.cv, f"{name}.cv", x, t), t)
    return walk(m.out, f"{name}.out", y, t)


class BothHalves(nn.Module):
    """One Conv over each half of the channels."""

    def __init__(self, c1, c2):
        super().__init__()
        self.cv = Conv(c1 // 2, c2 // 2, 3)

    def forward(self, x):
        return torch.cat([self.cv(half) for half in x.chunk(2, 1)], 1)


@rule(BothHalves)
def _both_halves(m, name, x, t):
    return np.concatenate([walk(m.cv, f"{name}.cv", half, t) for half in np.split(x, 2)])


class TwoNames(nn.Module):
    """One Conv under two names."""

    def __init__(self, c1, c2):
        super().__init__()
        self.a = Conv(c1, c1, 3)
        self.b = self.a
        self.out = Conv(c1, c2, 1)

    def forward(self, x):
        return self.out(self.b(self.a(x)))


@rule(TwoNames)
def _two_names(m, name, x, t):
    y = walk(m.b, f"{name}.b", walk(m.a, f"{name}.a", x, t), t)
    return walk(m.out, f"{name}.out", y, t)


class TiedWeights(nn.Module):
    """Two Convs with one weight and one gamma, each with statistics and a beta of its own."""

    def __init__(self, c1, c2):
        super().__init__()
        self.a, self.b, self.out = Conv(c1, c1, 3), Conv(c1, c1, 3), Conv(c1, c2, 1)
        self.b.conv.weight = self.a.conv.weight
        self.b.bn.weight = self.a.bn.weight

    def forward(self, x):
        return self.out(self.b(self.a(x)))


@rule(TiedWeights)
def _tied_weights(m, name, x, t):
    y = walk(m.b, f"{name}.b", walk(m.a, f"{name}.a", x, t), t)
    return walk(m.out, f"{name}.out", y, t)


class OneNorm(nn.Module):
    """Two convs with one BatchNorm."""

    def __init__(self, c1, c2):
        super().__init__()
        self.a, self.b = nn.Conv2d(c1, c2, 1, bias=False), nn.Conv2d(c1, c2, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(c2)

    def forward(self, x):
        return self.bn(self.a(x)) + self.bn(self.b(x)).relu()


@rule(OneNorm)
def _one_norm(m, name, x, t):
    out = t.norm(f"{name}.bn", m.bn)
    t.conv(f"{name}.a", m.a, x, out)
    t.conv(f"{name}.b", m.b, x, t.norm(f"{name}.bn", m.bn))
    return out
