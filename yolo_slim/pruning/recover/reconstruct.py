"""The weights of the next layers by least squares: they make up for the channels that were cut.

A conv that has lost input channels gets the weights with which its output on real images is again
that of the dense conv (ThiNet, Luo et al. 2017, section 3.3; He et al. 2017, section 3.1). As He et
al. do for whole models, convs are fitted in the order in which they run, each on what it reads once
those before it are fitted: so it makes up for the errors that they leave, too. A conv that reads
what a residual Bottleneck added to, which is cut as a whole, is fitted like these.

What the cut channels sent on average is no matter of weights: a shift of each output is fitted with
them, and goes where a constant goes (see `shift`).

A conv that the model calls several times, or whose weight another conv has too, keeps the surviving
weights: what fits one place does not fit the other.

Departure: a ridge holds the weights near the surviving ones, with few images the more: many places
of one image are no substitute for many images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.calibration import Calibration, check_images
from yolo_slim.channels.graph import ChannelGraph, ConvNode
from yolo_slim.errors import InputError
from yolo_slim.models.sharing import shared_in
from yolo_slim.numerics import survives_half
from yolo_slim.pruning.activations import evaluation_copy, filters, generator, patches, watch
from yolo_slim.pruning.masks import keep_vector, removed_blocks
from yolo_slim.pruning.recover.cut import Cut
from yolo_slim.pruning.recover.shift import Shifts
from yolo_slim.text import counted, table

RIDGE = 1e-2
ENOUGH = 64  # images; with half of them the ridge is twice as high, and so on
POSITIONS = 256  # output positions an image and conv
MAP_MEMORY = 3 << 29  # bytes of feature maps that are held at once
ROWS = 1024  # output positions that are unfolded at a time
MAPS = 4  # feature maps in memory at once, at most: a block's input and its parts' outputs


@dataclass(frozen=True)
class Reconstruction:
    """How far the convs that lost inputs are from the dense ones. Prints itself as a table.

    Attributes:
        errors: conv name to the error of its output on the calibration images, with the surviving
            weights and with the fitted ones, those before it being fitted; a share of the norm of
            the dense output.
        images: number of images that were looked at.
    """

    errors: Mapping[str, tuple[float, float]]
    images: int

    def __str__(self) -> str:
        rows = [[name, f"{a:.3f}", f"{b:.3f}"] for name, (a, b) in self.errors.items()]
        title = f"error of the output, a share of its norm, on {counted(self.images, 'image')}"
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

    Besides them the biases or running means that take the shifts change; nothing at all does before
    all convs are fitted. Where every value of the dense model survives half precision the new
    weights are rounded to it: the checkpoint stays as small as it was. The images go through the
    pruned model at once, so that what is fitted is seen by what comes after it; where their feature
    maps would not fit into memory there are fewer of them, each looked at in more places.

    Args:
        pruned: what `rebuild` made of model, graph and masks.
        model: the dense model; left untouched.
        graph, masks: see `rebuild`.
        calibration: images, all of one size.
        ridge: how strongly the new weights are pulled to the old ones, in units of the mean energy
            of their inputs; with n < 64 images 64 / n times as much; 0 is plain least squares.
        positions: output positions drawn of each image for each conv; None: all.
        seed: of the positions.

    Raises:
        InputError: ridge or positions out of range, no images, or images of several sizes.
    """
    if not 0 <= ridge < float("inf"):
        raise InputError("ridge", ridge, "0 or more")
    if positions is not None and positions < 1:
        raise InputError("positions", positions, "1 or more")
    batches = at_once(pruned, check_images(calibration, "reconstruction"))
    if positions is not None:  # fewer images are looked at in more places
        positions = round(positions * calibration.images / sum(map(len, batches)))
        batches = [b for batch in batches for b in batch.split(max(ROWS // positions, 1))]
    sizes = [len(images) for images in batches]
    strength = ridge * max(1.0, ENOUGH / sum(sizes))
    keep, half = keep_vector(graph, masks), survives_half(model)
    gone = [graph.branches[name] for name in removed_blocks(graph, masks)]
    nodes = {
        name: node
        for name, node in graph.convs.items()
        if keep[node.outputs].any()
        and not node.depthwise
        and (not keep[node.inputs].all() or any(branch.read_by(node) for branch in gone))
    }
    shared = {name.rpartition(".")[0] for names in shared_in(model).parameters for name in names}
    errors: dict[str, tuple[float, float]] = {}
    copy = evaluation_copy(pruned)
    shifts = Shifts(copy, model, graph, masks)

    def fit(name: str, conv: Any, x: torch.Tensor) -> None:
        draw, old = generator(seed, name), filters(conv)
        reads = (patches(conv, part, positions, draw) for part in x.split(sizes))
        dtype = torch.half if half else conv.weight.dtype
        now = shifts.shift_of(name)
        shift = now.repeat_interleave(len(old) // len(now))
        aim = (torch.from_numpy(np.load(file)) for file in aims[name])
        transposed = getattr(conv, "transposed", False)
        # A transposed conv has a filter for each tap, and each would need a shift of its own.
        free = shifts.takes(name) and not transposed
        new, shift, errors[name] = least_squares(old, reads, aim, strength, dtype, shift, free)
        conv.weight.copy_((new.T if transposed else new).reshape(conv.weight.shape))
        if free:
            shifts.set_(name, shift)

    with tempfile.TemporaryDirectory() as folder:
        aims = dense_outputs(model, nodes, keep, batches, Path(folder), positions, seed)
        once = [name for name in nodes if len(aims[name]) == len(batches) and name not in shared]
        looks = {name: partial(fit, name) for name in once}
        watch(copy, looks, [torch.cat(batches)], "least squares", copied=True)
    pruned.load_state_dict(copy.state_dict())
    return Reconstruction(errors, sum(sizes))


def dense_outputs(
    model: nn.Module,
    nodes: Mapping[str, ConvNode],
    keep: np.ndarray,
    batches: Sequence[torch.Tensor],
    folder: Path,
    positions: int | None,
    seed: int,
) -> dict[str, list[Path]]:
    """Write what convs of the dense model write at drawn positions, without their biases.

    For yolov5l that is a gigabyte: it goes to files.

    Returns:
        Conv name to a file a batch, with (samples, kept filters) in the model's precision.
    """
    saved: dict[str, list[Path]] = {name: [] for name in nodes}
    draws = {name: generator(seed, name) for name in nodes}

    def look(name: str, conv: Any, x: torch.Tensor) -> None:
        weight = filters(conv)
        rows = np.repeat(keep[nodes[name].outputs], len(weight) // len(nodes[name].outputs))
        read = patches(conv, x, positions, draws[name])
        aim = (read @ weight[torch.from_numpy(rows)].T).to(conv.weight.dtype)
        saved[name].append(folder / f"{name}.{len(saved[name])}.npy")
        np.save(saved[name][-1], aim.cpu().numpy())

    watch(model, {name: partial(look, name) for name in nodes}, batches, "feature maps")
    return saved


def at_once(model: nn.Module, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The first of the images, as many as fit into memory when all go through a model at once.

    Args:
        model: left untouched.
        batches: (n, 3, h, w) each.
    """
    largest = 0

    def look(conv: Any, x: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, x.numel() * x.element_size())

    convs = {n: look for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    watch(model, convs, [batches[0][:1]], "memory")
    left, chosen = max(MAP_MEMORY // (MAPS * max(largest, 1)), 1), list[torch.Tensor]()
    for images in batches:
        if left > 0:
            chosen.append(images[:left])
        left -= len(images)
    return chosen


def least_squares(
    old: torch.Tensor,
    reads: Iterable[torch.Tensor],
    aims: Iterable[torch.Tensor],
    ridge: float,
    dtype: torch.dtype = torch.float64,
    shift: torch.Tensor | None = None,
    free: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float]]:
    """The weights W and the shift s with the least |X W' + s - Y|^2 + ridge * energy * |W - old|^2.

    Args:
        old: (filters, columns) float64.
        reads: X, some (samples, columns) float64.
        aims: Y, (samples, filters) for each X.
        ridge: in units of the mean energy of a column of X, about its mean where the shift is free;
            0: where X leaves W open, the nearest to `old`.
        dtype: precision that W is rounded to.
        shift: (filters,) as it is; None: 0.
        free: the shift is fitted too; else it stays.

    Returns:
        W (filters, columns) and s (filters,) float64, and |X W' + s - Y| / |Y| of what was and of
        what is returned.
    """
    count, columns = 0, old.shape[1]
    gram, slope = old.new_zeros(columns, columns), old.new_zeros(columns, len(old))
    mean, miss_mean = old.new_zeros(columns), old.new_zeros(len(old))
    before = whole = old.new_zeros(())
    shift = miss_mean if shift is None else shift
    for read, aim in zip(reads, aims, strict=True):
        miss = aim - read @ old.T - shift
        gram.addmm_(read.T, read)
        slope.addmm_(read.T, miss)
        mean, miss_mean, count = mean + read.sum(0), miss_mean + miss.sum(0), count + len(read)
        before, whole = before + miss.square().sum(), whole + aim.double().square().sum()
    left = before
    if free:
        mean, miss_mean = mean / count, miss_mean / count
        gram.addr_(mean, mean, alpha=-count)
        slope.addr_(mean, miss_mean, alpha=-count)
        left = before - count * miss_mean.square().sum()
    new = (old + solve(gram, slope, ridge * gram.diagonal().mean()).T).to(dtype).double()
    change = new - old
    after = left - 2 * (change.T * slope).sum() + (change @ gram * change).sum()
    if free:
        shift = shift + miss_mean - change @ mean
    error = torch.stack([before, after.clamp(min=0)]).sqrt() / whole.sqrt().clamp(min=1e-300)
    return new, shift, (float(error[0]), float(error[1]))


def solve(gram: torch.Tensor, slope: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    """(gram + ridge I)^-1 slope; the solution of least norm where there are many."""
    if ridge > 0:
        diagonal = gram.diagonal().clone()
        gram.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(gram)
        gram.diagonal().copy_(diagonal)
        if not failed:
            return torch.cholesky_solve(slope, factor)
    return torch.linalg.lstsq(gram, slope, driver="gelsd").solution


def recover_(cut: Cut) -> int:
    """`reconstruct_` as a part of a recovery: how many convs were fitted."""
    fitted = reconstruct_(cut.pruned, cut.model, cut.graph, cut.masks, cut.images, seed=cut.seed)
    return len(fitted.errors)
