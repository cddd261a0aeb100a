"""From scores to what is kept: one threshold over all layers (Liu et al. 2017, section 3).

Departures from the paper: each layer keeps at least a floor of channels, and what the floor holds
back is cut elsewhere, so that the requested share is reached wherever it can be. Channels that are
tied are kept or cut together and count as many as they are; their score is their mean.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError

DEFAULT = 0.6  # percent
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
    percent: float | None = None,
    *,
    min_channels: int = 1,
    keep: Collection[str] = (),
    ratios: Mapping[str, float] | None = None,
) -> Masks:
    """Cut the channels with the smallest scores, over all layers.

    Args:
        graph: which channels there are and which go together.
        scores: BN name to (C,), for all prunable BNs of the graph.
        percent: share of the prunable channels to cut, in [0, 1), those of `keep` and `ratios`
            counted too. None: 0.6, or what `ratios` add up to where they name every layer.
        min_channels: each BN keeps at least so many, all where it has fewer.
        keep: BNs that are not cut.
        ratios: BN name to the share of its channels to cut; the other layers make up the rest.

    Returns:
        Masks of the prunable BNs. Fewer channels are cut than asked for where the floor or a group
        does not let more go; compare with `achieved`.

    Raises:
        InputError: percent or min_channels out of range; keep and ratios make percent impossible,
            or tied BNs have different ratios.
    """
    ratios = {name: share for name, share in (ratios or {}).items() if name not in keep}
    share = check_percent(DEFAULT if percent is None else percent)
    if min_channels < 1:
        raise InputError("min_channels", min_channels, "1 or more")
    cut = _Cut(graph, scores, min_channels)
    held = {g for name in keep for g in cut.groups(name)}
    own = {g for name in ratios for g in cut.groups(name)} - held
    for name, part in ratios.items():
        if any(ratios.get(other, part) != part for other in cut.tied(name)):
            raise InputError(f"--ratio {name}", part, "one share for BatchNorms that are tied")
        groups = [g for g in cut.groups(name) if g not in held]
        cut.take(groups, round(part * graph.norms[name].channels), name)
    free = [g for g in cut.order if g not in held and g not in own]
    wanted = round(share * graph.prunable_channels)
    slack = len(ratios)  # each ratio is rounded to a channel
    if ratios and not free and (percent is None or abs(cut.gone() - wanted) <= slack):
        wanted = cut.gone()
    if ratios and cut.gone() > wanted + slack:
        least = math.ceil(1000 * cut.gone() / graph.prunable_channels) / 1000
        raise InputError("--percent", f"{share:g}, less than --ratio cuts", f"{least:g} or more")
    cut.take(free, wanted)
    if (keep or ratios) and wanted - cut.gone() >= cut.size.max(initial=1):
        most = math.floor(1000 * cut.gone() / graph.prunable_channels) / 1000
        got = f"{share:g}, more than --keep, --ratio and the floor leave"
        raise InputError("--percent", got, f"at most {most:g}")
    return cut.masks()


class _Cut:
    """Groups of channels that are kept or cut together, and those that are cut so far.

    Attributes:
        order: the groups, lowest score first.
        size: (groups,) channels of each.
    """

    def __init__(
        self, graph: ChannelGraph, scores: Mapping[str, torch.Tensor], min_channels: int
    ) -> None:
        norms = self.norms = graph.prunable
        value = torch.cat([scores[n.name].double() for n in norms] or [torch.zeros(0)]).numpy()
        ids = np.concatenate([n.ids for n in norms] or [np.zeros(0, int)])
        _, self.group = np.unique(graph.group[ids], return_inverse=True)
        self.owner = np.repeat(np.arange(len(norms)), [n.channels for n in norms])
        self.size = np.bincount(self.group)
        total = np.bincount(self.group, np.where(np.isfinite(value), value, math.inf))
        self.order = np.argsort(total / np.maximum(self.size, 1), kind="stable").tolist()
        # BN, and part of a BN, of each group's members side by side: lists, since `take` looks one
        # by one; flat, since Python's garbage collector would look at thousands of small ones.
        member, part = np.argsort(self.group, kind="stable"), graph.parts[ids]
        self.owners, self.parts = self.owner[member].tolist(), part[member].tolist()
        self.ends = [0, *np.cumsum(self.size).tolist()]
        self.left = np.bincount(part, minlength=1).tolist()
        self.floor = [min(count, min_channels) for count in self.left]
        self.place = {n.name: i for i, n in enumerate(norms)}
        self.taken = np.zeros(len(self.size), dtype=bool)

    def gone(self, name: str | None = None) -> int:
        """Channels that are cut: of all BNs, or of one."""
        if name is None:
            return int(self.size[self.taken].sum())
        return int((self.taken[self.group] & (self.owner == self.place[name])).sum())

    def groups(self, name: str) -> list[int]:
        """The groups that a BN has a channel in, lowest score first; none of a pinned BN."""
        if name not in self.place:
            return []
        found = set(self.group[self.owner == self.place[name]].tolist())
        return [g for g in self.order if g in found]

    def span(self, group: int) -> slice:
        """Where the members of a group are in `owners` and `parts`."""
        return slice(self.ends[group], self.ends[group + 1])

    def tied(self, name: str) -> set[str]:
        """The BNs that share a group with one, itself included."""
        found = {o for g in self.groups(name) for o in self.owners[self.span(g)]}
        return {self.norms[o].name for o in found}

    def take(self, groups: Sequence[int], wanted: int, name: str | None = None) -> None:
        """Cut groups in this order until so many channels are gone: of all BNs, or of one."""
        count, counted = self.gone(name), self.place.get(name or "")
        for group in groups:
            if count >= wanted:
                break
            if self.taken[group]:
                continue
            parts, owners = self.parts[self.span(group)], self.owners[self.span(group)]
            for part in parts:
                self.left[part] -= 1
            more = len(parts) if name is None else owners.count(counted)
            if count + more <= wanted and all(self.left[p] >= self.floor[p] for p in parts):
                self.taken[group] = True
                count += more
            else:
                for part in parts:
                    self.left[part] += 1

    def masks(self) -> Masks:
        """BN name to bool (C,), True = kept."""
        keep = torch.from_numpy(~self.taken[self.group])
        counts = [n.channels for n in self.norms]
        return {
            n.name: part.clone() for n, part in zip(self.norms, keep.split(counts), strict=True)
        }


def achieved(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> float:
    """The share of the prunable channels that masks cut."""
    cut = sum(int((~masks[n.name]).sum()) for n in graph.prunable if n.name in masks)
    return cut / max(graph.prunable_channels, 1)
