"""The channel graph: which conv writes a channel, which convs read it, what else must go with it.

Each channel that a BatchNorm scales has an id. A feature map is then a vector of ids, one a
channel, and every operation between two convs is an operation on that vector: Concat joins vectors,
a pool hands its vector on, a Focus repeats it, an add ties two. The graph is read from the live
model, by one rule a module type (`rules`), never from a model yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from yolo_slim.channels.residual import Residual

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
    """A conv or linear layer: the ids of its input (C_in,) and of its output channels (C_out,)."""

    name: str
    inputs: Ids
    outputs: Ids
    depthwise: bool = False


@dataclass(frozen=True)
class Unknown:
    """A module that has no rule: it is left as it is, and what it reads keeps all its channels.

    Attributes:
        name: module name, such as "model.9".
        type: its class.
        reads: names of the BNs that it reads.
    """

    name: str
    type: str
    reads: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.type}, reads {', '.join(self.reads) or 'no BatchNorm'}"


@dataclass(frozen=True)
class ChannelGraph:
    """What `channel_graph` found. Prints itself as a table.

    Attributes:
        norms: BN name to Norm, in the order of the model.
        convs: conv name to ConvNode.
        group: (ids,) the group of each channel; channels of one group are kept or cut together.
        residual: how residual adds were treated: skip, inner or group.
        unknown: the modules that have no rule.
        outputs: layer name ("model.4") to the ids of its output, for layers with one output.
    """

    norms: dict[str, Norm]
    convs: dict[str, ConvNode]
    group: np.ndarray
    residual: Residual = "skip"
    unknown: tuple[Unknown, ...] = ()
    outputs: Mapping[str, Ids] = field(default_factory=dict)

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

    @cached_property
    def parts(self) -> np.ndarray:
        """(ids,) the part of its BN that a channel belongs to; no part may lose all channels.

        Most BNs are one part. One that scales the outputs of two convs has two: each of the convs
        must keep a channel.
        """
        owner = np.repeat(np.arange(len(self.norms)), [n.channels for n in self.norms.values()])
        size, part = np.bincount(owner, minlength=1), owner.copy()
        for node in self.convs.values():
            for side in (node.inputs, node.outputs):
                ids = np.unique(side[side != FREE])
                some = np.bincount(owner[ids], minlength=len(size))
                split = np.flatnonzero((some > 0) & (some < size))
                inside = ids[np.isin(owner[ids], split)]
                part[inside] += part.max() + 1
        return np.unique(part, return_inverse=True)[1]

    def __str__(self) -> str:
        rows = [f"{'BN':<28}{'channels':>9}  read by"]
        for norm in self.norms.values():
            note = f"pinned: {norm.pinned}" if norm.pinned else ", ".join(norm.readers)
            tied = f"  (tied to {', '.join(norm.tied)})" if norm.tied else ""
            rows.append(f"{norm.name:<28}{norm.channels:>9}  {note}{tied}")
        rows += [f"no rule for {module}" for module in self.unknown]
        rows.append(f"{self.prunable_channels} of {self.channels} channels are prunable")
        return "\n".join(rows)


@dataclass
class Tracer:
    """What the rules write into while a model is walked.

    Attributes:
        residual: what may be cut around an add.
        channels: name of a module that has no rule to the channels of its output (an int, a list of
            them for several outputs, None for as many as it reads); called when one is met.
    """

    residual: Residual = "skip"
    channels: Callable[[], Mapping[str, Any]] = dict
    norms: dict[str, Norm] = field(default_factory=dict)
    convs: dict[str, ConvNode] = field(default_factory=dict)
    unknown: list[tuple[str, str, Ids]] = field(default_factory=list)
    outputs: dict[str, Ids] = field(default_factory=dict)
    ties: list[tuple[Ids, Ids]] = field(default_factory=list)
    pins: dict[int, str] = field(default_factory=dict)  # channel id -> why
    total: int = 0

    def norm(self, name: str, bn: nn.BatchNorm2d) -> Ids:
        """Give the channels of a BN their ids (C,)."""
        name = name.removeprefix(".")  # a rule's f"{name}.bn" where the module is the whole model
        self.norms[name] = Norm(name, bn.num_features, self.total)
        self.total += bn.num_features
        if bn.weight is None:
            self.pin(self.norms[name].ids, f"{name} has no gamma")
        return self.norms[name].ids

    def conv(self, name: str, conv: Any, x: Ids, out: Ids | None = None) -> Ids:
        """A conv reads x and writes `out`.

        Args:
            name: its module name.
            conv: a Conv2d, ConvTranspose2d or Linear.
            x: (C_in,) ids.
            out: (C_out,) the ids of the BN that scales its output, or of the channels that its
                output is multiplied with; None: channels that no BN scales.
        """
        name, linear = name.removeprefix("."), isinstance(conv, nn.Linear)
        c_in = conv.in_features if linear else conv.in_channels
        c_out = conv.out_features if linear else conv.out_channels
        if len(x) != c_in:
            raise AssertionError(f"{name}: {len(x)} channels reach it, it has {c_in}")
        scaled = out is not None
        out = np.full(c_out, FREE) if out is None else out
        if len(out) != c_out:
            raise AssertionError(f"{name}: it writes {c_out} channels, {len(out)} are expected")
        groups = 1 if linear else conv.groups
        depthwise = groups == c_in == c_out > 1
        if depthwise and scaled:
            self.tie(x, out)
        elif groups > 1:
            self.pin(join([x, out]), f"{name} is a grouped conv")
        self.convs[name] = ConvNode(name, x, out, depthwise)
        return out

    def tie(self, a: Ids, b: Ids) -> None:
        """Channel by channel, a and b are kept or cut together."""
        for free, other in ((a, b), (b, a)):
            self.pin(other[free == FREE], "tied to channels that no BN scales")
        both = (a != FREE) & (b != FREE)
        self.ties.append((a[both], b[both]))

    def add(self, name: str, a: Ids, b: Ids, inside: Iterable[Ids] = ()) -> Ids:
        """A residual add: what may be cut of it is a matter of `residual`.

        Args:
            name: of the module that adds.
            a, b: (C,) ids of what is added.
            inside: ids of the BNs within the residual branch, pinned with residual="skip".

        Returns:
            (C,) ids of the sum.
        """
        self.tie(a, b)
        if self.residual != "group":
            self.pin(join([a, b]), f"added in {name}")
        if self.residual == "skip":
            self.pin(join(inside), f"inside the residual {name}")
        return np.where(a == FREE, b, a)

    def pin(self, x: Ids, why: str) -> None:
        """These channels must all be kept."""
        for channel in set(x.tolist()) - {FREE}:
            self.pins.setdefault(channel, why)

    def dense(self, name: str, module: nn.Module, x: Any) -> Any:
        """A module that has no rule: what feeds it is pinned, its inside left as it is.

        Returns:
            (C,) FREE for each of its outputs.
        """
        read = join(x if isinstance(x, list) else [x])
        self.unknown.append((name, type(module).__name__, read))
        self.pin(read, f"read by {name}, {type(module).__name__}, which has no rule")
        for child, bn in module.named_modules():
            if isinstance(bn, nn.BatchNorm2d):
                full = f"{name}.{child}" if child else name
                self.pin(self.norm(full, bn), f"inside {name}, which has no rule")
        count = self.channels()[name]
        if isinstance(count, list):
            return [np.full(c, FREE) for c in count]
        return np.full(len(read) if count is None else count, FREE)

    def finish(self) -> ChannelGraph:
        """Groups from ties, pins spread over their groups, readers by BN."""
        a, b = (
            (np.concatenate([np.zeros(0, int), *side]) for side in zip(*self.ties, strict=True))
            if self.ties
            else (np.zeros(0, int), np.zeros(0, int))
        )
        links = coo_array((np.ones(len(a)), (a, b)), shape=(self.total, self.total))
        _, group = connected_components(links, directed=False)
        owner = np.repeat(np.arange(len(self.norms)), [n.channels for n in self.norms.values()])
        names = list(self.norms)
        why_group = {group[channel]: why for channel, why in reversed(self.pins.items())}
        readers: dict[str, list[str]] = {name: [] for name in names}
        for node in self.convs.values():
            for index in np.unique(owner[node.inputs[node.inputs != FREE]]):
                readers[names[index]].append(node.name)
        together: dict[int, set[int]] = {}
        tied_ids = np.unique(join([a, b]))
        for g, o in np.unique(np.stack([group[tied_ids], owner[tied_ids]]), axis=1).T.tolist():
            together.setdefault(g, set()).add(o)
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
        unknown = tuple(
            Unknown(name, kind, tuple(names[i] for i in np.unique(owner[ids[ids != FREE]])))
            for name, kind, ids in self.unknown
        )
        return ChannelGraph(norms, self.convs, group, self.residual, unknown, self.outputs)


def join(parts: Iterable[Ids]) -> Ids:
    """Concat along channels."""
    return np.concatenate([np.zeros(0, int), *parts])
