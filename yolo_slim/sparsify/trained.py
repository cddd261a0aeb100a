"""What a sparse training says of the cut that comes after it."""

from __future__ import annotations

from typing import Any

from yolo_slim.host.checkpoint import Checkpoint
from yolo_slim.pruning.masks import Masks
from yolo_slim.sparsify.readiness import NEAR_ZERO

LITTLE = 0.01  # a smaller share of the channels that still work may be cut without a word


def trained_percent(source: Checkpoint) -> float | None:
    """The share of the channels that a sparse training brought to zero, or aimed at.

    It ends with less than was asked for if the run went back.
    """
    ended = kept_of(source, "penalty", "auto", "percent")
    return source.train.get("percent") if ended is None else ended


def kept_of(source: Checkpoint, *path: str) -> Any:
    """A value that the hooks of a training kept; None where there is none."""
    value: Any = source.kept
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None  # a file may hold anything
    return value


def warning_of(source: Checkpoint, masks: Masks) -> str:
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
