"""`prune`: the road from a model to a pruned one, in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph, Residual
from yolo_slim.channels.rules import channel_graph, from_outside
from yolo_slim.errors import InputError
from yolo_slim.host import checkpoint
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.budget import DEFAULT, Masks, achieved, global_masks
from yolo_slim.pruning.choose import kept_by, shares
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
    percent: float | None = None,
    *,
    min_channels: int = 1,
    residual: Residual = "skip",
    keep: Sequence[str] = (),
    ratios: Mapping[str, float] | None = None,
    imgsz: int = 640,
) -> Pruned:
    """Cut the channels with the smallest |gamma|.

    Args:
        model: a YOLOv5 detector, as from `load(...).model`; left untouched.
        percent: share of the prunable BN channels to cut, in [0, 1). None: 0.6, or what `ratios`
            add up to where they name every layer.
        min_channels: each layer keeps at least so many.
        residual: see `channel_graph`.
        keep: globs over BN and module names ("model.2", "model.*.cv1.bn"): never cut.
        ratios: glob to the share that is cut of each BN that it matches.
        imgsz: side of the image, px, that MACs are counted for.

    Raises:
        InputError: an argument is out of range, or the model has a module with no rule.
        ParityError: the result does not compute what it should: nothing is returned.
    """
    graph = channel_graph(model, residual)
    held, own = kept_by(graph, keep), shares(graph, ratios or {})
    scores = bn_scores(model, graph)
    masks = global_masks(graph, scores, percent, min_channels=min_channels, keep=held, ratios=own)
    own_rules = sorted({type(m).__name__ for m in model.modules() if from_outside(type(m))})
    if own_rules:  # what this cut leaves alone proves nothing about them
        trial = global_masks(graph, random_scores(graph), 0.5)
        cut_and_prove(model, graph, trial, own_rules)
    pruned, parity = cut_and_prove(model, graph, masks, own_rules)
    before, after, cut = cost(model, imgsz), cost(pruned, imgsz), achieved(graph, masks)
    named = bool(own) and all(n.name in own or n.name in held for n in graph.prunable)
    report = CutReport(
        percent=(cut if named else DEFAULT) if percent is None else percent,
        achieved=cut,
        layers=layer_cuts(graph, masks, min_channels, held, own),
        unknown=tuple(map(str, graph.unknown)),
        residual=residual,
        before=before,
        after=after,
        parity=parity.error,
    )
    pruned.ancestry.append(
        {
            "percent": report.percent,
            "residual": residual,
            "achieved": report.achieved,
            "params": [before.params, after.params],
            "macs": [before.macs, after.macs],
            "dense_yaml": dict(model.yaml),
        }
    )
    return Pruned(pruned, masks, pruned.yaml, parity, report)


def cut_and_prove(
    model: nn.Module, graph: ChannelGraph, masks: Masks, own_rules: Sequence[str] = ()
) -> tuple[ModelPruned, Parity]:
    """Rebuild a model and compare it with the masked one.

    Args:
        model, graph, masks: see `rebuild`.
        own_rules: the types in it whose rules are a user's: to be named if it fails.

    Raises:
        ParityError: it does not compute what it should.
    """
    suspect = f"; is the rule of {' or '.join(own_rules)} right?" if own_rules else ""
    try:
        pruned = rebuild(model, graph, masks)
        parity = check_parity(model, pruned, graph, masks)
    except InputError:
        raise
    except Exception as error:  # a wrong rule may end in any
        if not own_rules:
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise ParityError(f"the pruned model cannot be run ({text}){suspect}") from error
    if not parity.holds:
        raise ParityError(f"the pruned model differs from the masked one: {parity}{suspect}")
    return pruned, parity


def random_scores(graph: ChannelGraph, seed: int = 0) -> dict[str, torch.Tensor]:
    """BN name to random scores (C,)."""
    generator = torch.Generator().manual_seed(seed)
    return {n.name: torch.rand(n.channels, generator=generator) for n in graph.prunable}


def layer_cuts(
    graph: ChannelGraph,
    masks: Masks,
    min_channels: int = 1,
    keep: Collection[str] = (),
    ratios: Mapping[str, float] | None = None,
) -> tuple[LayerCut, ...]:
    """One entry a BN: how many channels it had, how many it keeps, what held it back."""
    rows = []
    for norm in graph.norms.values():
        kept = int(masks[norm.name].sum()) if norm.name in masks else norm.channels
        parts = len(np.unique(graph.parts[norm.ids]))
        least = min_channels * parts
        floor = norm.pinned is None and kept <= least and (kept < norm.channels or least > parts)
        note = norm.pinned or ("floor" if floor else "")
        if norm.pinned is None and (norm.name in keep or set(norm.tied) & set(keep)):
            note = "--keep"
        elif ratios and norm.name in ratios:
            note = f"ratio {ratios[norm.name]:g}"
        rows.append(LayerCut(norm.name, norm.channels, kept, note))
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
