"""The channel graph: which conv writes a channel, which convs read it, what else must go with it.

Each channel that a BatchNorm scales has an id. A feature map is then a vector of ids, one a
channel, and every operation between two convs is an operation on that vector: Concat joins
vectors, a pool
hands its vector on, a Focus repeats it, an add ties two. The graph is read from the live model, by
one rule a module type (`rules`), never from a model yaml.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

Residual = Literal["skip", "inner", "group"]
Ids = np.ndarray  # (C,) int: the BN channel behind each channel of a feature map, FREE where none
FREE = -1  # a channel that no BN scales: the image, the output of a Detect conv


@dataclass(frozen=True)
class Norm:
    """One BatchNorm.

    Attributes:
        name: module name, such as "model.2.cv1.bn".
        channels: its C.
        offset: the id of its first channel.
        readers: names of the convs that read its channels.
        tied: names of the other BNs whose channels go with its own.
        pinned: why it must keep all channels; None where it may be pruned.
    """

    name: str
    channels: int
    offset: int
    readers: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    pinned: str | None = None

    @property
    def ids(self) -> Ids:
        """(C,) the ids of its channels."""
        return np.arange(self.offset, self.offset + self.channels)


@dataclass(frozen=True)
class ConvNode:
    """One conv: the ids of its input channels (C_in,) and of its output channels (C_out,)."""

    name: str
    inputs: Ids
    outputs: Ids
    depthwise: bool = False


@dataclass(frozen=True)
class ChannelGraph:
    """What `channel_graph` found. Prints itself as a table.

    Attributes:
        norms: BN name to Norm, in the order of the model.
        convs: conv name to ConvNode.
        group: (ids,) the group of each channel; channels of one group are kept or cut together.
        residual: how residual adds were treated: skip, inner or group.
    """

    norms: dict[str, Norm]
    convs: dict[str, ConvNode]
    group: np.ndarray
    residual: Residual = "skip"

    @cached_property
    def prunable(self) -> tuple[Norm, ...]:
        """The BNs that may lose channels."""
        return tuple(norm for norm in self.norms.values() if norm.pinned is None)

    @property
    def channels(self) -> int:
        """Number of channels that a BN scales."""
        return len(self.group)

    @property
    def prunable_channels(self) -> int:
        """Number of channels that may be cut: what a `percent` is a share of."""
        return sum(norm.channels for norm in self.prunable)

    def __str__(self) -> str:
        rows = [f"{'BN':<28}{'channels':>9}  read by"]
        for norm in self.norms.values():
            note = f"pinned: {norm.pinned}" if norm.pinned else ", ".join(norm.readers)
            tied = f"  (tied to {', '.join(norm.tied)})" if norm.tied else ""
            rows.append(f"{norm.name:<28}{norm.channels:>9}  {note}{tied}")
        rows.append(f"{self.prunable_channels} of {self.channels} channels are prunable")
        return "\n".join(rows)


@dataclass
class Tracer:
    """What the rules write into while a model is walked."""

    residual: Residual = "skip"
    norms: dict[str, Norm] = field(default_factory=dict)
    convs: dict[str, ConvNode] = field(default_factory=dict)
    ties: list[tuple[Ids, Ids]] = field(default_factory=list)
    pins: dict[int, str] = field(default_factory=dict)  # channel id -> why

    def norm(self, name: str, bn: nn.BatchNorm2d) -> Ids:
        """Give the channels of a BN their ids."""
        offset = sum(n.channels for n in self.norms.values())
        self.norms[name] = Norm(name, bn.num_features, offset)
        return self.norms[name].ids

    def conv(self, name: str, conv: nn.Conv2d, x: Ids, out: Ids | None = None) -> Ids:
        """A conv reads x and writes `out` (None: channels that no BN scales)."""
        if len(x) != conv.in_channels:
            raise AssertionError(f"{name}: {len(x)} channels reach it, it has {conv.in_channels}")
        out = np.full(conv.out_channels, FREE) if out is None else out
        depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
        if depthwise:
            self.tie(x, out)
        elif conv.groups > 1:
            self.pin(np.concatenate([x, out]), f"{name} is a grouped conv")
        self.convs[name] = ConvNode(name, x, out, depthwise)
        return out

    def tie(self, a: Ids, b: Ids) -> None:
        """Channel by channel, a and b are kept or cut together."""
        for free, other in ((a, b), (b, a)):
            self.pin(other[free == FREE], "tied to channels that no BN scales")
        both = (a != FREE) & (b != FREE)
        self.ties.append((a[both], b[both]))

    def pin(self, x: Ids, why: str) -> None:
        """These channels must all be kept."""
        for channel in set(x.tolist()) - {FREE}:
            self.pins.setdefault(channel, why)

    def finish(self) -> ChannelGraph:
        """Groups from ties, pins spread over their groups, readers by BN."""
        total = sum(norm.channels for norm in self.norms.values())
        a, b = (
            (np.concatenate([np.zeros(0, int), *side]) for side in zip(*self.ties, strict=True))
            if self.ties
            else (np.zeros(0, int), np.zeros(0, int))
        )
        links = coo_array((np.ones(len(a)), (a, b)), shape=(total, total))
        _, group = connected_components(links, directed=False)
        owner = np.repeat(np.arange(len(self.norms)), [n.channels for n in self.norms.values()])
        names = list(self.norms)
        why_group = {group[channel]: why for channel, why in reversed(self.pins.items())}
        readers: dict[str, list[str]] = {name: [] for name in names}
        for node in self.convs.values():
            for index in np.unique(owner[node.inputs[node.inputs != FREE]]):
                readers[names[index]].append(node.name)
        together = {
            g: set(owner[group == g].tolist()) for g in set(group[np.concatenate([a, b])].tolist())
        }
        norms = {}
        for index, norm in enumerate(self.norms.values()):
            groups = group[norm.ids].tolist()
            tied = sorted({o for g in groups for o in together.get(g, ())} - {index})
            why = next((self.pins[i] for i in norm.ids.tolist() if i in self.pins), None)
            why = why or next((why_group[g] for g in groups if g in why_group), None)
            norms[norm.name] = Norm(
                norm.name,
                norm.channels,
                norm.offset,
                tuple(readers[norm.name]),
                tuple(names[o] for o in tied),
                why,
            )
        return ChannelGraph(norms, self.convs, group, self.residual)


def join(parts: Iterable[Ids]) -> Ids:
    """Concat along channels."""
    return np.concatenate(list(parts))
