"""What the rules write into while a model is walked, and the channel graph that comes of it.

What a model uses twice is one thing: a BatchNorm that is called again scales the same channels, and
a conv that is called again, or whose weight is another's too, reads and writes channels that go
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from yolo_slim.channels.graph import (
    FREE,
    Branch,
    ChannelGraph,
    ConvNode,
    Ids,
    Norm,
    Unknown,
    join,
)
from yolo_slim.channels.residual import Residual

FREE_IDS = np.full(1, FREE)
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass
class Tracer:
    """What the rules write into.

    Attributes:
        residual: what may be cut around an add.
        channels: name of a module that has no rule to the channels of its output (an int, a list of
            them for several outputs, None for as many as it reads); called when one is met.
        modules: all names in the model to their modules; several names may mean one.
    """

    residual: Residual = "skip"
    channels: Callable[[], Mapping[str, Any]] = dict
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    norms: dict[str, Norm] = field(default_factory=dict)
    convs: dict[str, ConvNode] = field(default_factory=dict)
    rows: dict[str, Ids] = field(default_factory=dict)
    silenced: dict[str, Ids] = field(default_factory=dict)
    unknown: dict[str, tuple[str, Ids]] = field(default_factory=dict)
    outputs: dict[str, Ids] = field(default_factory=dict)
    branches: dict[str, Branch] = field(default_factory=dict)
    ties: list[tuple[Ids, Ids]] = field(default_factory=list)
    pins: dict[int, str] = field(default_factory=dict)  # channel id -> why
    total: int = 0

    def __post_init__(self) -> None:
        self._first: dict[int, str] = {}  # id of a module -> the first of its names
        for name, module in self.modules.items():
            self._first.setdefault(id(module), name)
        self._owners: dict[int, tuple[Any, tuple[Ids | None, ...]]] = {}  # parameters, ids of dims
        self._again: set[str] = set()  # BNs that are called again

    def name_of(self, name: str, module: Any) -> str:
        """The first name of a module that has several; a rule's ".bn" means "bn" of the model."""
        name = name.removeprefix(".")
        return self._first[id(module)] if self.modules.get(name) is module else name

    def norm(self, name: str, bn: Any) -> Ids:
        """Give the channels of a BN their ids (C,); the same ones where it is called again."""
        name = self.name_of(name, bn)
        if name in self.norms:
            self._again.add(name)
            return self.norms[name].ids
        self.norms[name] = Norm(name, bn.num_features, self.total)
        self.total += bn.num_features
        ids = self.norms[name].ids
        if bn.weight is None:
            self.pin(ids, f"{name} has no gamma")
        elif bn.running_mean is None:
            self.pin(ids, f"{name} has no running statistics")
        self._own(bn.weight, ids)
        self._own(bn.bias, ids)
        return ids

    def conv(self, name: str, conv: Any, x: Ids, out: Ids | None = None) -> Ids:
        """A conv reads x and writes `out`.

        Args:
            name: its module name.
            conv: a Conv2d, ConvTranspose2d or Linear.
            x: (C_in,) ids.
            out: (C_out,) the ids of the BN that scales its output, or of the channels that its
                output is multiplied with; None: channels that no BN scales.
        """
        name, linear = self.name_of(name, conv), isinstance(conv, nn.Linear)
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
        transposed = getattr(conv, "transposed", False)
        sides = (x, out) if transposed else (out, x)
        self._own(conv.weight, sides[0], None if groups > 1 else sides[1])
        self._own(conv.bias, out)
        self.convs.setdefault(name, ConvNode(name, x, out, depthwise))
        return out

    def each(self, name: str, module: nn.Module, x: Ids) -> Ids:
        """The module has one row of its own parameters and buffers a channel, cut with x (C,)."""
        name = self.name_of(name, module)
        self.tie(self.rows.setdefault(name, x), x)
        for values in module.parameters(recurse=False):
            if values.ndim and len(values) == len(x):
                self._own(values, x)
        return x

    def silence(self, name: str, x: Ids) -> Ids:
        """The module sends something where its input is 0: of x (C,) what is cut is silent."""
        name = name.removeprefix(".")
        if not np.array_equal(self.silenced.setdefault(name, x), x):
            self.pin(join([self.silenced.pop(name), x]), f"{name} is not 0 at 0, in several places")
            self.silenced[name] = np.full(len(x), FREE)
        return x

    def tie(self, a: Ids, b: Ids) -> None:
        """Channel by channel, a and b are kept or cut together."""
        if len(a) != len(b):
            raise AssertionError(f"{len(a)} and {len(b)} channels cannot be tied")
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

    def branch(self, name: str, x: Ids, inner: Ids, out: Ids) -> None:
        """A residual Bottleneck, which may be cut as a whole: x + cv2(cv1(x)).

        Args:
            name: of the Bottleneck.
            x, inner, out: ids of what it reads, and of what its cv1 and cv2 write.
        """
        name = name.removeprefix(".")
        bns = (f"{name}.cv1.bn", f"{name}.cv2.bn")
        own = [self.norms[bn].ids if bn in self.norms else FREE_IDS for bn in bns]
        stays = None
        if name in self.branches:
            stays = "it is called several times"
        elif not (np.array_equal(own[0], inner) and np.array_equal(own[1], out)):
            stays = "its convs have no BatchNorm of their own"
        elif (x == FREE).any():
            stays = "it adds to channels that no BN scales"
        elif not isinstance(self.modules.get(name.rpartition(".")[0]), nn.Sequential) or hasattr(
            self.modules[name],
            "f",  # where a layer of YOLOv5 reads
        ):
            stays = "it is a layer of its own"
        elif any(f"{name}.{conv}.act" in self.silenced for conv in ("cv1", "cv2")):
            stays = "its activation is not 0 at 0"
        self.branches[name] = Branch(name, bns[0], bns[1], x, stays)

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
        kind, before = type(module).__name__, self.unknown.get(name)
        self.unknown[name] = (kind, read if before is None else join([before[1], read]))
        self.pin(read, f"read by {name}, {kind}, which has no rule")
        for child, bn in module.named_modules():
            if isinstance(bn, NORMS):
                full = f"{name}.{child}" if child else name
                self.pin(self.norm(full, bn), f"inside {name}, which has no rule")
        for values in module.parameters():
            for ids in self._owners.get(id(values), (values, ()))[1]:
                self.pin(ids if ids is not None else FREE_IDS, f"shared with {name}, {kind}")
            self._owners[id(values)] = values, ()  # whoever has it too keeps all its channels
        count = self.channels()[name]
        if isinstance(count, list):
            return [np.full(c, FREE) for c in count]
        return np.full(len(read) if count is None else count, FREE)

    def _own(self, values: nn.Parameter | None, *dims: Ids | None) -> None:
        """The dims of a parameter are these channels; if it has been met before, of these too."""
        if values is None:
            return
        _, before = self._owners.setdefault(id(values), (values, dims))
        for ids in dims if not before else ():
            self.pin(ids if ids is not None else FREE_IDS, "shared with a module without a rule")
        for ids, known in zip(dims, before, strict=False):
            if ids is not None and known is not None and ids is not known:
                self.tie(known, ids)

    def _pin_behind_shared_norms(self) -> None:
        """Pin what convs read that share a BN: the constants of each would shift all of them."""
        for name in self._again:
            ids = self.norms[name].ids
            writers = [n for n in self.convs.values() if np.array_equal(n.outputs, ids)]
            for node in writers if len(writers) > 1 else ():
                self.pin(node.inputs, f"read by {node.name}, which shares {name} with another conv")

    def _settled(self, norms: Mapping[str, Norm]) -> dict[str, Branch]:
        """The branches, with what keeps them from being cut as a whole."""
        uses = Counter(
            id(values)
            for module in self.modules.values()
            for values in module.parameters(recurse=False)
        )
        settled = {}
        for name, branch in self.branches.items():
            stays, inner = branch.stays, norms.get(branch.inner)
            if stays is None and inner is not None and (inner.pinned or inner.tied):
                stays = inner.pinned or f"its inner channels are tied to {inner.tied[0]}"
            own = self.modules[name].parameters() if name in self.modules else ()
            if stays is None and any(uses[id(values)] > 1 for values in own):
                stays = "it shares weights with another module"
            settled[name] = replace(branch, stays=stays)
        return settled

    def finish(self) -> ChannelGraph:
        """Groups from ties, pins spread over their groups, readers by BN."""
        self._pin_behind_shared_norms()
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
            for name, (kind, ids) in self.unknown.items()
        )
        return ChannelGraph(
            norms=norms,
            convs=self.convs,
            group=group,
            residual=self.residual,
            unknown=unknown,
            outputs=self.outputs,
            rows=self.rows,
            silenced=self.silenced,
            branches=self._settled(norms),
        )
