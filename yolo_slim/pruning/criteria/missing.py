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
    sent: dict[str, torch.Tensor] = {}  # of the batch that runs: what each branch has added

    def add(name: str, conv: Any, inputs: Any, output: torch.Tensor) -> None:
        sent[name] = output
        added[name] += float(output.square().sum(dtype=torch.float64))

    def end(name: str, block: Any, inputs: Any, output: torch.Tensor) -> None:
        total[name] += float(output.square().sum(dtype=torch.float64))

    def read(node: ConvNode, branches: Sequence[Branch], conv: Any, x: torch.Tensor) -> None:
        for branch in branches:
            if branch.name in sent:
                places, channels = places_of(branch, node)
                energy = partial(energy_of, conv, places)
                lost[branch.name] += energy(sent[branch.name][:, channels])
                whole[branch.name] += energy(x[:, places])

    looks: dict[str, Callable[[Any, torch.Tensor], None]] = {}
    copy = evaluation_copy(model)
    branches = [graph.branches[name] for name in names]
    for node in graph.convs.values():
        readers = [branch for branch in branches if branch.read_by(node)]
        conv = copy.get_submodule(node.name)
        if readers and isinstance(conv, nn.Conv2d) and conv.groups == 1:
            looks[node.name] = partial(read, node, readers)
    copy.register_forward_pre_hook(lambda model, inputs: sent.clear())
    for name in names:
        copy.get_submodule(f"{name}.cv2").register_forward_hook(partial(add, name))
        copy.get_submodule(name).register_forward_hook(partial(end, name))
    batches = [images for images, _ in calibration.batches]
    watch(copy, looks, batches, "Bottlenecks", copied=True)
    channels = {branch.name: graph.norms[branch.inner].channels for branch in branches}
    least = torch.finfo(torch.float64).tiny  # of a stream that is silent
    return {
        n: channels[n] * (lost[n] / whole[n] if whole[n] else added[n] / max(total[n], least))
        for n in names
    }


def places_of(branch: Branch, node: ConvNode) -> tuple[np.ndarray, np.ndarray]:
    """Which inputs of a conv are of the stream, (n,), and which channels of it they are, (n,)."""
    order = np.argsort(branch.stream)
    places = np.flatnonzero(np.isin(node.inputs, branch.stream))
    return places, order[np.searchsorted(branch.stream[order], node.inputs[places])]


def energy_of(conv: nn.Conv2d, places: np.ndarray, x: torch.Tensor) -> float:
    """Sum over images of the mean energy at a position of what some inputs bring to an output.

    Args:
        conv: not grouped.
        places: (n,) which inputs.
        x: (images, n, h, w), what they are.
    """
    out = F.conv2d(x, conv.weight[:, places], None, conv.stride, conv.padding, conv.dilation)
    return float(out.square().sum(1).mean((1, 2)).double().sum())
