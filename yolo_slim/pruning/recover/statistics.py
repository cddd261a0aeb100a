"""BatchNorm statistics after a cut: taken again on calibration images.

After a cut the inputs of a BatchNorm have other means and variances than its running ones, and the
errors add up from layer to layer. Statistics that are simply taken again on the images
(precise BN, as in fvcore) undo that, but they also exchange what the training saw, augmented
images, for the calibration images: on a model that is not cut at all this alone can cost many
points of mAP. So what a cut changed is measured on the same images in the dense model and in the
pruned one, and the running statistics are moved by that much:

    mean = dense running mean + mean of the pruned input - mean of the dense input
    variance = dense running variance * variance of the pruned input / variance of the dense input

What is not cut stays as it is. Both models normalise as they run, by their running statistics, and
each BatchNorm of the pruned one is set before those that come after it are looked at. One that the
model calls several times stays as it is: what a cut changed is not the same at each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.calibration import Calibration, check_images
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.pruning.activations import watch
from yolo_slim.pruning.masks import keep_vector
from yolo_slim.pruning.recover.cut import Cut
from yolo_slim.pruning.recover.reconstruct import at_once


@torch.no_grad()
def retake_statistics_(
    pruned: nn.Module,
    model: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, torch.Tensor],
    calibration: Calibration,
) -> int:
    """Move the running means and variances of a pruned model by what the cut changed, in place.

    Nothing else of it changes.

    Args:
        pruned: what `rebuild` made of model, graph and masks, weights fitted or not.
        model: the dense model; left untouched.
        graph, masks: see `rebuild`.
        calibration: images, all of one size.

    Returns:
        The number of BNs whose statistics moved.

    Raises:
        InputError: no images, or images of several sizes.
    """
    keep = keep_vector(graph, masks)
    kept = {
        norm.name: torch.from_numpy(np.flatnonzero(keep[norm.ids]))
        for norm in graph.norms.values()
        if keep[norm.ids].any() and model.get_submodule(norm.name).running_mean is not None
    }
    return match_statistics_(pruned, model, kept, calibration)


@torch.no_grad()
def match_statistics_(
    pruned: nn.Module,
    model: nn.Module,
    kept: Mapping[str, torch.Tensor],
    calibration: Calibration,
) -> int:
    """`retake_statistics_` for a model that was cut by whatever means.

    Args:
        pruned, model, calibration: see there.
        kept: BN name to the indices (C_kept,) of the channels of the dense model that it has.
    """
    batches = at_once(pruned, check_images(calibration, "--recover statistics"))
    sums = {name: _Moments() for name in kept}
    watch(model, {name: moments.add for name, moments in sums.items()}, batches, "statistics")
    once = [name for name, moments in sums.items() if moments.calls == len(batches)]
    moved: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def move(name: str, bn: Any, x: torch.Tensor) -> None:
        now, dense = _Moments(), model.get_submodule(name)
        for part in x.split(len(batches[0])):
            now.add(bn, part)
        mean, var = (value[kept[name]] for value in sums[name].mean_and_var())
        new_mean, new_var = now.mean_and_var()
        old_mean, old_var = (v[kept[name]] for v in (dense.running_mean, dense.running_var))
        bn.running_mean.copy_(old_mean.double() + new_mean - mean)
        bn.running_var.copy_(old_var.double() * (new_var + bn.eps) / (var + bn.eps))
        moved[name] = bn.running_mean, bn.running_var

    watch(pruned, {n: partial(move, n) for n in once}, [torch.cat(batches)], "statistics")
    for name, (mean, var) in moved.items():
        bn = pruned.get_submodule(name)
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
    return len(moved)


class _Moments:
    """Mean and variance of each channel of what was seen so far."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, torch.zeros(()), torch.zeros(())
        self.calls = 0

    def add(self, bn: Any, x: torch.Tensor) -> None:
        self.calls += 1
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        self.count += x.numel() // x.shape[1]
        for image in x.split(1):  # a sum in double precision copies what it adds up
            self.sum = self.sum + image.sum(axes, dtype=torch.float64).cpu()
            self.squares = self.squares + image.square().sum(axes, dtype=torch.float64).cpu()

    def mean_and_var(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.sum / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


def recover_(cut: Cut) -> int:
    """`retake_statistics_` as a part of a recovery."""
    return retake_statistics_(cut.pruned, cut.model, cut.graph, cut.masks, cut.images)
