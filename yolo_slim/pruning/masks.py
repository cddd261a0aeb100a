"""Masks and scores by BatchNorm; masks on a model: checked, complete, applied."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import FREE, ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.text import counted

Masks = dict[str, torch.Tensor]  # maskbndict: BN name -> bool (C,), True = kept
Scores = dict[str, torch.Tensor]  # BN name -> (C,), for the prunable BNs: high is kept


def keep_vector(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Masks as one bool a channel id, with a last entry, True, that FREE (-1) points to.

    Args:
        graph: of the model that the masks are for.
        masks: BN name to bool (C,); a BN that is missing keeps all.

    Returns:
        (ids + 1,) bool.

    Raises:
        InputError: an unknown BN, a mask of another length or dtype, nothing kept, a pinned BN cut,
            or tied channels that differ.
    """
    keep = np.ones(graph.channels + 1, dtype=bool)
    for name, mask in masks.items():
        norm = graph.norms.get(name)
        if norm is None:
            raise InputError(name, "a mask", "the name of a BatchNorm of the model")
        if mask.dtype != torch.bool or mask.shape != (norm.channels,):
            got = f"a mask of {tuple(mask.shape)} {mask.dtype}"
            raise InputError(name, got, f"({norm.channels},) torch.bool")
        if not mask.any():
            raise InputError(name, "a mask that keeps nothing", "at least one channel")
        if norm.pinned and not mask.all():
            raise InputError(
                name, f"{counted(int((~mask).sum()), 'channel')} cut", f"all ({norm.pinned})"
            )
        keep[norm.ids] = mask.numpy()
    most = np.zeros(graph.group.max(initial=-1) + 1, dtype=bool)
    least = np.ones_like(most)
    np.logical_or.at(most, graph.group, keep[:-1])
    np.logical_and.at(least, graph.group, keep[:-1])
    if (most != least).any():
        channel = int(np.flatnonzero((most != least)[graph.group])[0])
        norm = next(n for n in graph.norms.values() if n.offset <= channel < n.offset + n.channels)
        raise InputError(norm.name, "a mask of its own", f"the same as {', '.join(norm.tied)}")
    for node in graph.convs.values():
        if not keep[node.outputs].any() or not keep[node.inputs].any():
            raise InputError(node.name, "a mask that leaves it no channel", "at least one")
    assert keep[FREE]
    return keep


@torch.no_grad()
def apply_masks_(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> nn.Module:
    """Silence the masked channels: gamma and beta to zero, in place. The shapes stay."""
    modules = dict(model.named_modules())
    for name, mask in masks.items():
        for parameter in (modules[name].weight, modules[name].bias):
            parameter[~mask.to(parameter.device)] = 0
    return model


def silence_(model: nn.Module, graph: ChannelGraph, keep: np.ndarray) -> nn.Module:
    """Let modules that do not send 0 at 0, such as sigmoids, send 0 for channels that are cut.

    Args:
        model: changed in place: such a module that stands in several places becomes several.
        graph: its channel graph.
        keep: (ids + 1,) bool, see `keep_vector`.
    """

    def hook(gone: torch.Tensor, module: nn.Module, inputs: Any, output: torch.Tensor) -> Any:
        return output.index_fill(1, gone, 0.0)

    for name, ids in graph.silenced.items():
        gone = torch.from_numpy(np.flatnonzero(~keep[ids]))
        parent, _, child = name.rpartition(".")
        if len(gone):
            own = deepcopy(model.get_submodule(name))
            own.register_forward_hook(partial(hook, gone))
            setattr(model.get_submodule(parent), child, own)
    return model
