"""From masks to a smaller model, and the proof that it computes the same.

Parity: the dense model with the masked channels silenced (gamma = beta = 0) and the pruned model give
the same output on random input with random BN statistics. It is checked on each rebuild.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import CheckFailed
from yolo_slim.host.compat import replaced
from yolo_slim.pruning.masks import apply_masks_, keep_vector
from yolo_slim.pruning.model import ModelPruned
from yolo_slim.pruning.plan import pruned_yaml

LIMIT = 1e-9  # largest error in float64, relative to the largest output


class ParityError(CheckFailed):
    """The pruned model does not compute what the masked model computes: a fault of yolo_slim."""


@dataclass(frozen=True)
class Parity:
    """How far masked and pruned model are apart.

    Attributes:
        error: largest difference of outputs in float64, relative to the largest output.
        size: side of the random square image, px.
    """

    error: float
    size: int

    @property
    def holds(self) -> bool:
        """True if the models are the same."""
        return self.error <= LIMIT

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'BROKEN'} (largest difference {self.error:.1e})"


def rebuild(
    model: nn.Module, graph: ChannelGraph, masks: Mapping[str, torch.Tensor]
) -> ModelPruned:
    """Build the model that remains and give it the surviving weights.

    Args:
        model: the dense model; left untouched.
        graph: its channel graph.
        masks: BN name to bool (C,), True = kept.

    Raises:
        InputError: the masks do not fit the graph.
    """
    keep = keep_vector(graph, masks)
    with uninitialised():
        pruned = ModelPruned(pruned_yaml(model, masks))
    copy_weights_(pruned, model, graph, keep)
    for attribute in ("hyp", "class_weights", "inplace"):
        if hasattr(model, attribute):
            setattr(pruned, attribute, deepcopy(getattr(model, attribute)))
    pruned.names, pruned.nc = dict(model.names), pruned.yaml["nc"]
    pruned.maskbndict = {name: mask.clone() for name, mask in masks.items()}
    pruned.ancestry = deepcopy(getattr(model, "ancestry", []))
    return pruned.train(model.training)


@torch.no_grad()
def copy_weights_(
    pruned: nn.Module, model: nn.Module, graph: ChannelGraph, keep: np.ndarray
) -> None:
    """Copy the surviving rows and columns of each conv and BN, and everything else, to `pruned`."""
    source, target = dict(model.named_modules()), dict(pruned.named_modules())
    state, done = pruned.state_dict(), set()
    for node in graph.convs.values():
        conv = source[node.name]
        rows = torch.from_numpy(np.flatnonzero(keep[node.outputs])).to(conv.weight.device)
        columns = torch.from_numpy(np.flatnonzero(keep[node.inputs])).to(conv.weight.device)
        weight = conv.weight.index_select(0, rows)
        if conv.groups == 1:
            weight = weight.index_select(1, columns)
        _put_(state, f"{node.name}.weight", weight, done)
        if conv.bias is not None:
            _put_(state, f"{node.name}.bias", conv.bias.index_select(0, rows), done)
    for norm in graph.norms.values():
        bn, kept = source[norm.name], torch.from_numpy(np.flatnonzero(keep[norm.ids]))
        for key, value in bn.state_dict().items():
            value = value.index_select(0, kept.to(value.device)) if value.ndim else value
            _put_(state, f"{norm.name}.{key}", value, done)
        target[norm.name].eps, target[norm.name].momentum = bn.eps, bn.momentum
    dense = model.state_dict()
    for key in set(state) - done:  # what has no channels to cut: anchors
        _put_(state, key, dense[key], done)


def _put_(state: dict[str, torch.Tensor], key: str, value: torch.Tensor, done: set[str]) -> None:
    if state[key].shape != value.shape:
        raise ParityError(f"{key}: {tuple(value.shape)} survive, {tuple(state[key].shape)} planned")
    state[key].copy_(value)
    done.add(key)


@contextmanager
def uninitialised() -> Iterator[None]:
    """Convs made in the block keep the memory they get: their weights are about to be copied.

    The host draws a random model and profiles it with thop; for yolov5l both take longer than the
    whole cut.
    """
    with (
        replaced(nn.Conv2d, reset_parameters=lambda self: _zero_(self)),
        replaced(ModelPruned, info=lambda self, *args, **kwargs: None),
    ):
        yield


@torch.no_grad()
def _zero_(conv: nn.Conv2d) -> None:
    conv.weight.zero_()
    if conv.bias is not None:
        conv.bias.zero_()


@torch.no_grad()
def check_parity(
    model: nn.Module,
    pruned: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, torch.Tensor],
    *,
    size: int = 64,
    seed: int = 0,
) -> Parity:
    """Compare the masked model with the pruned one in float64. Both are left untouched.

    Args:
        model, graph, masks: what `rebuild` was given.
        pruned: what it returned.
        size: side of the random image, px, a multiple of the stride.
        seed: of the image and the BN statistics.

    Returns:
        The parity found. The pruned model's weights are its own; only its BN statistics are
        overwritten, on a copy, with those of the masked model.
    """
    generator = torch.Generator().manual_seed(seed)
    masked, slim = deepcopy(model).double().cpu().eval(), deepcopy(pruned).double().cpu().eval()
    source, target = dict(masked.named_modules()), dict(slim.named_modules())
    keep = keep_vector(graph, masks)
    for norm in graph.norms.values():
        kept = torch.from_numpy(keep[norm.ids])
        mean = 0.1 * torch.randn(norm.channels, generator=generator, dtype=torch.float64)
        var = 0.5 + torch.rand(norm.channels, generator=generator, dtype=torch.float64)
        source[norm.name].running_mean.copy_(mean)
        source[norm.name].running_var.copy_(var)
        target[norm.name].running_mean.copy_(mean[kept])
        target[norm.name].running_var.copy_(var[kept])
    apply_masks_(masked, masks)
    stride = max(size, int(model.stride.max()) * 2)
    image = torch.rand(1, int(model.yaml.get("ch", 3)), stride, stride, generator=generator).double()
    expected, found = masked(image)[1], slim(image)[1]
    scale = max(float(e.abs().max()) for e in expected)
    error = max(float((e - f).abs().max()) for e, f in zip(expected, found, strict=True))
    return Parity(error / max(scale, 1e-12), stride)
