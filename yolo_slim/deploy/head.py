"""Detect's decoding as it is exported: plane by plane, the same rows in fewer passes over memory.

YOLOv5 turns each map of a head into rows first, and decodes the boxes there, two numbers at a time.
Here the boxes are decoded while x, y, w and h are planes of one number a cell, and the rows are
made last. The sigmoid stands right behind the conv, which runtimes do in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from torch import nn

from yolo_slim.host.classes import yolo


def decode_by_planes_(model: nn.Module) -> None:
    """Let each Detect of a model decode by planes, in place; a Detect of another forward stays.

    Args:
        model: as `exportable` makes it.
    """
    for head in model.modules():
        if not isinstance(head, yolo.Detect):
            continue
        if type(head).forward is yolo.Detect.forward:
            head.forward = MethodType(rows, head)
        elif type(head).forward is yolo.Segment.forward and head.detect is yolo.Detect.forward:
            head.detect = rows
        else:
            continue
        head.grid = [torch.empty(0) for _ in range(head.nl)]


def rows(head: Any, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor]:
    """What Detect.forward returns in export mode.

    Args:
        head: a Detect, or a Segment, whose mask coefficients are left as they are.
        maps: (batch, C, height, width) of each scale.

    Returns:
        (batch, anchors, 5 + nc + nm).
    """
    scales = []
    for index, (conv, features) in enumerate(zip(head.m, maps, strict=True)):
        raw = conv(features).float()  # of a model in float16: boxes need more
        batch, _, height, width = raw.shape
        if head.dynamic or head.grid[index].shape[-1] != height * width:
            head.grid[index] = corners(head, index, height, width)
            head.anchor_grid[index] = (
                4 * (head.anchors[index] * head.stride[index])[None, ..., None]
            )
        shape = batch, head.na, head.no, height * width
        masks = head.no - head.nc - 5
        if masks:
            sizes = 4, head.nc + 1, masks
            box, scores, coefficients = raw.view(shape).split(sizes, 2)
            xy, wh = box.sigmoid().split(2, 2)
            rest = [scores.sigmoid(), coefficients]
        else:
            xy, wh, *rest = raw.sigmoid().view(shape).split((2, 2, head.nc + 1), 2)
        xy = xy * (2 * head.stride[index]) + head.grid[index]
        wh = wh * wh * head.anchor_grid[index]
        planes = torch.cat((xy, wh, *rest), 2)
        scales.append(planes.transpose(2, 3).reshape(batch, -1, head.no))
    return (torch.cat(scales, 1),)


def corners(head: Any, index: int, height: int, width: int) -> torch.Tensor:
    """Where the boxes of each cell begin to be counted, px: (1, 1, 2, height * width)."""
    x = torch.arange(width, dtype=head.anchors.dtype).view(1, -1).expand(height, width)
    y = torch.arange(height, dtype=head.anchors.dtype).view(-1, 1).expand(height, width)
    return ((torch.stack((x, y)) - 0.5) * head.stride[index]).view(1, 1, 2, -1)
