"""What `inspect` says of a model: its layers, its BatchNorms, how they hang together.

An `Inspection` joins the channel graph with the weights. `graph_table` says it in words,
`graph_plot` draws it, `as_dict` hands it to a program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph, Norm
from yolo_slim.channels.ties import tie_letters
from yolo_slim.models.pruned_yaml import removed_in
from yolo_slim.text import counted

LEVELS = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}


@dataclass(frozen=True)
class NormView:
    """One BatchNorm.

    Attributes:
        norm: what the channel graph knows of it.
        layer: index of the YOLO layer that it lies in.
        gamma: |gamma| at LEVELS; nan where it is no number, or where the BN has none.
        tie: letter of the group of BNs that it is tied into; "" for none.
    """

    norm: Norm
    layer: int
    gamma: tuple[float, ...]
    tie: str = ""

    @property
    def label(self) -> str:
        """Its name within its layer: "m.0.cv2" of "model.4.m.0.cv2.bn", "bn" of "model.0.bn"."""
        return self.norm.name.split(".", 1)[1].partition(".")[2].removesuffix(".bn") or "bn"

    def as_dict(self) -> dict[str, Any]:
        """For a program; a |gamma| that is no finite number is null."""
        gamma = [value if math.isfinite(value) else None for value in self.gamma]
        return {
            "name": self.norm.name,
            "layer": self.layer,
            "channels": self.norm.channels,
            "readers": list(self.norm.readers),
            "tied": list(self.norm.tied),
            "tie": self.tie or None,
            "prunable": self.norm.pinned is None,
            "pinned": self.norm.pinned,
            "gamma": dict(zip(LEVELS, gamma, strict=True)),
        }


@dataclass(frozen=True)
class LayerView:
    """One YOLO layer: a row of the model yaml.

    Attributes:
        index: its place in the model.
        type: class name, such as "C3".
        number: how many of them follow one another (an nn.Sequential of one class).
        reads: indices of the layers that it reads; -1 is the image.
        norms: its BNs, in the order of the graph.
        unknown: (module name, class name) of the modules in it that have no rule.
    """

    index: int
    type: str
    number: int
    reads: tuple[int, ...]
    norms: tuple[NormView, ...]
    unknown: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """Its type, with how many of it: "C3", "8 x Bottleneck"."""
        return self.type if self.number == 1 else f"{self.number} x {self.type}"

    @property
    def sources(self) -> str:
        """What it reads, in words."""
        return ", ".join("image" if i < 0 else str(i) for i in self.reads)


@dataclass(frozen=True)
class Inspection:
    """A model and its channel graph.

    Attributes:
        weights: the file.
        residual: how residual adds were treated: skip, inner or group.
        classes: number of classes.
        params: number of parameters.
        layers: in the order of the model.
        bottlenecks: how many residual Bottlenecks it had before any cut.
        removed: names of those that are gone.
    """

    weights: str
    residual: str
    classes: int
    params: int
    layers: tuple[LayerView, ...]
    bottlenecks: int = 0
    removed: tuple[str, ...] = ()

    @cached_property
    def norms(self) -> tuple[NormView, ...]:
        """All BNs of the graph."""
        return tuple(norm for layer in self.layers for norm in layer.norms)

    @cached_property
    def ties(self) -> dict[str, tuple[NormView, ...]]:
        """Letter to the BNs that are tied, in the order of the model."""
        letters = dict.fromkeys(n.tie for n in self.norms if n.tie)
        return {tie: tuple(n for n in self.norms if n.tie == tie) for tie in letters}

    @property
    def channels(self) -> int:
        """Number of channels that a BN of the graph scales."""
        return sum(n.norm.channels for n in self.norms)

    @property
    def prunable_channels(self) -> int:
        """Number of channels that may be cut: what a `percent` is a share of."""
        return sum(n.norm.channels for n in self.norms if n.norm.pinned is None)

    @property
    def totals(self) -> str:
        """BNs, channels, parameters in one line."""
        norms, channels = counted(len(self.norms), "BatchNorm"), counted(self.channels, "channel")
        share = f"{self.prunable_channels:,} prunable with residual {self.residual}"
        return (
            f"{norms}, {channels}, {share}; "
            f"{self.params:,} parameters, {counted(self.classes, 'class')}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For a program: names are the model's module names, indices those of its layers."""
        return {
            "weights": self.weights,
            "residual": self.residual,
            "classes": self.classes,
            "params": self.params,
            "batchnorms": len(self.norms),
            "channels": self.channels,
            "prunable_channels": self.prunable_channels,
            "bottlenecks": self.bottlenecks,
            "removed": list(self.removed),
            "layers": [
                {"index": v.index, "type": v.type, "number": v.number, "reads": list(v.reads)}
                for v in self.layers
            ],
            "norms": [n.as_dict() for n in self.norms],
            "unknown": [{"name": n, "type": t} for v in self.layers for n, t in v.unknown],
        }


def inspection(model: nn.Module, graph: ChannelGraph, weights: str = "model") -> Inspection:
    """Join a model and its graph.

    Args:
        model: a YOLOv5 detector; only its modules are looked at, nothing is run.
        graph: what `channel_graph` said of it.
        weights: the file that it came from.
    """
    modules = dict(model.named_modules())
    ties = tie_letters(graph.norms)
    levels = torch.tensor(list(LEVELS.values()))
    views: dict[int, list[NormView]] = {}
    for name, norm in graph.norms.items():
        weight = modules[name].weight
        gamma = torch.tensor([math.nan]) if weight is None else weight.detach().float().cpu().abs()
        quantiles = tuple(torch.quantile(gamma, levels).tolist())
        index = int(name.split(".")[1])
        views.setdefault(index, []).append(NormView(norm, index, quantiles, ties.get(name, "")))
    unknown = [(u.name, u.type) for u in graph.unknown]
    removed = removed_in(model.yaml)
    layers = []
    for layer in model.model:
        kind, number = kind_of(layer)
        sources = [layer.f] if isinstance(layer.f, int) else layer.f
        layers.append(
            LayerView(
                index=layer.i,
                type=kind,
                number=number,
                reads=tuple(layer.i + f if f < 0 else f for f in sources),
                norms=tuple(views.get(layer.i, ())),
                unknown=tuple(u for u in unknown if int(u[0].split(".")[1]) == layer.i),
            )
        )
    return Inspection(
        weights=weights,
        residual=graph.residual,
        classes=model.model[-1].nc,
        params=sum(p.numel() for p in model.parameters()),
        layers=tuple(layers),
        bottlenecks=len(graph.branches) + len(removed),
        removed=removed,
    )


def kind_of(layer: nn.Module) -> tuple[str, int]:
    """Class name and number, as in a row of the model yaml: 8 Bottlenecks are an nn.Sequential."""
    inner = {type(m).__name__ for m in layer} if isinstance(layer, nn.Sequential) else set()
    if len(inner) == 1 and isinstance(layer, nn.Sequential):
        return inner.pop(), len(layer)
    return type(layer).__name__, 1
