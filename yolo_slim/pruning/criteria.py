"""How much each channel matters: a criterion is one function, registered under a name.

A criterion gets the model, its channel graph and calibration images, and returns scores (C,) for
each prunable BN: high is kept. Scores of different layers are compared with each other, so raw
ones whose size is a matter of their layer are divided by the layer's mean or L2 norm (the latter
after Molchanov et al. 2017, section 2.2). To add a criterion, write a function: nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal

import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph, Norm, Residual
from yolo_slim.errors import InputError
from yolo_slim.pruning.calibration import Calibration

Scores = dict[str, torch.Tensor]  # BN name -> (C,), for the prunable BNs
Score = Callable[[nn.Module, ChannelGraph, Any], Scores]  # the last: Calibration, or None

SCALES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda scores: scores.new_ones(()),
    "mean": lambda scores: scores.abs().mean(),
    "l2": lambda scores: scores.norm(),
}
HOMES = {  # our criteria: the module of this package that registers them
    "bn": "criteria",
    "l1": "filters",
    "l2": "filters",
    "next-l2": "filters",
    "taylor": "taylor",
    "thinet": "thinet",
    "obs": "obs",
    "random": "criteria",
    "first": "criteria",
}


@dataclass(frozen=True)
class Criterion:
    """A way to score channels.

    Attributes:
        name: of --criterion.
        score: (model, graph, calibration) to raw scores, BN name to (C,); see `criterion`.
        data: it looks at calibration images.
        labels: it looks at their labels, too, which have to be of the model's classes.
        scale: what raw scores are divided by, layer by layer: "none", "mean" or "l2".
        residual: what may be cut around residual adds where the user does not say.
        recover: what is done after the cut where the user does not say.
        spread: how the cut spreads over the layers where the user does not say, see `prune`.
        batch: calibration images a batch.
    """

    name: str
    score: Score
    data: bool = False
    labels: bool = False
    scale: str = "none"
    residual: Residual = "skip"
    recover: tuple[str, ...] = ("constants",)
    spread: Literal["global", "uniform", "per-mac"] = "global"
    batch: int = 8


CRITERIA: dict[str, Criterion] = {}  # those whose module has been imported; `find` knows all


def criterion(
    name: str,
    *,
    data: bool = False,
    labels: bool | None = None,
    scale: str = "none",
    residual: Residual = "skip",
    recover: tuple[str, ...] = ("constants",),
    spread: Literal["global", "uniform", "per-mac"] = "global",
    batch: int = 8,
) -> Callable[[Score], Score]:
    """Decorator: the function is the criterion of this name.

    The function is called with a copy of the model (float32, eval mode, every parameter with
    requires_grad), the graph, and the calibration images (None where `data` is not set and the user
    gave none). It may do to the copy what it
    likes. It returns a float tensor (C,) for each BN of `graph.prunable`.

    Args:
        name, data, scale, residual, recover, spread, batch: see `Criterion`.
        labels: see `Criterion`; None: as `data`.

    Raises:
        InputError: the name is one of ours, or `scale` is unknown.
    """
    if scale not in SCALES:
        raise InputError(f"criterion {name}", f"scale={scale!r}", ", ".join(SCALES))

    def register(function: Score) -> Score:
        home = f"{__package__}.{HOMES[name]}" if name in HOMES else function.__module__
        if function.__module__ != home:
            raise InputError(f"criterion {name}", "a name that is taken", "a name of its own")
        looks = data if labels is None else labels
        CRITERIA[name] = Criterion(
            name, function, data, looks, scale, residual, recover, spread, batch
        )
        return function

    return register


def find(name: str) -> Criterion:
    """The criterion of a name.

    Raises:
        InputError: there is none; all that there are, are in the message.
    """
    if name in HOMES:
        import_module(f"{__package__}.{HOMES[name]}")
    if name not in CRITERIA:
        known = list(dict.fromkeys([*HOMES, *CRITERIA]))
        near = get_close_matches(str(name), known, n=1, cutoff=0.7)
        text = f"{near[0]}? All: " if near else ""
        raise InputError("--criterion", repr(name), text + ", ".join(known))
    return CRITERIA[name]


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
    found = find(name)
    if found.data and (calibration is None or not calibration.images):
        raise InputError(f"--criterion {name}", "no calibration images", "a data yaml with --data")
    copy = deepcopy(model).float().eval().requires_grad_()
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.enable_grad():
        torch.manual_seed(seed)
        raw = _run(found, copy, graph, calibration)
    scores = {}
    for norm in graph.prunable:
        value = _checked(found, raw, norm)
        scale = SCALES[found.scale](value).clamp(min=torch.finfo(value.dtype).tiny)
        scores[norm.name] = value / scale
    return scores


def _run(
    found: Criterion, model: nn.Module, graph: ChannelGraph, calibration: Calibration | None
) -> Any:
    try:
        return found.score(model, graph, calibration)
    except InputError:
        raise
    except Exception as error:  # whatever a user's criterion does
        if found.name in HOMES:
            raise
        got = f"{type(error).__name__} ({str(error)[:120]})"
        raise InputError(f"criterion {found.name}", got, "scores (C,) by BatchNorm") from error


def _checked(found: Criterion, raw: Any, norm: Norm) -> torch.Tensor:
    """The scores of one BN, float64 on the CPU."""
    where, expected = f"criterion {found.name}, {norm.name}", f"({norm.channels},) finite scores"
    value = raw.get(norm.name) if isinstance(raw, Mapping) else None
    if not isinstance(value, torch.Tensor) or value.shape != (norm.channels,):
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(where, got, expected)
    value = value.detach().double().cpu()
    if not value.isfinite().all():
        raise InputError(where, f"{value[~value.isfinite()][0]:g} among them", expected)
    return value


@criterion("bn")
def bn_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """|gamma|, the criterion of network slimming (Liu et al. 2017, section 3)."""
    return {n.name: model.get_submodule(n.name).weight.abs() for n in graph.prunable}


@criterion("random")
def random_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """Uniform in [0, 1)."""
    return {n.name: torch.rand(n.channels) for n in graph.prunable}


@criterion("first")
def first_scores(model: nn.Module, graph: ChannelGraph, calibration: Calibration | None) -> Scores:
    """Falls evenly from 1 with the index: the first channels of each layer are kept."""
    return {n.name: 1 - torch.arange(n.channels) / n.channels for n in graph.prunable}
