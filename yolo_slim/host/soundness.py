"""What a model cannot be used with: weights that are no numbers, layers that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from math import inf
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.classes import yolo
from yolo_slim.text import counted

MAX_STRIDE = 1024  # px; those of YOLOv5 are 8 to 128
FINITE = "finite weights and statistics; a training that diverged leaves such a file"


@torch.no_grad()
def check_finite(model: nn.Module, where: object) -> None:
    """See that all parameters and buffers are numbers, and no variance is negative.

    Args:
        model: fp32; on the CPU.
        where: what the error calls it.

    Raises:
        InputError: NaN or Inf in a tensor, or a negative running_var. It names the first one.
    """
    empty = [name for name, tensor in _tensors(model) if tensor.is_meta]
    if empty:
        raise InputError(where, f"no data in {empty[0]} (it is on the meta device)", FINITE)
    wrong = [name for name, tensor in _tensors(model) if not _is_finite(tensor)]
    if wrong:
        tensor = dict(_tensors(model))[wrong[0]]
        bad = int((~torch.isfinite(tensor)).sum())
        kind = "NaN" if torch.isnan(tensor).any() else "Inf"
        got = f"{kind} in {wrong[0]} ({bad} of {counted(tensor.numel(), 'value')})"
        more = f", and in {counted(len(wrong) - 1, 'tensor')} more" if len(wrong) > 1 else ""
        raise InputError(where, got + more, FINITE)
    for name, module in model.named_modules():
        variance = getattr(module, "running_var", None)
        if isinstance(variance, torch.Tensor) and variance.numel() and float(variance.min()) < 0:
            got = f"a negative variance in {name}.running_var ({float(variance.min()):.3g})"
            raise InputError(where, got, "variances of 0 or more")


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all of a tensor are numbers: its sum says so, since one NaN or Inf is in it too."""
    if not tensor.is_floating_point():
        return True
    total = float(tensor.sum(dtype=torch.float64))
    return total - total == 0  # not of NaN, nor of Inf


def check_detector(model: Any, where: object) -> None:
    """See that a detector fits itself: its layers read others that are there, tensors have the
    sizes that their modules speak of, and the head has its counts, anchors, strides and convs.

    Args:
        model: a DetectionModel; its strides, a copy of the head's, may be missing.
        where: what the error calls it, such as its file.

    Raises:
        InputError: something is missing, or contradicts the rest.
    """
    layers = getattr(model, "model", None)
    if not isinstance(layers, nn.Sequential) or not len(layers):
        raise InputError(where, "without layers (model.model)", "a YOLOv5 detector")
    yaml = getattr(model, "yaml", None)
    rows = [yaml.get(part) for part in ("backbone", "head")] if isinstance(yaml, dict) else []
    if not rows or not all(isinstance(part, list | tuple) for part in rows):
        raise InputError(where, "without its model yaml (model.yaml)", "a YOLOv5 detector")
    _check_sources(model, where)
    for name, module in model.named_modules():
        _check_tensors(module, f"{where}, {name}")
    if not isinstance(layers[-1], yolo.Detect):
        got = f"a {type(layers[-1]).__name__} as the last layer"
        raise InputError(where, got, "Detect or Segment")
    _check_head(layers[-1], where)


def _check_sources(model: Any, where: object) -> None:
    """See that each layer knows its index, and reads layers before it whose outputs are kept."""
    kept = getattr(model, "save", None)
    for index, layer in enumerate(model.model):
        title = f"{where}, layer {index}, {type(layer).__name__}"
        if getattr(layer, "i", None) != index:
            got = f"i {getattr(layer, 'i', None)!r}"
            raise InputError(title, got, f"{index}, its place in the model")
        source = getattr(layer, "f", None)
        for f in source if isinstance(source, list | tuple) else [source]:
            if isinstance(f, bool) or not isinstance(f, int) or not -max(index, 1) <= f < index:
                raise InputError(title, f"from {source}", "-1, or layers before it")
            if f != -1 and (not isinstance(kept, list | tuple) or f % index not in kept):
                raise InputError(title, f"from {source}", f"layer {f % index} in model.save")


def _check_tensors(module: Any, where: str) -> None:
    """See that the tensors of a conv or a BatchNorm have the sizes and the type that they must."""
    shapes: dict[str, tuple[int, ...]] = {}
    if isinstance(module, nn.Conv2d):
        c_in, c_out = module.in_channels, module.out_channels
        shapes["weight"] = (c_out, c_in // max(module.groups, 1), *module.kernel_size)
        shapes["bias"] = (c_out,)
    elif isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        of_a_norm = ("weight", "bias", "running_mean", "running_var")
        shapes = dict.fromkeys(of_a_norm, (module.num_features,))
        if not isinstance(module.eps, int | float) or not 0 <= module.eps < inf:
            raise InputError(f"{where}.eps", repr(module.eps)[:80], "a number, 0 or more")
        momentum = module.momentum
        if momentum is not None and not (isinstance(momentum, int | float) and 0 <= momentum <= 1):
            raise InputError(f"{where}.momentum", repr(momentum)[:80], "a number in [0, 1]")
    if isinstance(module, nn.Conv2d) and not isinstance(module.weight, torch.Tensor):
        raise InputError(f"{where}.weight", repr(module.weight)[:80], "the weights of a conv")
    for name, value in (*module._parameters.items(), *module._buffers.items()):
        if value is None or not (name in shapes or name in module._parameters):
            continue
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise InputError(f"{where}.{name}", f"of type {kind}", "floating-point numbers")
        if value.shape != shapes.get(name, value.shape):
            raise InputError(f"{where}.{name}", f"of shape {tuple(value.shape)}", f"{shapes[name]}")


def _check_head(head: Any, where: object) -> None:
    title = f"{where}, {type(head).__name__}"
    names = ("nc", "nl", "na", "no", *(["nm"] if hasattr(head, "nm") else []))
    counts = {name: _count(getattr(head, name, None), f"{title}.{name}") for name in names}
    nc, nl, na, no = (counts[name] for name in ("nc", "nl", "na", "no"))
    convs = list(head.m) if isinstance(getattr(head, "m", None), nn.ModuleList) else []
    sources = head.f if isinstance(head.f, list | tuple) else [head.f]
    if not nl == len(convs) == len(sources):
        got = f"nl {nl}, {counted(len(convs), 'conv')}, {counted(len(sources), 'layer')} to read"
        raise InputError(title, got, "as many of each")
    check_strides(getattr(head, "stride", None), nl, f"{title}.stride")
    anchors = _tensor(getattr(head, "anchors", None), (nl, na, 2), f"{title}.anchors")
    if not bool(torch.isfinite(anchors).all()) or float(anchors.min()) < 0:
        got = f"{float(anchors.min()):.3g} to {float(anchors.max()):.3g}"
        raise InputError(f"{title}.anchors", got, "widths and heights of 0 or more")
    rows = 5 + nc + counts.get("nm", 0)
    outputs = [conv.out_channels for conv in convs if isinstance(conv, nn.Conv2d)]
    if no != rows or outputs != [na * no] * nl:
        got = f"nc {nc}, no {no}, na {na}, and convs of {outputs} channels"
        raise InputError(title, got, f"no {rows}, and {na * rows} channels of each conv")


def check_strides(value: Any, scales: int, where: str) -> None:
    """See that strides are px of the image for a cell of each map.

    YOLOv5 takes them from what a layer leaves of 256 px: one that pads makes them no whole numbers.

    Raises:
        InputError: they are not, or not as many as there are scales.
    """
    strides = _tensor(value, (scales,), where)
    sizes = strides.flatten().tolist()
    if not all(1 <= size <= MAX_STRIDE for size in sizes):
        raise InputError(where, str(sizes)[:80], f"px, from 1 to {MAX_STRIDE}")


@torch.no_grad()
def check_strides_fit(model: nn.Module, where: str) -> None:
    """See that the strides of a detector, left untouched, are those that its layers make.

    Raises:
        InputError: they are others; its boxes would lie elsewhere.
    """
    copy, side, rows = deepcopy(model).cpu().float().train(), 256, list[int]()
    head = copy.model[-1]
    head.register_forward_pre_hook(lambda _, args: rows.extend(m.shape[-2] for m in args[0]))
    copy(torch.zeros(2, int(model.yaml.get("ch", 3)), side, side))
    made, stored = [side / count for count in rows], head.stride.flatten().tolist()
    if any(abs(a - b) > 0.01 * a for a, b in zip(made, stored, strict=True)):
        title = f"{where}, {type(head).__name__}.stride"
        raise InputError(title, str(stored), f"{made}, as the layers make them")


def _tensor(value: Any, shape: tuple[int, ...], where: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise InputError(where, repr(value)[:80], f"a tensor of shape {shape}")
    if value.shape != shape or value.is_meta:
        got = "on the meta device" if value.is_meta else f"of shape {tuple(value.shape)}"
        raise InputError(where, got, f"{shape}")
    return value.detach().float()


def _count(value: Any, where: str) -> int:
    """A whole number from 1 on; a checkpoint may hold it as one of numpy or torch."""
    try:
        number = int(value)
        if number < 1 or number != value:
            raise ValueError
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(where, repr(value)[:80], "a whole number, 1 or more") from error
    return number
