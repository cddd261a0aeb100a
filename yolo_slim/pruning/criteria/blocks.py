"""What a residual Bottleneck is worth besides its inner channels, in the unit of their scores.

A Bottleneck that goes as a whole takes its inner channels with it, and what they are worth together
beyond the sum of their scores: the loss of the whole less that sum, at least 0. So a cut that keeps
the most score weighs Bottlenecks and channels alike. What is lost without the whole is a matter of
the criterion (`Criterion.block`), measured with the branch silenced: taylor by the loss, thinet and
obs by what the convs that read the sum miss. Any other criterion scores the channels that the
branch adds as channels of the layer that they are added to, and the Bottleneck loses their mean for
each of its inner channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.late import function_at
from yolo_slim.numerics import copy_of
from yolo_slim.pruning.criteria.score import DATA, raw_scores, scale_of, score
from yolo_slim.pruning.criteria.table import Criterion, find
from yolo_slim.pruning.masks import Scores, removable


def block_scores(
    model: nn.Module,
    graph: ChannelGraph,
    criterion: str = "bn",
    calibration: Calibration | None = None,
    *,
    names: Sequence[str] | None = None,
    scores: Scores | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """What residual Bottlenecks are worth besides their inner channels.

    Args:
        model: left untouched.
        graph: its channel graph, with residual "inner" or "group".
        criterion: that the channels are scored by.
        calibration: images, for a criterion that needs them.
        names: of the Bottlenecks; None: all that may go, see `removable`.
        scores: of the channels, as `score` gives them; None: they are taken.
        seed: of what a criterion draws.

    Returns:
        Name of the Bottleneck, such as "model.4.m.0", to its worth, 0 or more.

    Raises:
        InputError: an unknown criterion, or no calibration images where it needs them.

    Example:
        >>> from yolo_slim import channel_graph
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> worth = block_scores(model, channel_graph(model, "inner"), "l2")
        >>> list(worth)[:3], min(worth.values()) >= 0
        (['model.2.m.0', 'model.4.m.0', 'model.4.m.1'], True)
    """
    row = find(criterion)
    names = removable(graph) if names is None else names
    if row.data and (calibration is None or not calibration.images):
        raise InputError(f"--criterion {row.name}", "no calibration images", DATA)
    if not names:
        return {}
    if scores is None:
        scores = score(model, graph, criterion, calibration, seed)
    if row.block:
        copy = copy_of(model).float().eval().requires_grad_(False)
        with torch.no_grad():
            lost = function_at(__package__, row.block)(copy, graph, calibration, names)
    else:
        lost = added(row, model, graph, calibration, names, seed)
    inner = {name: float(scores[graph.branches[name].inner].sum()) for name in names}
    return {name: max(float(lost[name]) - inner[name], 0.0) for name in names}


def added(
    row: Criterion,
    model: nn.Module,
    graph: ChannelGraph,
    calibration: Calibration | None,
    names: Sequence[str],
    seed: int,
) -> Mapping[str, float]:
    """The mean score of the channels that each branch adds, times the number of its inner channels.

    They are scored as if they could be cut alone, on the scale of all BNs that are added together.
    """
    branches = [graph.branches[name] for name in names]
    layers = {b.name: [b.outer, *graph.norms[b.outer].tied] for b in branches}
    free = {bn for layer in layers.values() for bn in layer}
    norms = {n: replace(v, pinned=None) if n in free else v for n, v in graph.norms.items()}
    raw = raw_scores(row, model, replace(graph, norms=norms), calibration, seed)
    lost = {}
    for branch in branches:
        scale = scale_of(row, torch.cat([raw[bn] for bn in layers[branch.name]]))
        mean = float((raw[branch.outer] / scale).mean())
        lost[branch.name] = mean * graph.norms[branch.inner].channels
    return lost
