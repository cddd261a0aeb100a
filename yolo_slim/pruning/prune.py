"""`prune`: the road from a model to a pruned one, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph, Residual
from yolo_slim.channels.rules import channel_graph
from yolo_slim.host import checkpoint
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.budget import Masks, achieved, global_masks
from yolo_slim.pruning.model import ModelPruned
from yolo_slim.pruning.parity import Parity, ParityError, check_parity
from yolo_slim.pruning.rebuild import rebuild
from yolo_slim.pruning.score import bn_scores
from yolo_slim.report.tables import CutReport, LayerCut


@dataclass(frozen=True)
class Pruned:
    """What `prune` returns.

    Attributes:
        model: the smaller detector.
        masks: BN name to bool (C,), True = kept; the prunable BNs.
        yaml: the yaml that builds it.
        parity: the proof that it computes what the masked model computes.
        report: what was asked and what came of it; prints itself as tables.
    """

    model: ModelPruned
    masks: Masks
    yaml: dict[str, Any]
    parity: Parity
    report: CutReport


def prune(
    model: nn.Module,
    percent: float = 0.6,
    *,
    min_channels: int = 1,
    residual: Residual = "skip",
    imgsz: int = 640,
) -> Pruned:
    """Cut the channels with the smallest |gamma|.

    Args:
        model: a YOLOv5 detector, as from `load(...).model`; left untouched.
        percent: share of the prunable BN channels to cut, in [0, 1).
        min_channels: each layer keeps at least so many.
        residual: see `channel_graph`.
        imgsz: side of the image, px, that MACs are counted for.

    Raises:
        InputError: an argument is out of range, or the model has a module with no rule.
        ParityError: the result does not compute what it should: nothing is returned.
    """
    graph = channel_graph(model, residual)
    masks = global_masks(graph, bn_scores(model, graph), percent, min_channels=min_channels)
    pruned = rebuild(model, graph, masks)
    parity = check_parity(model, pruned, graph, masks)
    if not parity.holds:
        raise ParityError(f"the pruned model differs from the masked one: {parity}")
    before, after = cost(model, imgsz), cost(pruned, imgsz)
    report = CutReport(
        percent=percent,
        achieved=achieved(graph, masks),
        layers=layer_cuts(graph, masks, min_channels),
        before=before,
        after=after,
        parity=parity.error,
    )
    pruned.ancestry.append(
        {
            "percent": percent,
            "achieved": report.achieved,
            "params": [before.params, after.params],
            "dense_yaml": dict(model.yaml),
        }
    )
    return Pruned(pruned, masks, pruned.yaml, parity, report)


def layer_cuts(
    graph: ChannelGraph, masks: Mapping[str, torch.Tensor], min_channels: int
) -> tuple[LayerCut, ...]:
    """One entry a BN: how many channels it had, how many it keeps, what held it back."""
    rows = []
    for norm in graph.norms.values():
        kept = int(masks[norm.name].sum()) if norm.name in masks else norm.channels
        floor = norm.pinned is None and kept == min(min_channels, norm.channels) < norm.channels
        rows.append(
            LayerCut(norm.name, norm.channels, kept, norm.pinned or ("floor" if floor else ""))
        )
    return tuple(rows)


def save(pruned: Pruned | nn.Module, path: str | Path) -> Path:
    """Write a checkpoint that every command of yolo_slim, and the host within it, opens.

    The weights are stored in half precision where that loses nothing (a checkpoint that YOLOv5
    finished is half already), else in float32. The file is written aside and renamed.

    Args:
        pruned: what `prune` returned, or a model.
        path: the file.

    Raises:
        InputError: the file cannot be written; an old one stays whole.
    """
    model = pruned.model if isinstance(pruned, Pruned) else pruned
    return checkpoint.save_model(model, path)
