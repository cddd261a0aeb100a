"""The channel graph: which conv writes a channel, which convs read it, what else must go with it.

Each channel that a BatchNorm scales has an id. A feature map is then a vector of ids, one a
channel, and every operation between two convs is an operation on that vector: Concat joins vectors,
a pool hands its vector on, a Focus repeats it, an add ties two. The graph is read from the live
model, by one rule a module type (`rules`), never from a model yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from yolo_slim.channels.residual import Residual

Ids = np.ndarray  # (C,) int: the BN channel behind each channel of a feature map, FREE where none
RESIDUAL_PINS = ("added in ", "inside the residual ")  # how reasons for these pins begin
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
class Branch:
    """The branch of a residual Bottleneck, x + cv2(cv1(x)).

    Attributes:
        name: of the Bottleneck, such as "model.4.m.0".
        inner, outer: names of the BNs of its cv1 and cv2.
        stream: (C,) ids of x, which are those of the sum, too.
        stays: why it cannot be cut as a whole; None where it can.
    """

    name: str
    inner: str
    outer: str
    stream: Ids
    stays: str | None = None

    @property
    def convs(self) -> tuple[str, str]:
        """Names of its convs."""
        return self.inner.removesuffix("bn") + "conv", self.outer.removesuffix("bn") + "conv"

    @property
    def home(self) -> str:
        """The layer that its stream begins and ends in: "model.4"."""
        return self.name.rpartition(".")[0].removesuffix(".m")

    def read_by(self, node: ConvNode) -> bool:
        """True for a conv of its layer that reads its stream, before or after the sum."""
        inside = node.name.startswith(f"{self.home}.") and node.name not in self.convs
        return inside and bool(np.isin(node.inputs, self.stream).any())


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
        rows: name of a module that has a parameter a channel, such as a PReLU, to its ids.
        silenced: name of a module that does not send 0 where its input is 0, such as a sigmoid, to
            the ids of its output: a channel that is cut is silent after it.
        branches: name of each residual Bottleneck to its branch, in the order of the model.
    """

    norms: dict[str, Norm]
    convs: dict[str, ConvNode]
    group: np.ndarray
    residual: Residual = "skip"
    unknown: tuple[Unknown, ...] = ()
    outputs: Mapping[str, Ids] = field(default_factory=dict)
    rows: Mapping[str, Ids] = field(default_factory=dict)
    silenced: Mapping[str, Ids] = field(default_factory=dict)
    branches: Mapping[str, Branch] = field(default_factory=dict)

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
    def reasons(self) -> dict[str, int]:
        """Why channels are pinned, to how many; residual adds, a matter of `residual`, left out
        where there is another reason.
        """
        kinds = {module.name: module.type for module in self.unknown}
        channels: dict[str, int] = {}
        for norm in (norm for norm in self.norms.values() if norm.pinned):
            why = str(norm.pinned)
            if read := re.fullmatch(r"(?:read by |inside )([\w.]+).*which has no rule", why):
                why = f"{read[1]}: {kinds.get(read[1], 'it')} has no rule"
            channels[why] = channels.get(why, 0) + norm.channels
        others = {why: n for why, n in channels.items() if not why.startswith(RESIDUAL_PINS)}
        return others or channels

    def pins(self) -> str:
        """What pins most of the channels that are pinned, such as "model.9: Attention has no rule,
        and 2 more"; empty where nothing is.
        """
        if not self.reasons:
            return ""
        first, more = max(self.reasons, key=self.reasons.__getitem__), len(self.reasons) - 1
        return f"{first}, and {more} more" if more else first

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


def join(parts: Iterable[Ids]) -> Ids:
    """Concat along channels."""
    return np.concatenate([np.zeros(0, int), *parts])
