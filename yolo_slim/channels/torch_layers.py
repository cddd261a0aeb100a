"""The rules of torch.nn's modules: what goes channel by channel, what joins, what mixes.

What goes channel by channel hands its channels on. A module that sends something where its input
is 0, such as a sigmoid, would send it for a channel that is cut, too; what a cut channel sends is
moved on as a constant (see `pruning.recover.constants`), so here it is silent after the module. A
module that computes one channel from others, such as a LayerNorm, pins what it reads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import Ids
from yolo_slim.channels.registry import rule, walk
from yolo_slim.channels.tracer import NORMS, Tracer


@rule(nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.Hardswish, nn.Mish, nn.GELU, nn.ReLU6, nn.ELU, nn.CELU)
@rule(nn.SELU, nn.PReLU, nn.RReLU, nn.Tanh, nn.Softsign, nn.Hardtanh, nn.Tanhshrink)
@rule(nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Softplus)
@rule(nn.Threshold, nn.Hardshrink, nn.Softshrink)
def _activation(m: nn.Module, name: str, x: Ids, t: Tracer) -> Ids:
    parameters = list(m.parameters())
    if any(p.numel() > 1 for p in parameters):  # a PReLU with a slope a channel
        return t.each(name, m, x)
    zero = parameters[0].detach().new_zeros(1) if parameters else torch.zeros(1)
    return x if m(zero).item() == 0 else t.silence(name, x)


@rule(nn.Identity, nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
@rule(nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d)
@rule(nn.ZeroPad2d, nn.ZeroPad1d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d)
@rule(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
def _same(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return x


@rule(nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d)
def _max_pool(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    if m.return_indices:
        t.pin(x, f"read by {name}, which returns indices")
    if getattr(m, "_random_samples", None) is not None:
        t.pin(x, f"read by {name}, whose random samples are given channel by channel")
    return x


@rule(nn.ConstantPad1d, nn.ConstantPad2d)
def _constant_pad(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return x if m.value == 0 else t.silence(name, x)


@rule(nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d)
@rule(nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax)
def _mixing(m: nn.Module, name: str, x: Ids, t: Tracer) -> Ids:
    t.pin(x, f"read by {name}, {type(m).__name__}, which normalises over channels")
    return x


@rule(nn.InstanceNorm2d)
def _instance_norm(m: nn.InstanceNorm2d, name: str, x: Ids, t: Tracer) -> Ids:
    sized = m.weight is not None or m.running_mean is not None
    return t.silence(name, t.each(name, m, x)) if sized else x


@rule(nn.GLU)
def _glu(m: nn.GLU, name: str, x: Ids, t: Tracer) -> Ids:
    if m.dim not in (1, -3) and (t.channels()[name] or len(x)) == len(x):
        return x  # it halves the height or the width
    first, gates = np.split(x, 2)
    t.tie(first, gates)
    return first


@rule(nn.ChannelShuffle)
def _channel_shuffle(m: nn.ChannelShuffle, name: str, x: Ids, t: Tracer) -> Ids:
    parts = np.split(x, m.groups)
    for part in parts[1:]:
        t.tie(parts[0], part)
    return np.stack(parts, 1).ravel()


@rule(nn.PixelShuffle)
def _pixel_shuffle(m: nn.PixelShuffle, name: str, x: Ids, t: Tracer) -> Ids:
    taps = x.reshape(-1, m.upscale_factor**2)  # the channels that become the pixels of one
    for tap in taps.T[1:]:
        t.tie(taps[:, 0], tap)
    return taps[:, 0]


@rule(nn.PixelUnshuffle)
def _pixel_unshuffle(m: nn.PixelUnshuffle, name: str, x: Ids, t: Tracer) -> Ids:
    return np.repeat(x, m.downscale_factor**2)


@rule(nn.Flatten)
def _flatten(m: nn.Flatten, name: str, x: Ids, t: Tracer) -> Ids:
    if (m.start_dim, m.end_dim) != (1, -1):
        return t.dense(name, m, x)
    return np.repeat(x, (t.channels()[name] or len(x)) // len(x))  # each channel's pixels in a row


@rule(nn.Sequential)
def _sequential(m: nn.Sequential, name: str, x: Ids, t: Tracer) -> Ids:
    children = list(m._modules.items())  # one that stands there twice is run twice
    scaled = None  # the place of the BN that the conv before has been given
    for (child, module), (next_child, after) in pairwise([*children, ("", None)]):
        if isinstance(module, nn.Conv2d | nn.Linear) and isinstance(after, NORMS):
            x = t.conv(f"{name}.{child}", module, x, t.norm(f"{name}.{next_child}", after))
            scaled = next_child
        elif child != scaled:
            x = walk(module, f"{name}.{child}", x, t)
    return x


@rule(nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
def _bare_conv(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return t.conv(name, m, x)


@rule(*NORMS)
def _bare_norm(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    out = t.norm(name, m)
    t.tie(x, out)
    return out
