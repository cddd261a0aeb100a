"""What a model costs: parameters, MACs and bytes, in total and by layer.

Conventions. One fused multiply-add is 1 MAC. Counted are convs, linear layers and matrix products
(those of attention too) of one image, with torch's own FLOP counter (two FLOPs a MAC); biases,
BatchNorms, activations, pools and resizing are not. A conv costs

    positions * k_h * k_w * c_in * c_out / groups        (positions: h * w of its output),

a transposed conv the same with h * w of its input, a linear layer rows * c_in * c_out. The model is
run at its full image size, since not all that a layer does grows with the area (attention does with
its square, the gate of squeeze and excitation not at all), but on torch's meta device, which works
out shapes and no values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from yolo_slim.host.classes import yolo
from yolo_slim.host.image import is_detector, sides, smallest_image
from yolo_slim.host.running import layers_named
from yolo_slim.numerics import copy_of, survives_half

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of one image (one fused multiply-add = 1), convs and matrix products.
        imgsz: side of that square image, px; the height where it is not square.
        bytes: size of its file; None where there is none.
    """

    params: int
    macs: int
    imgsz: int
    bytes: int | None = None


@dataclass(frozen=True)
class LayerCost:
    """What one module costs by itself, without the modules in it.

    Attributes:
        name: module name, such as "model.2.cv1.conv".
        type: its class.
        params: number of its parameters.
        macs: its multiply-adds of one image.
        bytes: of its parameters and buffers in a checkpoint as `save` writes it (half precision
            where every weight of the model survives that, else float32).
        positions: times that a conv or linear layer applies its weights to one image, so that
            macs = positions * elements of the weight; 0 for other modules.
    """

    name: str
    type: str
    params: int
    macs: int
    bytes: int
    positions: int


def cost(model: nn.Module, imgsz: int | tuple[int, int] = 640, file: Path | None = None) -> Cost:
    """Count a model, which is left untouched.

    Args:
        model: a YOLOv5 detector, or a model with an attribute `image` (see `smallest_image`).
        imgsz: side of the square image, or height and width, px; rounded up to a multiple of a
            detector's stride, as YOLOv5 does. Any other model is counted for the image
            that it names.
        file: its checkpoint, for the size in bytes.

    Raises:
        InputError: no detector, and no attribute `image`.
    """
    height, width = (whole_strides(model, side) for side in sides(imgsz))
    macs = sum(module_macs(model, (height, width)).values())
    params = sum(p.numel() for p in model.parameters())
    return Cost(params, macs, height, file.stat().st_size if file else None)


def layer_costs(model: nn.Module, imgsz: int | tuple[int, int] = 640) -> tuple[LayerCost, ...]:
    """Count a model by module: each that has parameters, buffers or MACs of its own.

    Params and MACs add up to those of `cost`. A parameter that two modules share is counted with
    the first. nn.MultiheadAttention applies the weights of its out_proj itself: params and bytes
    are out_proj's, MACs its own.

    Args:
        model, imgsz: see `cost`.

    Raises:
        InputError: see `cost`.
    """
    height, width = (whole_strides(model, side) for side in sides(imgsz))
    macs = module_macs(model, (height, width))
    float_size, seen, layers = 2 if survives_half(model) else 4, set[int](), []
    for name, module in model.named_modules():
        tensors = chain(module.parameters(recurse=False), module.buffers(recurse=False))
        own = [t for t in tensors if id(t) not in seen]
        seen.update(map(id, own))
        if not own and not macs[name]:
            continue
        layers.append(
            LayerCost(
                name=name,
                type=type(module).__name__,
                params=sum(t.numel() for t in own if isinstance(t, nn.Parameter)),
                macs=macs[name],
                bytes=sum(stored_bytes(t, float_size) for t in own),
                positions=macs[name] // module.weight.numel() if is_weighted(module) else 0,
            )
        )
    return tuple(layers)


def stored_bytes(tensor: torch.Tensor, float_size: int) -> int:
    """Bytes of a tensor in a checkpoint whose floats take float_size bytes each."""
    return tensor.numel() * (float_size if tensor.is_floating_point() else tensor.element_size())


def is_weighted(module: nn.Module) -> bool:
    """True for a conv, transposed conv or linear layer."""
    return isinstance(module, WEIGHTED)


def whole_strides(model: nn.Module, imgsz: int) -> int:
    """An image size, px, rounded up to a multiple of a detector's stride.

    Any other model takes images of one size: the height of that.
    """
    side = smallest_image(model)[1]
    return side * ceil(imgsz / side) if is_detector(model) else side


@torch.no_grad()
def module_macs(model: nn.Module, imgsz: int | tuple[int, int]) -> dict[str, int]:
    """Module name to the MACs of one image that are its own, not those of the modules in it.

    Args:
        model: see `cost`.
        imgsz: side of the square image, or height and width, px, which a detector takes; any other
            model gets its own.
    """
    channels, *own = smallest_image(model)
    shape = (1, channels, *(sides(imgsz) if is_detector(model) else own))
    try:
        return _count(_without_norms_(_shapes_alone(model)), torch.zeros(shape, device="meta"))
    except (NotImplementedError, RuntimeError, TypeError):  # a module that looks at values
        copy = copy_of(model)
        device = next(copy.parameters()).device
        return _count(copy, torch.zeros(shape, device=device))


def _shapes_alone(model: nn.Module) -> nn.Module:
    """A copy on the meta device; the tensors' values are not copied."""
    memo = {
        id(value): value.detach().to("meta")
        for module in model.modules()
        for value in chain(
            vars(module).values(), module._parameters.values(), module._buffers.values()
        )
        if isinstance(value, torch.Tensor)
    }
    return copy_of(model, memo)


def _without_norms_(copy: nn.Module) -> nn.Module:
    """Let BatchNorms pass on what they get: they change no shape, and torch works it out slowly."""
    for module in copy.modules():
        if type(module) is nn.BatchNorm2d:
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    return copy


def _count(copy: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """See `module_macs`; the copy is spoilt."""
    counter, macs = FlopCounterMode(display=False), defaultdict[str, int](int)
    open_calls: list[list[int]] = []  # of each: FLOPs at its start, FLOPs of the calls in it

    def enter(module: nn.Module, inputs: Any) -> None:
        open_calls.append([counter.get_total_flops(), 0])

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            start, inside = open_calls.pop()
            flops = counter.get_total_flops() - start
            macs[name] += (flops - inside) // 2
            if open_calls:
                open_calls[-1][1] += flops

        return hook

    copy.eval()
    for name, module in copy.named_modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave(name))
        if isinstance(module, yolo.Detect):
            module.training = True  # it makes no grids then, and these have no MACs
    with counter, layers_named(""):
        copy(image.to(next(copy.parameters()).dtype))
    return macs
