"""One rule a module type: how channels go through it.

A rule is `rule(module, name, x, tracer) -> ids of its output`. `x` is the ids (C,) of what it
reads, a list of them where a YOLOv5 layer has several inputs. A subclass has a rule of its own or
none: its forward may differ from its parent's. A module without a rule is left as it is, and what
it reads keeps all its channels. To add a type, write a rule: nothing else is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import FREE, ChannelGraph, Ids, Tracer, join
from yolo_slim.channels.residual import RESIDUAL, Residual
from yolo_slim.errors import InputError
from yolo_slim.host.classes import common, experimental, yolo
from yolo_slim.host.image import is_detector, smallest_image
from yolo_slim.models.modules import (
    BottleneckPruned,
    C3Pruned,
    SegmentPruned,
    SPPFPruned,
    SPPPruned,
)

Rule = Callable[[Any, str, Any, Tracer], Ids]
RULES: dict[type[nn.Module], Rule] = {}
SIZED = (nn.Flatten,)  # how many channels come out is a matter of the image


def rule(*types: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Decorator: the function is the rule of these module types.

    A rule is called with a module, its name, the ids (C,) of the channels that it reads and the
    `Tracer`; it returns the ids of its output. What is inside it is left to their rules (`walk`).

    Example:
        >>> from torch import nn
        >>> from yolo_slim import channel_graph, rule, walk
        >>> class Scaled(nn.Module):
        ...     image = (3, 8, 8)
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        ...         self.last = nn.Conv2d(4, 2, 1)
        ...     def forward(self, x):
        ...         return self.last(0.5 * self.layers(x))
        >>> @rule(Scaled)
        ... def scaled(module, name, x, tracer):
        ...     x = walk(module.layers, f"{name}.layers", x, tracer)
        ...     return walk(module.last, f"{name}.last", x, tracer)
        >>> channel_graph(Scaled()).norms["layers.1"].readers
        ('last',)
    """

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(types, function))
        return function

    return register


def walk(module: nn.Module, name: str, x: Any, tracer: Tracer) -> Any:
    """Apply the rule of a module, or leave a module that has none dense.

    Raises:
        InputError: a rule from outside the package fails, or returns what cannot be.
    """
    apply_rule, name = RULES.get(type(module)), name.removeprefix(".")
    if apply_rule is None:
        return tracer.dense(name, module, x)
    if not from_outside(type(module)):
        return apply_rule(module, name, x, tracer)
    where = f"the rule of {type(module).__name__} for {name or 'the model'}"
    try:
        out = apply_rule(module, name, x, tracer)
    except InputError:
        raise
    except Exception as error:  # whatever the rule does
        got = f"{type(error).__name__} ({str(error)[:120]})"
        raise InputError(where, got, "a rule as in docs/own-modules.md") from error
    if not isinstance(out, np.ndarray) or out.ndim != 1:
        raise InputError(where, f"a {type(out).__name__} returned", "the ids of its output, (C,)")
    channels = tracer.channels().get(name)
    if isinstance(channels, int) and len(out) != channels:
        raise InputError(where, f"{len(out)} ids", f"the {channels} channels of its output")
    return out


def from_outside(cls: type[nn.Module]) -> bool:
    """True if the rule of this type is not of this package."""
    return cls in RULES and not RULES[cls].__module__.startswith("yolo_slim.")


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
    if residual not in RESIDUAL:
        raise InputError("residual", repr(residual), "skip, inner or group")
    tracer = Tracer(residual, cache(lambda: output_channels(model)))
    image = np.full(smallest_image(model)[0], FREE)
    if is_detector(model):
        _walk_layers(model, image, tracer)
    elif type(model) in RULES:
        _walk_fitting(model, "", image, tracer)
    else:
        got, expected = "no YOLOv5 detector, and no rule", "a class with a rule: @rule(Class)"
        raise InputError(type(model).__name__, got, expected)
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for name in [*tracer.norms, *tracer.convs]:
        if name not in known:
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
    except AssertionError as error:
        where = name or type(module).__name__
        raise InputError(where, str(error), "layers that fit together") from error


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
                same = shared and output.shape[1] == inputs[0].shape[1]
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
        model(image.to(next(model.parameters())))
    except RuntimeError as error:
        if detector:
            raise
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
    if not isinstance(bn, nn.BatchNorm2d | nn.SyncBatchNorm):
        raise InputError(name, f"{type(m).__name__} without a BatchNorm", "an unfused one, with it")
    out = t.conv(f"{name}.conv", m.conv, x, t.norm(f"{name}.bn", bn))
    return walk(m.act, f"{name}.act", out, t)


@rule(nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.Hardswish, nn.Mish, nn.GELU, nn.ReLU6, nn.ELU, nn.CELU)
@rule(nn.SELU, nn.PReLU, nn.Tanh, nn.Softsign, nn.Hardtanh, nn.Tanhshrink)
@rule(nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Softplus)
def _activation(m: nn.Module, name: str, x: Ids, t: Tracer) -> Ids:
    parameters = list(m.parameters())
    if any(p.numel() > 1 for p in parameters):
        t.pin(x, f"{name} has a parameter a channel")
    elif m(torch.zeros(1).to(*(p.device for p in parameters))).item() != 0:
        t.pin(x, f"{name} sends a constant where its input is 0")
    return x


@rule(nn.Identity, nn.Upsample, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.ZeroPad2d)
@rule(nn.Dropout, nn.Dropout2d)
def _same(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return x


@rule(nn.Flatten)
def _flatten(m: nn.Flatten, name: str, x: Ids, t: Tracer) -> Ids:
    if (m.start_dim, m.end_dim) != (1, -1):
        return t.dense(name, m, x)
    return np.repeat(x, (t.channels()[name] or len(x)) // len(x))  # each channel's pixels in a row


@rule(nn.Sequential)
def _sequential(m: nn.Sequential, name: str, x: Ids, t: Tracer) -> Ids:
    children = list(m.named_children())
    scaled = None  # the BN that the conv before has been given
    for (child, module), (next_child, after) in pairwise([*children, ("", None)]):
        if isinstance(module, nn.Conv2d | nn.Linear) and isinstance(after, nn.BatchNorm2d):
            x = t.conv(f"{name}.{child}", module, x, t.norm(f"{name}.{next_child}", after))
            scaled = after
        elif module is not scaled:
            x = walk(module, f"{name}.{child}", x, t)
    return x


@rule(nn.Conv2d, nn.ConvTranspose2d, nn.Linear, common.DWConvTranspose2d)
def _bare_conv(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    return t.conv(name, m, x)


@rule(nn.BatchNorm2d)
def _bare_norm(m: nn.BatchNorm2d, name: str, x: Ids, t: Tracer) -> Ids:
    out = t.norm(name, m)
    t.tie(x, out)
    return out


@rule(common.Concat)
def _concat(m: Any, name: str, x: list[Ids], t: Tracer) -> Ids:
    return join(x)


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
    return t.add(name, x, out, [inner]) if m.add else out


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
    return walk(m.cv2, f"{name}.cv2", join([walk(m.cv1, f"{name}.cv1", x, t)] * 4), t)


@rule(common.SPP, SPPPruned)
def _spp(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    y = walk(m.cv1, f"{name}.cv1", x, t)
    return walk(m.cv2, f"{name}.cv2", join([y] * (len(m.m) + 1)), t)


@rule(common.GhostConv)
def _ghost_conv(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    y = walk(m.cv1, f"{name}.cv1", x, t)
    return join([y, walk(m.cv2, f"{name}.cv2", y, t)])


@rule(common.GhostBottleneck)
def _ghost_bottleneck(m: Any, name: str, x: Ids, t: Tracer) -> Ids:
    inside, ends = [], []
    for branch in ("conv", "shortcut"):
        out, module = x, getattr(m, branch)
        for child, part in module.named_children():
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
