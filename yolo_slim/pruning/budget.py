"""From scores to what is kept: one threshold over all layers (Liu et al. 2017, section 3).

Departures from the paper: each layer keeps at least a floor of channels, and what the floor holds
back is cut elsewhere, so that the requested share is reached wherever it can be. Channels that are
tied are kept or cut together and count as many as they are; their score is their mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError

Masks = dict[str, torch.Tensor]  # maskbndict: BN name -> bool (C,), True = kept


def check_percent(percent: object) -> float:
    """A share to remove.

    Raises:
        InputError: not a number in [0, 1).
    """
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent < 1:
        raise InputError("percent", repr(percent), "a share in [0, 1)")
    return float(percent)


def global_masks(
    graph: ChannelGraph,
    scores: Mapping[str, torch.Tensor],
    percent: float,
    *,
    min_channels: int = 1,
) -> Masks:
    """Cut the channels with the smallest scores, over all layers.

    Args:
        graph: which channels there are and which go together.
        scores: BN name to (C,), for all prunable BNs of the graph.
        percent: share of the prunable channels to cut, in [0, 1).
        min_channels: each BN keeps at least so many, all where it has fewer.

    Returns:
        Masks of the prunable BNs. Fewer channels are cut than asked for where the floor or a group
        does not let more go; compare with `achieved`.

    Raises:
        InputError: percent or min_channels out of range.
    """
    percent = check_percent(percent)
    if min_channels < 1:
        raise InputError("min_channels", min_channels, "1 or more")
    wanted = round(percent * graph.prunable_channels)
    keep = np.ones(graph.channels, dtype=bool)
    ids = np.concatenate([n.ids for n in graph.prunable] or [np.zeros(0, int)])
    value = torch.cat([scores[n.name].double() for n in graph.prunable] or [torch.zeros(0)]).numpy()
    counts = [n.channels for n in graph.prunable]
    owner = np.repeat(np.arange(len(counts)), counts)

    # Members of each group side by side; plain lists, since the loop looks at them one by one.
    _, group = np.unique(graph.group[ids], return_inverse=True)
    size = np.bincount(group)
    mean = np.bincount(group, np.where(np.isfinite(value), value, math.inf)) / np.maximum(size, 1)
    member = np.argsort(group, kind="stable")
    owners, ends = owner[member].tolist(), np.cumsum(size).tolist()
    left, floor = list(counts), [min(count, min_channels) for count in counts]
    gone: list[int] = []
    for index in np.argsort(mean, kind="stable").tolist():
        if len(gone) == wanted:
            break
        span = range(ends[index] - int(size[index]), ends[index])
        for i in span:
            left[owners[i]] -= 1
        if len(gone) + len(span) <= wanted and all(
            left[owners[i]] >= floor[owners[i]] for i in span
        ):
            gone.extend(span)
        else:
            for i in span:
                left[owners[i]] += 1
    keep[ids[member[gone]]] = False
    return {n.name: torch.from_numpy(keep[n.ids].copy()) for n in graph.prunable}


def achieved(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> float:
    """The share of the prunable channels that masks cut."""
    cut = sum(int((~masks[n.name]).sum()) for n in graph.prunable if n.name in masks)
    return cut / max(graph.prunable_channels, 1)
