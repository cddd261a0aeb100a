"""What a sparse training says of the cut that comes after it."""

from __future__ import annotations

import argparse
from typing import Any

from yolo_slim.host.checkpoint import Checkpoint
from yolo_slim.pruning.budget.choose import ROUND_TO
from yolo_slim.pruning.masks import Masks
from yolo_slim.sparsify.readiness import NEAR_ZERO

LITTLE = 0.01  # share of the channels: that many a cut may take that work, before it is said


def as_trained_(opt: argparse.Namespace, source: Checkpoint, ratios: dict[str, float]) -> None:
    """Fill in what is not given: as in the sparse training, so that what is cut is zero."""
    trained = source.train
    opt.residual = opt.residual or trained.get("residual")
    by_macs = trained.get("macs") is not None  # what is zero then is what leaves so many
    opt.round_to = opt.round_to or (1 if by_macs else trained.get("round_to")) or ROUND_TO
    targets = (opt.percent, opt.macs, opt.params, opt.size_mb, opt.latency)
    free = not ratios and all(target is None for target in targets)
    if free and opt.criterion == "bn" and trained.get("st"):
        ended = kept_of(source, "penalty", "auto", "percent")  # less than asked, if it went back
        opt.percent = trained.get("percent") if ended is None else ended


def kept_of(source: Checkpoint, *path: str) -> Any:
    """A value that the hooks of a training kept; None where there is none."""
    found: Any = source.kept
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None  # a file may hold anything
    return found


def cost(source: Checkpoint, masks: Masks) -> str:
    """A sentence if a cut takes channels that a sparse training did not bring near zero."""
    start, works = kept_of(source, "monitor", "start"), 0
    if not isinstance(start, dict):
        return ""
    for name, mask in masks.items():
        gamma = source.model.get_submodule(name).weight.detach().abs()
        works += int((gamma[~mask] >= NEAR_ZERO * start.get(name, 0.0)).sum())
    share = works / sum(len(mask) for mask in masks.values())
    if share < LITTLE:
        return ""
    return (
        f"{share:.0%} of the prunable channels are cut though the sparse training did not bring "
        "them near zero: what they do is lost, finetuning has to win it back."
    )
