"""One layer cut alone: the probes of a sensitivity scan (Li et al. 2017, section 3.1).

A cut is made by silencing, as everywhere here: channels by gamma = beta = 0, weights by zero. The
shapes stay, so that nothing has to be rebuilt to measure it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.ties import tie_heads
from yolo_slim.finegrained.weights import magnitude_mask, weight_layers
from yolo_slim.numerics import copy_of
from yolo_slim.pruning.budget.choose import masks_by_percent
from yolo_slim.pruning.masks import Masks, apply_masks_

KINDS = ("channels", "weights")


@dataclass(frozen=True)
class Layer:
    """What is cut as one.

    Attributes:
        kind: "channels" of BatchNorms, "weights" of a conv; "dense": nothing.
        name: of the BN, the first of those that are tied, or of the conv.
        size: channels of all its BNs, or weights.
        norms: the BNs, in the order of the model; empty for weights.
    """

    kind: str
    name: str
    size: int
    norms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """A share of one layer.

    Attributes:
        layer: the layer.
        share: of its channels or weights that is asked for, in [0, 1).
        masks: BN name to bool (C,), True = kept; empty for weights. (Of numpy, since torch would
            send each to another process as a file in shared memory.)
    """

    layer: Layer
    share: float
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)


DENSE = Cut(Layer("dense", "-", 0), 0.0)


def layers(model: nn.Module, graph: ChannelGraph, kind: str) -> list[Layer]:
    """The layers of a kind, in the order of the model.

    Args:
        model: any with a channel graph.
        graph: its graph; tied BNs are one layer.
        kind: "channels": the prunable BNs; "weights": convs and linear layers, the head's too.
    """
    if kind == "weights":
        convs = weight_layers(model).items()
        return [Layer(kind, name, conv.weight.numel()) for name, conv in convs]
    heads, tied = tie_heads(graph.norms), dict[str, list[str]]()
    for norm in graph.prunable:
        tied.setdefault(heads[norm.name], []).append(norm.name)
    return [
        Layer(kind, names[0], sum(graph.norms[n].channels for n in names), tuple(names))
        for names in tied.values()
    ]


def cuts(
    model: nn.Module,
    graph: ChannelGraph,
    scores: Mapping[str, torch.Tensor],
    kinds: Collection[str],
    shares: Sequence[float],
    done: Collection[tuple[str, str, float]] = (),
) -> Iterator[Cut]:
    """The cuts of a scan, layer by layer.

    Args:
        model, graph: as for `layers`.
        scores: BN name to (C,); those of a layer decide which of its channels go first.
        kinds: of KINDS.
        shares: to cut of each layer, in (0, 1).
        done: (kind, layer, share) of cuts to leave out.
    """
    for kind in (k for k in KINDS if k in kinds):
        for layer in layers(model, graph, kind):
            for share in (s for s in shares if (kind, layer.name, s) not in done):
                masks = layer_masks(graph, scores, layer, share) if layer.norms else {}
                yield Cut(layer, share, {name: mask.numpy() for name, mask in masks.items()})


def layer_masks(
    graph: ChannelGraph, scores: Mapping[str, torch.Tensor], layer: Layer, share: float
) -> Masks:
    """Masks that cut a share of each BN of one layer; each keeps a channel."""
    others = {norm.name for norm in graph.prunable} - set(layer.norms)
    masks = masks_by_percent(graph, scores, keep=others, ratios=dict.fromkeys(layer.norms, share))
    return {name: masks[name] for name in layer.norms}


@torch.no_grad()
def cut_model(model: nn.Module, cut: Cut) -> tuple[nn.Module, float]:
    """A copy of a model with one layer cut, and the share of the layer that went."""
    copy = copy_of(model)
    if cut.layer.kind == "weights":
        weight = copy.get_submodule(cut.layer.name).weight
        gone = ~magnitude_mask(weight, cut.share)
        weight[gone] = 0
        return copy, float(gone.sum()) / cut.layer.size
    apply_masks_(copy, {name: torch.from_numpy(mask) for name, mask in cut.masks.items()})
    silent = sum(int((~mask).sum()) for mask in cut.masks.values())
    return copy, silent / max(cut.layer.size, 1)
