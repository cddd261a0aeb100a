"""`channel_graph`, and the rules of YOLOv5's modules; those of torch.nn's are in `torch_layers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels import torch_layers  # noqa: F401 (registers rules)
from yolo_slim.channels.graph import FREE, ChannelGraph, Ids, join
from yolo_slim.channels.registry import RULES, SIZED, from_outside, rule, walk
from yolo_slim.channels.residual import RESIDUAL, Residual
from yolo_slim.channels.tracer import NORMS, Tracer
from yolo_slim.errors import InputError
from yolo_slim.host.classes import common, experimental, yolo
from yolo_slim.host.image import check_model, is_detector, smallest_image
from yolo_slim.host.running import FIT, layers_named
from yolo_slim.models.modules import (
    BottleneckPruned,
    C3Pruned,
    SegmentPruned,
    SPPFPruned,
    SPPPruned,
)

__all__ = ["RULES", "channel_graph", "from_outside", "output_channels", "rule", "walk"]


def channel_graph(model: nn.Module, residual: Residual = "skip") -> ChannelGraph:
    """Read the channel graph of a model.

    Args:
        model: a YOLOv5 DetectionModel or SegmentationModel, pruned or not; or any module whose
            class has a rule and that names its image (see `smallest_image`). Its modules are looked
            at; it is run, on an empty image, only if one of them has no rule or one from outside.
        residual: what may be cut around a residual add. "skip": nothing in the Bottleneck, nor what
            enters the add; "inner": the Bottleneck's inner channels; "group": all, tied together.

    Raises:
        InputError: `residual` is none of the three, the layers do not fit together, or the model
            is none of those above.

    Example:
        >>> from yolo_slim import channel_graph
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> graph = channel_graph(model)
        >>> graph.prunable_channels, graph.channels
        (3712, 4752)
        >>> graph.norms["model.0.bn"].readers
        ('model.1.conv',)
        >>> graph.norms["model.2.cv1.bn"].pinned
        'added in model.2.m.0'
    """
    check_model(model)
    if not isinstance(residual, str) or residual not in RESIDUAL:
        raise InputError("residual", repr(residual)[:80], "skip, inner or group")
    modules = dict(model.named_modules(remove_duplicate=False))
    tracer = Tracer(residual, cache(lambda: output_channels(model)), modules)
    image = np.full(smallest_image(model)[0], FREE)
    if is_detector(model):
        _walk_layers(model, image, tracer)
    elif type(model) in RULES:
        _walk_fitting(model, "", image, tracer)
    else:
        got, expected = "no YOLOv5 detector, and no rule", "a class with a rule: @rule(Class)"
        raise InputError(type(model).__name__, got, expected)
    for name in [*tracer.norms, *tracer.convs, *tracer.rows]:
        if name not in modules:
            raise InputError(name, "named by a rule", "the name of a module of the model")
    return tracer.finish()


def _walk_layers(model: nn.Module, x: Any, tracer: Tracer) -> None:
    """The layers of a YOLOv5 model, each of which says whose outputs it reads."""
    outputs: list[Any] = []
    for layer in model.model:
        if layer.f != -1:
            sources = [layer.f] if isinstance(layer.f, int) else layer.f
            x = [x if i == -1 else outputs[i] for i in sources]
            x = x[0] if isinstance(layer.f, int) else x
        x = _walk_fitting(layer, f"model.{layer.i}", x, tracer)
        outputs.append(x)
        if isinstance(x, np.ndarray):
            tracer.outputs[f"model.{layer.i}"] = x


def _walk_fitting(module: nn.Module, name: str, x: Any, tracer: Tracer) -> Any:
    try:
        return walk(module, name, x, tracer)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError) or not (name or isinstance(error, AssertionError)):
            raise
        got = f"{type(error).__name__}: {error}"  # a child is missing, or another than YOLOv5's
        got = str(error) if isinstance(error, AssertionError) else f"it cannot be read ({got})"
        raise InputError(name or type(module).__name__, got, FIT) from error


@torch.no_grad()
def output_channels(model: nn.Module) -> dict[str, Any]:
    """Channels of the output of each module that has no rule, or one from outside the package.

    They are seen by running the model once. So are those of a module in SIZED.

    Returns:
        Module name to an int, or to a list of ints where it returns several tensors; None: as many
        as it reads (a module that the model uses in several places).

    Raises:
        InputError: the model does not take the image that it names.
    """
    by_name: dict[str, Any] = {}

    def look(name: str, shared: bool) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                read = inputs[0] if inputs and isinstance(inputs[0], torch.Tensor) else output
                same = shared and output.shape[1] == read.shape[1]
                by_name[name] = None if same else output.shape[1]
            elif isinstance(output, list | tuple):
                by_name[name] = [t.shape[1] for t in output if isinstance(t, torch.Tensor)]

        return hook

    everything = list(model.named_modules(remove_duplicate=False))
    uses = Counter(id(module) for _, module in everything)
    modules = [
        (n, m, uses[id(m)] > 1)
        for n, m in everything
        if type(m) not in RULES or from_outside(type(m)) or type(m) in SIZED
    ]
    handles = [module.register_forward_hook(look(n, shared)) for n, module, shared in modules]
    modes = {module: module.training for module in model.modules()}
    detector, (channels, height, width) = is_detector(model), smallest_image(model)
    cells = 2 if detector else 1
    image = torch.zeros(2, channels, cells * height, cells * width)
    try:
        model.eval()
        if detector:
            model.model[-1].training = True  # the head makes no grids then
        with layers_named(""):
            model(image.to(next(model.parameters())))
    except Exception as error:  # a module of the user's may raise anything
        if isinstance(error, InputError):
            raise
        if detector:
            raise InputError("model", f"it does not run ({str(error)[:120]})", FIT) from error
        got = f"{(channels, height, width)}, on which it fails ({str(error)[:120]})"
        raise InputError(f"{type(model).__name__}.image", got, "an image that it takes") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return by_name


@rule(common.Conv, common.DWConv)
def _conv(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    bn = getattr(m, "bn", None)  # a fused one has none
    if not isinstance(bn, NORMS):
        raise InputError(name, f"{type(m).__name__} without a BatchNorm", "an unfused one, with it")
    out = t.conv(f"{name}.conv", m.conv, x, t.norm(f"{name}.bn", bn))
    return walk(m.act, f"{name}.act", out, t)


@rule(common.DWConvTranspose2d)
def _depthwise(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return t.conv(name, m, x)


@rule(common.Concat)
def _concat(m: Any, name: str, x: list[Ids], t: Tracer) -> Ids:
    if m.d in (1, -3):
        return join(x)
    for other in x[1:]:  # side by side in height or width: the channels are the same
        t.tie(x[0], other)
    return x[0]


@rule(experimental.Sum)
def _sum(m: Any, name: str, x: list[Ids], t: Tracer) -> Ids:
    out = x[0]
    for other in x[1:]:
        out = t.add(name, out, other)
    return out


@rule(common.Contract)
def _contract(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return join([x] * m.gain**2)


@rule(common.Expand)
def _expand(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    parts = np.split(x, m.gain**2)
    for part in parts[1:]:
        t.tie(parts[0], part)
    return parts[0]


@rule(common.Focus)
def _focus(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return walk(m.conv, f"{name}.conv", join([x] * 4), t)


@rule(common.Bottleneck, common.CrossConv, BottleneckPruned)
def _bottleneck(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    inner = walk(m.cv1, f"{name}.cv1", x, t)
    out = walk(m.cv2, f"{name}.cv2", inner, t)
    if not m.add:
        return out
    t.branch(name, x, inner, out)
    return t.add(name, x, out, [inner])


@rule(common.C3, common.C3x, common.C3TR, common.C3SPP, common.C3Ghost, C3Pruned)
def _c3(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    deep = walk(m.m, f"{name}.m", walk(m.cv1, f"{name}.cv1", x, t), t)
    return walk(m.cv3, f"{name}.cv3", join([deep, walk(m.cv2, f"{name}.cv2", x, t)]), t)


@rule(common.BottleneckCSP)
def _bottleneck_csp(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    deep = walk(m.m, f"{name}.m", walk(m.cv1, f"{name}.cv1", x, t), t)
    out, first = t.norm(f"{name}.bn", m.bn), m.cv3.out_channels  # one BN for both convs
    t.conv(f"{name}.cv3", m.cv3, deep, out[:first])
    t.conv(f"{name}.cv2", m.cv2, x, out[first:])
    return walk(m.cv4, f"{name}.cv4", walk(m.act, f"{name}.act", out, t), t)


@rule(common.SPPF, SPPFPruned)
def _sppf(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    parts = [walk(m.cv1, f"{name}.cv1", x, t)]
    for _ in range(3):
        parts.append(walk(m.m, f"{name}.m", parts[-1], t))
    return walk(m.cv2, f"{name}.cv2", join(parts), t)


@rule(common.SPP, SPPPruned)
def _spp(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    y = walk(m.cv1, f"{name}.cv1", x, t)
    pooled = [walk(pool, f"{name}.m.{i}", y, t) for i, pool in enumerate(m.m)]
    return walk(m.cv2, f"{name}.cv2", join([y, *pooled]), t)


@rule(common.GhostConv)
def _ghost_conv(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    y = walk(m.cv1, f"{name}.cv1", x, t)
    return join([y, walk(m.cv2, f"{name}.cv2", y, t)])


@rule(common.GhostBottleneck)
def _ghost_bottleneck(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    inside, ends = [], []
    for branch in ("conv", "shortcut"):
        out, module = x, getattr(m, branch)
        for child, part in module._modules.items():
            out = walk(part, f"{name}.{branch}.{child}", out, t)
            inside.append(out)
        ends.append(out)
    return t.add(name, ends[1], ends[0], inside)


@rule(experimental.MixConv2d)
def _mix_conv(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    out, start = t.norm(f"{name}.bn", m.bn), 0
    for i, conv in enumerate(m.m):
        t.conv(f"{name}.m.{i}", conv, x, out[start : start + conv.out_channels])
        start += conv.out_channels
    return walk(m.act, f"{name}.act", out, t)


@rule(common.TransformerBlock)
def _transformer(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    x = x if m.conv is None else walk(m.conv, f"{name}.conv", x, t)
    t.pin(x, f"read by the attention of {name}")
    return np.full(m.c2, FREE)


@rule(common.Proto)
def _proto(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    y = walk(m.cv2, f"{name}.cv2", walk(m.cv1, f"{name}.cv1", x, t), t)
    out = walk(m.cv3, f"{name}.cv3", y, t)
    t.pin(out, f"the masks of {name}")
    return out


@rule(yolo.Detect)
def _detect(m: Any, name: str, x: list[Ids], t: Tracer) -> Ids:
    return join(t.conv(f"{name}.m.{i}", conv, x[i]) for i, conv in enumerate(m.m))


@rule(yolo.Segment, SegmentPruned)
def _segment(m: Any, name: str, x: list[Ids], t: Tracer) -> Ids:
    walk(m.proto, f"{name}.proto", x[0], t)
    return _detect(m, name, x, t)
