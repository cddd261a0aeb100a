"""A detector for other classes: its head keeps what it knows of boxes.

Where a checkpoint has other classes than the data, YOLOv5 begins with a new head and forgets how to
find boxes at all. Here the rows of a head that say where a box is, whether there is an object, and
what its mask is are kept; those that tell classes apart are new, made as YOLOv5 makes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from yolo_slim.numerics import copy_of

BOX = 5  # rows an anchor that know no class: x, y, w, h, objectness


def with_classes(model: nn.Module, names: Mapping[int, str], *, seed: int = 0) -> nn.Module:
    """A copy of a detector whose head tells other classes apart.

    Args:
        model: a detector, dense or pruned; left untouched.
        names: class index to class name.
        seed: of the new rows; torch's own generator is not touched.

    Returns:
        A model in eval mode; of the same number of classes an equal one with these names.
    """
    copy: nn.Module = copy_of(model).eval()
    head, nc = copy.model[-1], len(names)
    copy.names = {int(index): str(name) for index, name in names.items()}
    if nc == head.nc:
        return copy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convs = [exchanged(conv, head.na, head.nc, nc) for conv in head.m]
    copy.nc = head.nc = nc
    copy.yaml = {**copy.yaml, "nc": nc}
    head.no = convs[0].out_channels // head.na
    head.m = nn.ModuleList(convs)
    copy.__dict__.pop("class_weights", None)  # of the labels of another data set
    return copy


def exchanged(conv: nn.Conv2d, anchors: int, old: int, new: int) -> nn.Conv2d:
    """The conv of a scale with new rows for its classes.

    Args:
        conv: (anchors * (5 + old + rest), C, 1, 1).
        anchors: of the scale.
        old, new: numbers of classes.

    Returns:
        A conv with (anchors * (5 + new + rest), C, 1, 1).
    """
    rows = conv.out_channels // anchors - old + new
    made = nn.Conv2d(conv.in_channels, anchors * rows, 1).to(conv.weight)
    with torch.no_grad():
        made.bias.view(anchors, rows)[:, BOX : BOX + new] += math.log(0.6 / (new - 0.99999))
        for value in made.parameters():  # a checkpoint that is stored in half precision stays one
            value.copy_(value.half())
    copy_boxes_(made, conv, anchors, old, new)
    return made


@torch.no_grad()
def copy_boxes_(conv: nn.Conv2d, source: nn.Conv2d, anchors: int, old: int, new: int) -> None:
    """Copy the rows that know no class from a conv for `old` classes to one for `new` ones."""
    for ours, theirs in ((conv.weight, source.weight), (conv.bias, source.bias)):
        to, given = (
            ours.view(anchors, -1, *ours.shape[1:]),
            theirs.view(anchors, -1, *ours.shape[1:]),
        )
        to[:, :BOX] = given[:, :BOX].to(to)
        to[:, BOX + new :] = given[:, BOX + old :].to(to)


def inherit_boxes_(model: nn.Module, source: nn.Module) -> bool:
    """Copy the rows of the head that know no class from a detector of other classes, in place.

    Returns:
        False if nothing was copied: the classes are as many, or the heads differ in more than them.
    """
    ours, theirs = model.model[-1], source.model[-1]
    old, new = theirs.nc, ours.nc
    pairs = list(zip(ours.m, theirs.m, strict=False))
    fits = ours.nl == theirs.nl and ours.na == theirs.na and ours.no - new == theirs.no - old
    if old == new or not fits or any(a.in_channels != b.in_channels for a, b in pairs):
        return False
    for conv, given in pairs:
        copy_boxes_(conv, given, ours.na, old, new)
    return True


def same_classes(model: nn.Module, names: Mapping[int, str]) -> bool:
    """True if a detector has as many classes: YOLOv5 then keeps its head as it is."""
    return model.model[-1].nc == len(names)
