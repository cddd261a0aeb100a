"""The weights of the next layers by least squares: they make up for the channels that were cut.

A conv that has lost input channels gets the weights with which its output on real images is again
that of the dense conv (ThiNet, Luo et al. 2017, section 3.3; He et al. 2017, section 3.1). As He et
al. do for whole models, convs are fitted in the order in which they run, each on what it reads once
those before it are fitted: so it makes up for the errors that they leave, too.

Departure: a ridge holds the weights near the surviving ones, so that few images do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph, ConvNode
from yolo_slim.errors import InputError
from yolo_slim.host.checkpoint import survives_half
from yolo_slim.pruning.calibration import Calibration
from yolo_slim.pruning.gram import filters, generator, patches, watch
from yolo_slim.pruning.masks import keep_vector
from yolo_slim.report.tables import table

RIDGE = 1e-2
POSITIONS = 256  # output positions an image and conv


@dataclass(frozen=True)
class Reconstruction:
    """How far the convs that lost inputs are from the dense ones. Prints itself as a table.

    Attributes:
        errors: conv name to the error of its output on the calibration images, with the surviving
            weights and with the fitted ones, those before it being fitted; a share of the norm of
            the dense output.
        images: number of images.
    """

    errors: Mapping[str, tuple[float, float]]
    images: int

    def __str__(self) -> str:
        rows = [[name, f"{a:.3f}", f"{b:.3f}"] for name, (a, b) in self.errors.items()]
        title = f"error of the output, a share of its norm, on {self.images} images"
        return table(["conv", "weights kept", "weights fitted"], rows, title)


@torch.no_grad()
def reconstruct_(
    pruned: nn.Module,
    model: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, torch.Tensor],
    calibration: Calibration,
    *,
    ridge: float = RIDGE,
    positions: int | None = POSITIONS,
    seed: int = 0,
) -> Reconstruction:
    """Fit the weights of the convs that lost input channels, in place.

    Nothing else of the pruned model changes, and nothing at all before all convs are fitted. Where
    every value of the dense model survives half precision the new weights are rounded to it: the
    checkpoint stays as small as it was. All images go through the pruned model at once, so that
    two of its largest feature maps, of all of them, are in memory: with 64 images of 640 px
    yolov5n takes 2 GB.

    Args:
        pruned: what `rebuild` made of model, graph and masks.
        model: the dense model; left untouched.
        graph, masks: see `rebuild`.
        calibration: images, all of one size.
        ridge: what a change of the weights costs, in units of the mean energy of what they are
            multiplied with; 0 is plain least squares.
        positions: output positions drawn of each image for each conv; None: all.
        seed: of the positions.

    Raises:
        InputError: ridge or positions out of range, no images, or images of several sizes.
    """
    if not 0 <= ridge < float("inf"):
        raise InputError("ridge", ridge, "0 or more")
    if positions is not None and positions < 1:
        raise InputError("positions", positions, "1 or more")
    if not calibration.images:
        raise InputError("reconstruction", "no calibration images", "a data yaml with --data")
    batches = [images for images, _ in calibration.batches]
    sizes = [len(images) for images in batches]
    odd = next((tuple(b.shape) for b in batches if b.shape[1:] != batches[0].shape[1:]), None)
    if odd:
        raise InputError("images", f"{tuple(batches[0].shape)} and {odd}", "one size")
    keep, half = keep_vector(graph, masks), survives_half(model)
    nodes = {n: c for n, c in graph.convs.items() if not c.depthwise and not keep[c.inputs].all()}
    aims = dense_outputs(model, nodes, keep, batches, positions, seed)
    fitted: dict[str, torch.Tensor] = {}
    errors: dict[str, tuple[float, float]] = {}

    def fit(name: str, conv: Any, x: torch.Tensor) -> None:
        draw, old = generator(seed, name), filters(conv)
        reads = (patches(conv, part, positions, draw) for part in x.split(sizes))
        dtype = torch.half if half else conv.weight.dtype
        new, errors[name] = least_squares(old, reads, aims.pop(name), ridge, dtype)
        new = new.T if getattr(conv, "transposed", False) else new
        fitted[name] = conv.weight.copy_(new.reshape(conv.weight.shape))

    looks = {name: partial(fit, name) for name in nodes}
    watch(pruned, looks, [torch.cat(batches)], "least squares")
    for name, weight in fitted.items():
        pruned.get_submodule(name).weight.copy_(weight)
    return Reconstruction(errors, calibration.images)


def dense_outputs(
    model: nn.Module,
    nodes: Mapping[str, ConvNode],
    keep: np.ndarray,
    batches: Sequence[torch.Tensor],
    positions: int | None,
    seed: int,
) -> dict[str, list[torch.Tensor]]:
    """What convs of the dense model write at drawn positions, without their biases.

    Returns:
        Conv name to (samples, kept filters) for each batch, in the model's precision.
    """
    found: dict[str, list[torch.Tensor]] = {name: [] for name in nodes}
    draws = {name: generator(seed, name) for name in nodes}

    def look(name: str, conv: Any, x: torch.Tensor) -> None:
        weight = filters(conv)
        rows = np.repeat(keep[nodes[name].outputs], len(weight) // len(nodes[name].outputs))
        read = patches(conv, x, positions, draws[name])
        found[name].append((read @ weight[torch.from_numpy(rows)].T).to(conv.weight.dtype))

    watch(model, {name: partial(look, name) for name in nodes}, batches, "feature maps")
    return found


def least_squares(
    old: torch.Tensor,
    reads: Iterable[torch.Tensor],
    aims: Iterable[torch.Tensor],
    ridge: float,
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, tuple[float, float]]:
    """The weights W with the least |X W' - Y|^2 + ridge * energy * |W - old|^2.

    Args:
        old: (filters, columns) float64.
        reads: X, some (samples, columns) float64.
        aims: Y, (samples, filters) for each X.
        ridge: in units of the mean energy of a column of X; 0: where X leaves W open, the nearest
            to `old`.
        dtype: precision that W is rounded to.

    Returns:
        W (filters, columns) float64, and |X W' - Y| / |Y| of `old` and of W.
    """
    gram = old.new_zeros(old.shape[1], old.shape[1])
    slope = old.new_zeros(old.shape[1], len(old))
    before = whole = old.new_zeros(())
    for read, aim in zip(reads, aims, strict=True):
        miss = aim - read @ old.T
        gram.addmm_(read.T, read)
        slope.addmm_(read.T, miss)
        before, whole = before + miss.square().sum(), whole + aim.double().square().sum()
    new = (old + solve(gram, slope, ridge * gram.diagonal().mean()).T).to(dtype).double()
    change = new - old
    after = before - 2 * (change.T * slope).sum() + (change @ gram * change).sum()
    error = torch.stack([before, after.clamp(min=0)]).sqrt() / whole.sqrt().clamp(min=1e-300)
    return new, (float(error[0]), float(error[1]))


def solve(gram: torch.Tensor, slope: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    """(gram + ridge I)^-1 slope; the solution of least norm where there are many."""
    if ridge > 0:
        raised = gram.clone()
        raised.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(raised)
        if not failed:
            return torch.cholesky_solve(slope, factor)
    return torch.linalg.lstsq(gram, slope, driver="gelsd").solution
