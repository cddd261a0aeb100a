"""The proof that a cut changed nothing else: masked and rebuilt model compute the same.

Parity: the dense model with the masked channels silenced (gamma = beta = 0) and the pruned model
give the same output on random input with random BN statistics. It is checked on each rebuild. After
an activation that is not 0 at 0, such as a sigmoid, a masked channel is silenced once more: what it
sends is a constant, which the rebuilt model gets by recovery (see `recover.constants`).

A net whose signal has died out on its way gives the same output whatever was copied wrongly, so the
check keeps every layer alive: what it changes for that, it changes by the same amount in both
models, and a difference between them stays one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.host.image import is_detector, smallest_image
from yolo_slim.numerics import copy_of, one_thread
from yolo_slim.pruning.masks import apply_masks_, keep_vector, silence_, whole_masks

LIMIT = 1e-9  # largest error in float64, relative to the deviation of the output


@dataclass(frozen=True)
class Parity:
    """How far masked and pruned model are apart.

    Attributes:
        error: largest difference of outputs in float64, in standard deviations of the output; the
            largest over the raw and the decoded outputs.
        shape: height and width of the random image, px.
    """

    error: float
    shape: tuple[int, int]

    @property
    def holds(self) -> bool:
        """True if the models are the same."""
        return self.error <= LIMIT

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'BROKEN'} (largest difference {self.error:.1e})"


@one_thread()
@torch.no_grad()
def check_parity(
    model: nn.Module,
    pruned: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, torch.Tensor],
    *,
    seed: int = 0,
) -> Parity:
    """Compare the masked model with the pruned one in float64. Both are left untouched.

    A detector's image is 2 x 6 cells of the coarsest map: enough for each tap of a 3x3 conv to see
    something, and for the pools of an SPP or SPPF (up to 13 cells wide) to differ from each other.
    Any other model gets four of its images: its last maps may be of one pixel.

    Args:
        model, graph, masks: what `rebuild` was given.
        pruned: what it returned.
        seed: of the image and the BN statistics.

    Returns:
        The parity found.
    """
    generator = torch.Generator().manual_seed(seed)
    masked, slim = in_double(model), in_double(pruned)
    apply_masks_(masked, whole_masks(graph, masks))
    source, target = dict(masked.named_modules()), dict(slim.named_modules())
    keep = keep_vector(graph, masks)
    silence_(masked, graph, keep)
    calls: dict[int, int] = {}  # of each gamma and beta: BNs may share them
    for norm in graph.norms.values():
        kept = torch.from_numpy(keep[norm.ids])
        if source[norm.name].running_mean is not None and kept.any():
            _enliven_on_call_(source[norm.name], target[norm.name], kept, generator, calls)
    channels, height, width = smallest_image(model)
    images, shape = (1, (2 * height, 6 * width)) if is_detector(model) else (4, (height, width))
    image = torch.rand(images, channels, *shape, generator=generator, dtype=torch.float64)
    with _same_samples(masked), _same_samples(slim):
        expected = tensors(masked(image))
        if max(calls.values(), default=0) > 1:  # what was changed on the way had been used before
            expected = tensors(masked(image))
        actual = tensors(slim(image))
    least = torch.finfo(torch.float64).tiny  # the deviation of a model that sends nothing is 0
    errors = [
        (e - f).abs().max() / e.std().clamp(min=least)
        for e, f in zip(expected, actual, strict=True)
    ]
    return Parity(float(torch.stack(errors).max()), shape)  # a NaN in any is the max


@contextmanager
def _same_samples(model: nn.Module) -> Iterator[None]:
    """In the block a pool that draws its regions takes the middle one of each channel."""

    def hook(pool: Any, inputs: tuple[torch.Tensor]) -> None:
        pool._random_samples = inputs[0].new_full((*inputs[0].shape[:2], 2), 0.5)

    drawing = [m for m in model.modules() if isinstance(m, nn.FractionalMaxPool2d)]
    handles = [m.register_forward_pre_hook(hook) for m in drawing if m._random_samples is None]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def in_double(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in float64 and eval mode."""
    memo: dict[int, Any] = {}  # converted before the copy: no second one in float32
    for tensor in (*model.parameters(), *model.buffers()):
        dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
        copy = tensor.detach().to("cpu", dtype, copy=True)
        memo[id(tensor)] = nn.Parameter(copy, False) if isinstance(tensor, nn.Parameter) else copy
    return copy_of(model, memo).cpu().double().eval()


def tensors(output: Any) -> list[torch.Tensor]:
    """The tensors of a nested output, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    assert isinstance(output, list | tuple)
    return [tensor for part in output for tensor in tensors(part)]


def _enliven_on_call_(
    bn: Any, twin: Any, kept: torch.Tensor, generator: torch.Generator, calls: dict[int, int]
) -> None:
    """When `bn` is first called, give it and its twin statistics under which its output is alive.

    The statistics become those of what it is called on, with random deviations; gamma and beta are
    scaled as a whole, to a root mean square of 0.5 and 1: between a net that goes quiet and one in
    which rounding errors grow from layer to layer. The twin gets the same changes, not the same
    values.

    Args:
        bn: of the masked model, C channels.
        twin: of the pruned model.
        kept: (C,) bool, the channels that the twin has.
        generator: of the deviations.
        calls: id of a gamma or beta to how often it was used; counted.
    """
    changed: list[bool] = []

    def hook(bn: Any, inputs: tuple[torch.Tensor]) -> None:
        for value in bn.parameters():
            calls[id(value)] = calls.get(id(value), 0) + 1
        if changed:
            return
        changed.append(True)
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        noise = torch.randn(len(mean), generator=generator, dtype=torch.float64)
        spread = 0.5 + torch.rand(len(mean), generator=generator, dtype=torch.float64)
        shift = mean + 0.3 * noise * var.sqrt() - bn.running_mean
        widen = var * spread - bn.running_var
        affine = bn.weight is not None
        gain = 0.5 / _rms(bn.weight * (var / (var + bn.eps)).sqrt(), kept) if affine else 1.0
        lift = 1 / _rms(bn.bias, kept) if affine else 1.0
        for norm, part in ((bn, slice(None)), (twin, kept)):
            norm.running_mean += shift[part]
            norm.running_var += widen[part]
            if affine:
                norm.weight *= gain
                norm.bias *= lift

    bn.register_forward_pre_hook(hook)


def _rms(values: torch.Tensor, kept: torch.Tensor) -> float:
    return max(float(values[kept].square().mean().sqrt()), 1e-4)
