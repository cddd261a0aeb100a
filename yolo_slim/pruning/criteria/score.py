"""Scores of a model's channels, by one of the criteria in the table.

A criterion gets the model, its channel graph and calibration images, and returns scores (C,) for
each prunable BN: high is kept. Scores of different layers are compared with each other, so raw
ones whose size is a matter of their layer are divided by the layer's mean or L2 norm (the latter
after Molchanov et al. 2017, section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph, Norm
from yolo_slim.errors import InputError
from yolo_slim.late import function_at
from yolo_slim.numerics import copy_of
from yolo_slim.pruning.criteria.table import Criterion, find
from yolo_slim.pruning.masks import Scores

DATA = "a data yaml with --data"
SCALES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda scores: scores.new_ones(()),
    "mean": lambda scores: scores.abs().mean(),
    "l2": lambda scores: scores.norm(),
}


def score(
    model: nn.Module,
    graph: ChannelGraph,
    name: str = "bn",
    calibration: Calibration | None = None,
    seed: int = 0,
) -> Scores:
    """Score the channels of a model.

    Args:
        model: left untouched, with its gradients, modes and BN statistics.
        graph: its channel graph.
        name: of the criterion.
        calibration: images, for a criterion that needs them.
        seed: of torch's generators while the criterion runs; they are put back.

    Returns:
        BN name to scores (C,), float64 on the CPU, for the prunable BNs, divided by the scale.

    Raises:
        InputError: an unknown criterion, no calibration images where it needs them, or a criterion
            that fails or does not return finite scores for all prunable BNs.
    """
    row = find(name)
    raw = raw_scores(row, model, graph, calibration, seed)
    return {name: value / scale_of(row, value) for name, value in raw.items()}


def raw_scores(
    row: Criterion,
    model: nn.Module,
    graph: ChannelGraph,
    calibration: Calibration | None = None,
    seed: int = 0,
) -> Scores:
    """`score` before the scores are divided by their scale."""
    if row.data and (calibration is None or not calibration.images):
        raise InputError(f"--criterion {row.name}", "no calibration images", DATA)
    copy = copy_of(model).float().eval().requires_grad_()
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.enable_grad():
        torch.manual_seed(seed)
        raw = _run(row, copy, graph, calibration)
    return {norm.name: _checked(row, raw, norm) for norm in graph.prunable}


def scale_of(row: Criterion, value: torch.Tensor) -> torch.Tensor:
    """What the raw scores of a layer are divided by."""
    return SCALES[row.scale](value).clamp(min=torch.finfo(value.dtype).tiny)


def _run(
    row: Criterion, model: nn.Module, graph: ChannelGraph, calibration: Calibration | None
) -> Any:
    try:
        return function_of(row)(model, graph, calibration)
    except InputError:
        raise
    except Exception as error:  # whatever a user's criterion does
        if row.ours:
            raise
        got = f"{type(error).__name__} ({str(error)[:120]})"
        raise InputError(f"criterion {row.name}", got, "scores (C,) by BatchNorm") from error


def _checked(row: Criterion, raw: Any, norm: Norm) -> torch.Tensor:
    """The scores of one BN, float64 on the CPU."""
    where, expected = f"criterion {row.name}, {norm.name}", f"({norm.channels},) finite scores"
    value = raw.get(norm.name) if isinstance(raw, Mapping) else None
    if not isinstance(value, torch.Tensor) or value.shape != (norm.channels,):
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(where, got, expected)
    value = value.detach().double().cpu()
    if not value.isfinite().all():
        raise InputError(where, f"{value[~value.isfinite()][0]:g} among them", expected)
    return value


def function_of(criterion: Criterion) -> Callable[[nn.Module, ChannelGraph, Any], Scores]:
    """The function of a criterion; one of ours is imported now."""
    if not isinstance(criterion.home, str):
        return criterion.home
    return function_at(__package__, criterion.home)
