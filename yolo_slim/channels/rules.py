"""One rule a module type: how channels go through it.

A rule is `rule(module, name, x, tracer) -> ids of its output`. `x` is the ids (C,) of what it
reads, a list of them where a YOLOv5 layer has several inputs. A subclass has a rule of its own or
none: its forward may differ from its parent's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import FREE, ChannelGraph, Ids, Residual, Tracer, join
from yolo_slim.errors import InputError
from yolo_slim.host.checkpoint import common, yolo
from yolo_slim.pruning.modules import BottleneckPruned, C3Pruned, SPPFPruned, SPPPruned

Rule = Callable[[Any, str, Any, Tracer], Ids]
RULES: dict[type[nn.Module], Rule] = {}


def rule(*types: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Decorator: the function is the rule of these module types."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(types, function))
        return function

    return register


def walk(module: nn.Module, name: str, x: Any, tracer: Tracer) -> Ids:
    """Apply the rule of a module.

    Raises:
        InputError: its type has no rule.
    """
    found = RULES.get(type(module))
    if found is None:
        known = ", ".join(sorted({t.__name__ for t in RULES}))
        raise InputError(name, f"a {type(module).__name__}", f"a module that has a rule ({known})")
    return found(module, name, x, tracer)


def channel_graph(model: nn.Module, residual: Residual = "skip") -> ChannelGraph:
    """Read the channel graph of a YOLOv5 detector.

    Args:
        model: a DetectionModel or ModelPruned; only its modules are looked at, nothing is run.
        residual: what may be cut around a residual add. "skip": nothing in the Bottleneck, nor what
            enters the add; "inner": the Bottleneck's inner channels; "group": all, tied together.

    Raises:
        InputError: a module type has no rule; `residual` is none of the three.
    """
    if residual not in ("skip", "inner", "group"):
        raise InputError("residual", repr(residual), "skip, inner or group")
    tracer = Tracer(residual)
    outputs: list[Ids] = []
    x: Any = np.full(3, FREE)
    for layer in model.model:
        if layer.f != -1:
            sources = [layer.f] if isinstance(layer.f, int) else layer.f
            x = [x if i == -1 else outputs[i] for i in sources]
            x = x[0] if isinstance(layer.f, int) else x
        if layer.i == 0:
            x = np.full(first_conv(layer).in_channels, FREE)
        x = walk(layer, f"model.{layer.i}", x, tracer)
        outputs.append(x)
    return tracer.finish()


def first_conv(module: nn.Module) -> nn.Conv2d:
    """The first Conv2d in a module: its in_channels are those of the image."""
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d))


@rule(common.Conv, common.DWConv)
def _conv(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    out = t.norm(f"{name}.bn", m.bn)
    if m.act(torch.zeros(1)).item() != 0:
        t.pin(out, f"{name}.act sends a constant where its input is 0")
    return t.conv(f"{name}.conv", m.conv, x, out)


@rule(nn.Identity, nn.Upsample, nn.MaxPool2d)
def _same(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return x


@rule(nn.Sequential)
def _sequential(m: nn.Sequential, name: str, x: Ids, t: Tracer) -> Ids:
    for child, module in m.named_children():
        x = walk(module, f"{name}.{child}", x, t)
    return x


@rule(common.Concat)
def _concat(m: Any, name: str, x: list[Ids], t: Tracer) -> Ids:
    return join(x)


@rule(common.Bottleneck, BottleneckPruned)
def _bottleneck(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    inner = walk(m.cv1, f"{name}.cv1", x, t)
    out = walk(m.cv2, f"{name}.cv2", inner, t)
    if m.add:
        t.tie(x, out)
        if t.residual != "group":
            t.pin(join([x, out]), f"added in {name}")
        if t.residual == "skip":
            t.pin(inner, f"inside the residual {name}")
    return out


@rule(common.C3, C3Pruned)
def _c3(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    deep = walk(m.m, f"{name}.m", walk(m.cv1, f"{name}.cv1", x, t), t)
    return walk(m.cv3, f"{name}.cv3", join([deep, walk(m.cv2, f"{name}.cv2", x, t)]), t)


@rule(common.SPPF, SPPFPruned)
def _sppf(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return walk(m.cv2, f"{name}.cv2", join([walk(m.cv1, f"{name}.cv1", x, t)] * 4), t)


@rule(common.SPP, SPPPruned)
def _spp(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    y = walk(m.cv1, f"{name}.cv1", x, t)
    return walk(m.cv2, f"{name}.cv2", join([y] * (len(m.m) + 1)), t)


@rule(yolo.Detect)
def _detect(m: Any, name: str, x: list[Ids], t: Tracer) -> Ids:
    return join(t.conv(f"{name}.m.{i}", conv, x[i]) for i, conv in enumerate(m.m))
