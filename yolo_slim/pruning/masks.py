"""Masks and scores by BatchNorm; masks on a model: checked, complete, applied."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import FREE, ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.text import counted

# A residual Bottleneck is cut as a whole where the masks of its cv1.bn are all False. That of its
# cv2.bn is then all False, too: both BNs are silenced, and the branch adds act(0) = 0.
Masks = dict[str, torch.Tensor]  # maskbndict: BN name -> bool (C,), True = kept
Scores = dict[str, torch.Tensor]  # BN name -> (C,), for the prunable BNs: high is kept


def removable(graph: ChannelGraph, held: Collection[str] = ()) -> tuple[str, ...]:
    """The residual Bottlenecks that can be cut as a whole, so that the identity stays.

    These are Bottlenecks with shortcut whose inner BN may be cut (so none with residual "skip"),
    whose activation is 0 at 0, and that stand in an nn.Sequential, as those of a C3 and of a
    BottleneckCSP do. In a C3 without shortcut nothing can go: its path is what it is.

    Args:
        graph: of the model.
        held: BNs that --keep or --ratio names; a Bottleneck with one of them stays.

    Returns:
        Names such as "model.4.m.0", in the order of the model.
    """
    return tuple(
        branch.name
        for branch in graph.branches.values()
        if branch.stays is None and branch.inner not in held and branch.outer not in held
    )


def removed_blocks(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The residual Bottlenecks that masks cut as a whole: the mask of their cv1.bn is all False."""
    return tuple(
        branch.name
        for branch in graph.branches.values()
        if branch.stays is None and branch.inner in masks and not masks[branch.inner].any()
    )


def removed(graph: ChannelGraph, keep: np.ndarray) -> tuple[str, ...]:
    """The same from what is kept: (ids + 1,) bool, see `keep_vector`."""
    return tuple(
        branch.name
        for branch in graph.branches.values()
        if branch.stays is None and not keep[graph.norms[branch.inner].ids].any()
    )


def whole_masks(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> Masks:
    """Masks in which the cv2.bn of each Bottleneck that is cut as a whole is all False, too."""
    gone = [graph.branches[name].outer for name in removed_blocks(graph, masks)]
    silent = {n: torch.zeros(graph.norms[n].channels, dtype=torch.bool) for n in gone}
    return {**masks, **silent}


def without_branches_(graph: ChannelGraph, keep: np.ndarray) -> np.ndarray:
    """Where no inner channel of a residual Bottleneck is kept, its cv2.bn keeps none, in place.

    Args:
        graph: of a model.
        keep: (ids + 1,) bool.
    """
    for name in removed(graph, keep):
        keep[graph.norms[graph.branches[name].outer].ids] = False
    return keep


def keep_vector(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Masks as one bool a channel id, with a last entry, True, that FREE (-1) points to.

    Args:
        graph: of the model that the masks are for.
        masks: BN name to bool (C,); a BN that is missing keeps all. All False for cv1.bn of a
            residual Bottleneck that is cut as a whole; its cv2.bn, missing or not, keeps nothing
            then, whatever it is tied to.

    Returns:
        (ids + 1,) bool.

    Raises:
        InputError: an unknown BN, a mask of another length or dtype, nothing kept, a pinned BN cut,
            or tied channels that differ.
    """
    gone = [graph.branches[name] for name in removed_blocks(graph, checked(graph, masks))]
    inner, outer = {branch.inner for branch in gone}, {branch.outer for branch in gone}
    keep = np.ones(graph.channels + 1, dtype=bool)
    for name, mask in masks.items():
        norm = graph.norms[name]
        if not mask.any() and name not in inner | outer:
            stays = [b.stays for b in graph.branches.values() if b.inner == name and b.stays]
            expected = "at least one channel" + "".join(f": {why}" for why in stays)
            raise InputError(name, "a mask that keeps nothing", expected)
        if norm.pinned and not mask.all() and name not in outer:
            raise InputError(
                name, f"{counted(int((~mask).sum()), 'channel')} cut", f"all ({norm.pinned})"
            )
        keep[norm.ids] = mask.numpy()
    free = np.ones(graph.channels, dtype=bool)  # of a tie: what is gone with its block is
    for name in outer:
        free[graph.norms[name].ids] = False
    most = np.zeros(graph.group.max(initial=-1) + 1, dtype=bool)
    least = np.ones_like(most)
    np.logical_or.at(most, graph.group[free], keep[:-1][free])
    np.logical_and.at(least, graph.group[free], keep[:-1][free])
    if (most & ~least).any():
        channel = int(np.flatnonzero((most & ~least)[graph.group])[0])
        norm = next(n for n in graph.norms.values() if n.offset <= channel < n.offset + n.channels)
        raise InputError(norm.name, "a mask of its own", f"the same as {', '.join(norm.tied)}")
    without_branches_(graph, keep)
    own = {name for branch in gone for name in branch.convs}
    for node in graph.convs.values():
        if node.name not in own and not (keep[node.outputs].any() and keep[node.inputs].any()):
            raise InputError(node.name, "a mask that leaves it no channel", "at least one")
    assert keep[FREE]
    return keep


def checked(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The masks, seen to be masks of BNs of the graph.

    Raises:
        InputError: an unknown BN, or a mask of another length or dtype.
    """
    for name, mask in masks.items():
        norm = graph.norms.get(name)
        if norm is None:
            raise InputError(name, "a mask", "the name of a BatchNorm of the model")
        if mask.dtype != torch.bool or mask.shape != (norm.channels,):
            got = f"a mask of {tuple(mask.shape)} {mask.dtype}"
            raise InputError(name, got, f"({norm.channels},) torch.bool")
    return masks


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
