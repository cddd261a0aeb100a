"""What the convs that read the sum of a residual Bottleneck would miss without its branch.

The same measure as thinet's of a channel: the energy of the change of the next convs' outputs, as a
share of the energy that the layer brings there. Here the layer is the stream, to which the branch
is added, and the next convs are those that read it afterwards: the first conv of each later
Bottleneck, and the one after the last. Where none of its layer reads it, the energy of the sum
itself counts. A channel's score is the share that is missing once it and all before it are gone; so
a Bottleneck loses its share for each of its inner channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import Branch, ChannelGraph, ConvNode
from yolo_slim.pruning.activations import evaluation_copy, watch


def missing_energy(
    model: nn.Module, graph: ChannelGraph, calibration: Calibration, names: Sequence[str]
) -> dict[str, float]:
    """The share of the energy that is missing without each branch, times its inner channels."""
    lost, whole = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    added, total = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)  # before any conv reads it

    def read(branch: Branch, node: ConvNode, without: torch.Tensor, all_: torch.Tensor) -> None:
        lost[branch.name] += float(without.square().sum(1).mean((1, 2)).double().sum())
        whole[branch.name] += float(all_.square().sum(1).mean((1, 2)).double().sum())

    def end(name: str, sent: torch.Tensor, output: torch.Tensor) -> None:
        added[name] += float(sent.square().sum(dtype=torch.float64))
        total[name] += float(output.square().sum(dtype=torch.float64))

    watch_branches(model, graph, calibration, names, read, end)
    branches = [graph.branches[name] for name in names]
    channels = {branch.name: graph.norms[branch.inner].channels for branch in branches}
    least = torch.finfo(torch.float64).tiny  # of a stream that is silent
    return {
        n: channels[n] * (lost[n] / whole[n] if whole[n] else added[n] / max(total[n], least))
        for n in names
    }


def watch_branches(
    model: nn.Module,
    graph: ChannelGraph,
    calibration: Calibration,
    names: Sequence[str],
    read: Callable[[Branch, ConvNode, torch.Tensor, torch.Tensor], None],
    end: Callable[[str, torch.Tensor, torch.Tensor], None],
) -> None:
    """Run the images once, and look at what the convs make of branches and of streams.

    Args:
        model, graph, calibration, names: see `missing_energy`.
        read: is called with each branch and each conv that reads its stream afterwards, what the
            conv makes of the branch alone and what of the whole stream, (n, filters, h, w).
        end: is called with the name of each Bottleneck, what its branch adds, and the sum.
    """
    sent: dict[str, torch.Tensor] = {}  # of the batch that runs: what each branch has added
    copy = evaluation_copy(model)

    def add(name: str, conv: Any, inputs: Any, output: torch.Tensor) -> None:
        sent[name] = output

    def look(node: ConvNode, readers: Sequence[Branch], conv: Any, x: torch.Tensor) -> None:
        for branch in (branch for branch in readers if branch.name in sent):
            places, channels = places_of(branch, node)
            parts = (sent[branch.name][:, channels], x[:, places])
            weight, how = conv.weight[:, places], (conv.stride, conv.padding, conv.dilation)
            read(branch, node, *(F.conv2d(part, weight, None, *how) for part in parts))

    looks: dict[str, Callable[[Any, torch.Tensor], None]] = {}
    for node in graph.convs.values():
        readers = [graph.branches[n] for n in names if graph.branches[n].read_by(node)]
        conv = copy.get_submodule(node.name)
        if readers and isinstance(conv, nn.Conv2d) and conv.groups == 1:
            looks[node.name] = partial(look, node, readers)
    copy.register_forward_pre_hook(lambda model, inputs: sent.clear())
    for name in names:
        copy.get_submodule(f"{name}.cv2").register_forward_hook(partial(add, name))
        copy.get_submodule(name).register_forward_hook(
            lambda block, inputs, output, name=name: end(name, sent[name], output)
        )
    batches = [images for images, _ in calibration.batches]
    watch(copy, looks, batches, "Bottlenecks", copied=True)


def places_of(branch: Branch, node: ConvNode) -> tuple[np.ndarray, np.ndarray]:
    """Which inputs of a conv are of the stream, (n,), and which channels of it they are, (n,)."""
    order = np.argsort(branch.stream)
    places = np.flatnonzero(np.isin(node.inputs, branch.stream))
    return places, order[np.searchsorted(branch.stream[order], node.inputs[places])]
