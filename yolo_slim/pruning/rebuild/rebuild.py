"""From masks to a smaller model with the surviving weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import ParityError
from yolo_slim.host.classes import class_names, yolo
from yolo_slim.host.compat import replaced
from yolo_slim.host.image import is_detector
from yolo_slim.models.model import ModelPruned, build_model, copy_bare_norms_
from yolo_slim.models.resize import check_settings, resize_
from yolo_slim.models.sharing import share_, shared_in
from yolo_slim.numerics import copy_of, one_thread
from yolo_slim.pruning.masks import keep_vector, removed, whole_masks
from yolo_slim.pruning.rebuild.plan import pruned_yaml
from yolo_slim.weight_masks import carry_masks_


def rebuild(model: nn.Module, graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> nn.Module:
    """Build the model that remains and give it the surviving weights.

    Args:
        model: the dense model; left untouched.
        graph: its channel graph.
        masks: BN name to bool (C,), True = kept. All False for the cv1.bn of a residual Bottleneck:
            an nn.Identity stands in its place (see `removed_blocks`); all else keeps its name.

    Returns:
        A ModelPruned for a YOLOv5 detector; for any other model one of its own class. Both have the
        attributes `maskbndict` and `ancestry` of a ModelPruned.

    Raises:
        InputError: the masks do not fit the graph.
    """
    keep = keep_vector(graph, masks)
    build = _smaller_detector if is_detector(model) else _smaller_copy
    with one_thread():
        pruned = build(model, graph, keep)
        copy_weights_(pruned, model, graph, keep)
        carry_masks_(pruned, model, lambda to, of: copy_weights_(to, of, graph, keep))
    whole = whole_masks(graph, masks)
    pruned.maskbndict = {name: mask.clone() for name, mask in whole.items()}
    pruned.ancestry = deepcopy(getattr(model, "ancestry", []))
    return pruned


def _smaller_detector(model: nn.Module, graph: ChannelGraph, keep: np.ndarray) -> ModelPruned:
    """Built from pruned.yaml, as it will be from a checkpoint; its weights are still to come."""
    with unfilled(model.stride.tolist()):
        pruned = build_model(pruned_yaml(model, graph, keep))
    copy_bare_norms_(pruned, model)
    check_settings(model, pruned, gone=removed(graph, keep))
    share_(pruned, shared_in(model))
    for attribute in ("hyp", "class_weights", "inplace"):
        if hasattr(model, attribute):
            setattr(pruned, attribute, deepcopy(getattr(model, attribute)))
    pruned.names, pruned.nc = class_names(model), pruned.yaml["nc"]
    return pruned.train(model.training)


def _smaller_copy(model: nn.Module, graph: ChannelGraph, keep: np.ndarray) -> nn.Module:
    """A copy whose convs and BNs have other sizes: no yaml says how it was built."""
    sizes: dict[str, Any] = dict.fromkeys(removed(graph, keep))
    for node in graph.convs.values():
        if keep[node.outputs].any() and not (keep[node.inputs].all() and keep[node.outputs].all()):
            sizes[node.name] = [int(keep[node.inputs].sum()), int(keep[node.outputs].sum())]
    for norm in graph.norms.values():
        if keep[norm.ids].any() and not keep[norm.ids].all():
            sizes[norm.name] = int(keep[norm.ids].sum())
    for name, ids in graph.rows.items():
        if keep[ids].any() and not keep[ids].all():
            sizes[name] = int(keep[ids].sum())
    with torch.random.fork_rng(devices=[]):  # the fresh weights are about to be replaced
        return resize_(copy_of(model), sizes, type(model).__name__)


@torch.no_grad()
def copy_weights_(
    pruned: nn.Module, model: nn.Module, graph: ChannelGraph, keep: np.ndarray
) -> None:
    """Copy the surviving rows and columns of each conv and BN, and everything else, to `pruned`."""
    source, target = dict(model.named_modules()), dict(pruned.named_modules())
    state, done = pruned.state_dict(), set[str]()
    for node in graph.convs.values():
        if not keep[node.outputs].any():  # gone with its block
            continue
        conv = source[node.name]
        rows = torch.from_numpy(np.flatnonzero(keep[node.outputs])).to(conv.weight.device)
        columns = torch.from_numpy(np.flatnonzero(keep[node.inputs])).to(conv.weight.device)
        transposed = getattr(conv, "transposed", False)
        weight = conv.weight
        if node.depthwise or getattr(conv, "groups", 1) == 1:
            weight = weight.index_select(0, columns if transposed else rows)
            if not node.depthwise:
                weight = weight.index_select(1, rows if transposed else columns)
        _put_(state, f"{node.name}.weight", weight, done)
        if conv.bias is not None:
            _put_(state, f"{node.name}.bias", conv.bias.index_select(0, rows), done)
    for norm in graph.norms.values():
        bn, kept = source[norm.name], torch.from_numpy(np.flatnonzero(keep[norm.ids]))
        if not len(kept):
            continue
        for key, value in bn.state_dict().items():
            value = value.index_select(0, kept.to(value.device)) if value.ndim else value
            _put_(state, f"{norm.name}.{key}", value, done)
        target[norm.name].eps, target[norm.name].momentum = bn.eps, bn.momentum
    for name, ids in graph.rows.items():
        kept = torch.from_numpy(np.flatnonzero(keep[ids]))
        for key, value in source[name].state_dict().items() if len(kept) else ():
            if value.ndim and len(value) == len(ids):
                _put_(state, f"{name}.{key}", value.index_select(0, kept.to(value.device)), done)
    dense, filled = model.state_dict(), {state[key].data_ptr() for key in done}
    # What has no channels to cut: anchors, modules with no rule. Files of other tools may lack the
    # number of batches that a BatchNorm has seen.
    for key in (set(state) - done) & set(dense):
        if state[key].data_ptr() not in filled:  # what it shares with another has been copied
            _put_(state, key, dense[key], done)


def _put_(state: dict[str, torch.Tensor], key: str, value: torch.Tensor, done: set[str]) -> None:
    if state[key].shape != value.shape:
        raise ParityError(f"{key}: {tuple(value.shape)} survive, {tuple(state[key].shape)} planned")
    state[key].copy_(value)
    done.add(key)


@contextmanager
def unfilled(strides: Sequence[float]) -> Iterator[None]:
    """Models built in the block cost only their memory: all that they hold is about to be copied.

    The host draws random weights, runs an image through the model to find its strides and profiles
    it with thop; for yolov5l each takes longer than the whole cut.

    Args:
        strides: px of the image for one cell of each map that the model detects on.
    """

    def maps(self: nn.Module, image: torch.Tensor) -> Any:
        shapes = [image.new_empty(1, 1, round(image.shape[-2] / stride), 1) for stride in strides]
        return (shapes, None) if isinstance(self, yolo.SegmentationModel) else shapes

    with (
        replaced(nn.Conv2d, reset_parameters=lambda self: None),
        replaced(ModelPruned, forward=maps, info=lambda self, *args, **kwargs: None),
    ):
        yield
