"""What a model costs once it is cut, worked out from the masks alone: nothing is rebuilt.

The weights of a conv are as many as kept inputs times kept outputs times the kernel, and its MACs
are that times the positions that it is applied at, which no cut changes. A search for a budget so
needs one look at the dense model, then a sum over its convs a try. The figures are those of
`cost(rebuild(model, graph, masks))`, to the last MAC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph, Ids
from yolo_slim.host.checkpoint import finished, packed
from yolo_slim.measure.cost import Cost, module_macs, whole_strides
from yolo_slim.numerics import survives_half
from yolo_slim.pruning.masks import keep_vector, removable, removed
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.weight_masks import masks_of

ALIGNMENT = 64  # each tensor in a checkpoint begins at a multiple of it, bytes
HEADERS = 65  # of the zip format, from the end of a tensor to where the next may begin, bytes


class MaskCost:
    """Parameters, MACs and bytes of a model under masks.

    Args:
        model: the dense model; left untouched.
        graph: its channel graph.
        imgsz: side of the square image, px, that MACs are counted for (see `cost`).

    Attributes:
        imgsz: the same, rounded up to a multiple of the stride.
        positions: conv name to the times that it applies its weights to one image; its MACs are
            positions * elements of its weight, whatever is cut.
        everything: (ids + 1,) bool, True: the `keep` of the model as it is.
        dense: the cost of the model as it is.

    Raises:
        InputError: see `cost`.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, imgsz: int = 640) -> None:
        self._model, self._graph = model, graph
        self.imgsz = whole_strides(model, imgsz)
        macs = module_macs(model, self.imgsz)
        names = {id(module): name for name, module in model.named_modules()}
        modules = dict(model.named_modules(remove_duplicate=False))
        # A module that stands at several places is one: it is counted once, with all its positions.
        nodes = list({id(modules[node.name]): node for node in graph.convs.values()}.values())
        convs = [modules[node.name] for node in nodes]
        norms = [modules[name] for name in graph.norms]
        groups = [getattr(conv, "groups", 1) for conv in convs]
        depthwise = [node.depthwise for node in nodes]

        self._inputs = _Counts([node.inputs for node in nodes])
        self._outputs = _Counts([node.outputs for node in nodes])
        self._kept = _Counts([norm.ids for norm in graph.norms.values()])
        self._rows = _Counts(list(graph.rows.values()))
        self._of_rows = _array(len(list(modules[n].parameters(recurse=False))) for n in graph.rows)
        self.everything = np.ones(graph.channels + 1, dtype=bool)
        # A depthwise conv shrinks with its outputs alone; another grouped one is not cut at all.
        self._by_input = np.array([n == 1 for n in groups], dtype=bool)
        self._by_output = self._by_input | np.array(depthwise, dtype=bool)
        self._unit = np.ones(len(convs), dtype=np.int64)  # weights of one input and one output
        self._unit = _array(c.weight.numel() for c in convs) // self._weights(self.everything)
        new = _Once()  # what several modules share is counted with the first
        self._own = _array(new(c.weight) for c in convs)
        self._bias = _array(new(c.bias) for c in convs)
        self._affine = _array(new(n.weight) + new(n.bias) for n in norms)
        self._stored = _array(2 * n.affine + 2 * n.track_running_stats for n in norms)
        masked = masks_of(model)
        self._masked = _array(f"{node.name}.weight" in masked for node in nodes)
        self._positions = _array(macs[names[id(c)]] // c.weight.numel() for c in convs)
        self.positions = {n.name: int(p) for n, p in zip(nodes, self._positions, strict=True)}
        self._fixed_params = self._fixed_macs = 0  # what no cut changes
        params = sum(p.numel() for p in model.parameters())
        self.dense = Cost(params, sum(macs.values()), self.imgsz)
        self._fixed_params = params - self.params(self.everything)
        self._fixed_macs = self.dense.macs - self.macs(self.everything)

    def _weights(self, keep: np.ndarray) -> np.ndarray:
        """(convs,) elements of each weight."""
        inputs = np.where(self._by_input, self._inputs(keep), 1)
        return self._unit * inputs * np.where(self._by_output, self._outputs(keep), 1)

    def macs(self, keep: np.ndarray) -> int:
        """MACs of one image.

        Args:
            keep: (ids + 1,) bool, see `keep_vector`.
        """
        return self._fixed_macs + int(self._positions @ self._weights(keep))

    def params(self, keep: np.ndarray) -> int:
        """Number of parameters; `keep` as in `macs`."""
        biases = self._bias @ self._outputs(keep) + self._affine @ self._kept(keep)
        biases += self._of_rows @ self._rows(keep)
        return self._fixed_params + int(self._own @ self._weights(keep) + biases)

    def size(self, keep: np.ndarray) -> int:
        """Bytes of the checkpoint file, to about 0.1%: its tensors, and what a save of the uncut
        model has besides; `keep` as in `macs`.
        """
        gone = len(removed(self._graph, keep))
        return self._overhead + self._records(keep) - (gone and gone * self._of_a_block)

    def _records(self, keep: np.ndarray) -> int:
        """Bytes of convs, BatchNorms and masks over single weights (bits) in the file."""
        weights, outputs, kept = self._weights(keep), self._outputs(keep), self._kept(keep)
        elements = np.concatenate([weights, outputs, kept])
        times = np.concatenate([self._own, self._bias, self._stored])
        used = self._float_size * elements + HEADERS * (elements > 0)  # a tensor may be gone
        return int(times @ (-(-used // ALIGNMENT) * ALIGNMENT) + self._masked @ weights // 8)

    @cached_property
    def _float_size(self) -> int:
        return 2 if survives_half(self._model) else 4

    @cached_property
    def _overhead(self) -> int:
        """Bytes of all else in the file, from the save of a cut that keeps everything."""
        return self._besides(())

    @cached_property
    def _of_a_block(self) -> int:
        """Bytes of all else that a residual Bottleneck has in the file: names, hooks, counters."""
        blocks = removable(self._graph)
        return (self._overhead - self._besides(blocks)) // len(blocks)

    def _besides(self, gone: Sequence[str]) -> int:
        """Bytes of all else in the file of a model without some residual Bottlenecks."""
        empty = {self._graph.branches[name].inner for name in gone}
        masks = {
            norm.name: torch.full((norm.channels,), norm.name not in empty)
            for norm in self._graph.prunable
        }
        whole = finished(rebuild(self._model, self._graph, masks))
        return len(packed(whole)) - self._records(keep_vector(self._graph, masks))


class _Once:
    """1 for a parameter that is seen for the first time, 0 for another and for None."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, values: nn.Parameter | None) -> int:
        new = values is not None and id(values) not in self._seen
        self._seen.add(id(values))
        return int(new)


def _array(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


class _Counts:
    """Counts the kept channels of many vectors of ids at once: keep (ids + 1,) -> (vectors,)."""

    def __init__(self, vectors: Sequence[Ids]) -> None:
        self._ids = np.concatenate([np.zeros(0, int), *vectors])
        self._starts = np.cumsum([0, *map(len, vectors)])[:-1]

    def __call__(self, keep: np.ndarray) -> np.ndarray:
        if not len(self._starts):
            return np.zeros(0, dtype=np.int64)
        return np.add.reduceat(keep[self._ids], self._starts, dtype=np.int64)
