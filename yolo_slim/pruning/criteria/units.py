"""Units: what a criterion scores as one layer if it looks at the convs that read a channel.

A unit is a BatchNorm, or several that are tied to each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from yolo_slim.channels.graph import ChannelGraph, Norm
from yolo_slim.channels.ties import tie_heads
from yolo_slim.pruning.masks import Scores


class Units:
    """The units of a graph, by number.

    Args:
        graph: of a model.

    Attributes:
        norms: of each unit its prunable BNs.
        groups: of each unit the groups of channels that go together, (G,), sorted.
        readers: names of the convs that read a unit, in the graph's order; no depthwise ones.
    """

    def __init__(self, graph: ChannelGraph) -> None:
        heads = tie_heads(graph.norms)
        units: dict[str, list[Norm]] = {}
        for norm in graph.prunable:
            units.setdefault(heads[norm.name], []).append(norm)
        self._graph = graph
        self._home = np.full(graph.channels + 1, -1)  # unit of each channel id; the last is FREE
        self.norms = [tuple(norms) for norms in units.values()]
        self.groups: list[np.ndarray] = []
        for index, norms in enumerate(self.norms):
            ids = np.concatenate([norm.ids for norm in norms])
            self._home[ids] = index
            self.groups.append(np.unique(graph.group[ids]))
        self.readers = [
            name
            for name, node in graph.convs.items()
            if not node.depthwise and (self._home[node.inputs] >= 0).any()
        ]

    def read_by(self, name: str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """What a conv reads: number of a unit, which of its inputs, (n,), and their groups, (n,).

        Groups are places in the unit's `groups`.
        """
        inputs = self._graph.convs[name].inputs
        home = self._home[inputs]
        for index in sorted(set(home.tolist()) - {-1}):
            mine = np.flatnonzero(home == index)
            groups = self._graph.group[inputs[mine]]
            yield index, mine, np.searchsorted(self.groups[index], groups)

    def scores(self, index: int, value: np.ndarray) -> Scores:
        """BN name to (C,), from values of a unit's groups, (G,)."""
        return {
            norm.name: torch.from_numpy(
                value[np.searchsorted(self.groups[index], self._graph.group[norm.ids])]
            )
            for norm in self.norms[index]
        }
