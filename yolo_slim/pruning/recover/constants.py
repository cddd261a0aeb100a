"""What cut channels still send: constants, moved into what comes after the next convs.

A channel with gamma 0 is not silent: through its activation it sends act(beta), everywhere. A cut
takes that away, and the convs that read it are off by a constant. It goes into the running mean of
the BatchNorm that follows them, or into their bias where there is none: exact for 1x1 convs; for a
padded conv exact inside the border, where each tap reads the image.

A cut channel whose gamma is not 0 sends no constant. In its place stands its mean, if what its
BatchNorm normalises is normal with the running statistics: E act(gamma z + beta), z ~ N(0, 1), by
Gauss-Hermite quadrature. With gamma 0 that is act(beta).

The constants are read off the model as it runs, where each conv reads its input: so they have gone
through every Concat, pool, upsampling and sum that there is. A conv that is called several times
takes their mean: exact where it reads the same constants at each call.

A residual Bottleneck that is cut as a whole added a constant, too, act(beta) of its cv2: to what
the convs read that come after it in its layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import Branch, ChannelGraph
from yolo_slim.host.image import is_detector, smallest_image
from yolo_slim.numerics import one_thread
from yolo_slim.pruning.masks import keep_vector, removed_blocks, whole_masks
from yolo_slim.pruning.rebuild.parity import in_double
from yolo_slim.pruning.recover.cut import Cut
from yolo_slim.pruning.recover.shift import Shifts

NODES = 15  # of the quadrature


@one_thread()
@torch.no_grad()
def constants_of(
    model: nn.Module, graph: ChannelGraph, masks: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What the cut channels send to the convs that read them.

    Args:
        model: the dense model; left untouched.
        graph: its channel graph.
        masks: BN name to bool (C,), True = kept.

    Returns:
        Name of each conv that loses inputs, to (C_in,) float64: 0 where the channel is kept, and no
        branch that is cut was added to it.
    """
    keep, masks = keep_vector(graph, masks), whole_masks(graph, masks)
    gone_branches = [graph.branches[name] for name in removed_blocks(graph, masks)]
    added = {branch.home: np.zeros(graph.channels + 1) for branch in gone_branches}  # so far
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    normal = torch.from_numpy(points)
    share = torch.from_numpy(weights / weights.sum())
    copy, constants, calls = in_double(model), dict[str, torch.Tensor](), dict[str, int]()
    if is_detector(copy):
        copy.model[-1].training = True  # it decodes no boxes

    def silence(cut: torch.Tensor, bn: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        level = bn.weight[cut] * normal[:, None] + bn.bias[cut]
        output[:, cut] = level.view(*level.shape, *[1] * (output.ndim - 2))
        return output

    def add(branch: Branch, conv: Any, inputs: Any, output: torch.Tensor) -> None:
        sent = output[:, :, _inside(output.shape[2]), _inside(output.shape[3])].mean((2, 3))
        added[branch.home][branch.stream] += (share @ sent).numpy()

    def level(name: str) -> np.ndarray:
        inputs = graph.convs[name].inputs
        homes = [values for home, values in added.items() if name.startswith(f"{home}.")]
        return sum((values[inputs] for values in homes), np.zeros(len(inputs)))

    def look(name: str, gone: torch.Tensor, conv: Any, inputs: tuple[torch.Tensor]) -> None:
        x = inputs[0]
        if x.ndim == 4:
            x = x[:, :, _inside(x.shape[2]), _inside(x.shape[3])].mean((2, 3))
        kept = torch.from_numpy(level(name))
        sent = torch.where(gone, (share @ x).squeeze(), kept)
        calls[name] = calls.get(name, 0) + 1  # a conv that is called again: their mean
        before = constants.get(name, torch.zeros_like(sent))
        constants[name] = before + (sent - before) / calls[name]

    for branch in gone_branches:
        copy.get_submodule(f"{branch.name}.cv2").register_forward_hook(partial(add, branch))
    for name, mask in masks.items():
        if not mask.all():
            copy.get_submodule(name).register_forward_hook(partial(silence, ~mask))
    for node in graph.convs.values():
        gone = torch.from_numpy(~keep[node.inputs])
        after = any(branch.read_by(node) for branch in gone_branches)
        if (gone.any() or after) and keep[node.outputs].any() and not node.depthwise:
            copy.get_submodule(node.name).register_forward_pre_hook(partial(look, node.name, gone))
    channels, *sides = smallest_image(model)
    cells = 3 if is_detector(model) else 1  # of the coarsest map: one is inside its border
    copy(torch.zeros(NODES, channels, *(cells * side for side in sides), dtype=torch.float64))
    return constants


def _inside(size: int) -> slice:
    """The middle third of a map: the cell inside the border, of which a PixelShuffle makes many."""
    return slice(size // 3, size - size // 3)


@torch.no_grad()
def move_constants_(
    pruned: nn.Module, model: nn.Module, graph: ChannelGraph, masks: Mapping[str, torch.Tensor]
) -> int:
    """Give the convs that lost inputs what those sent, in place.

    Of the pruned model running means and biases change, nothing else.

    Args:
        pruned: what `rebuild` made of model, graph and masks.
        model: the dense model; left untouched.
        graph, masks: see `rebuild`.

    Returns:
        The number of convs whose outputs were shifted.
    """
    shifts, keep = Shifts(pruned, model, graph, masks), keep_vector(graph, masks)
    moved = 0
    for name, constants in constants_of(model, graph, masks).items():
        conv = model.get_submodule(name)
        weight = conv.weight.detach().cpu().double()
        if getattr(conv, "transposed", False):  # each output pixel sees its share of the taps
            weight = weight.transpose(0, 1) / np.prod(conv.stride)
        effect = weight.flatten(2).sum(2) @ constants if weight.ndim > 2 else weight @ constants
        if shifts.takes(name) and effect.any():
            shifts.set_(name, effect[torch.from_numpy(keep[graph.convs[name].outputs])])
            moved += 1
    return moved


def recover_(cut: Cut) -> int:
    """`move_constants_` as a part of a recovery."""
    return move_constants_(cut.pruned, cut.model, cut.graph, cut.masks)
