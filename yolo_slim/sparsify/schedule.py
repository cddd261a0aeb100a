"""Arithmetic on YOLOv5's learning rates: how far a penalty can move gamma, and when it should."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

REACHED = 0.75  # share of a run after which sr = "auto" has made its zeros
ROUNDING = 1e-9  # progress is a quotient
NOMINAL = 64  # images that the host takes an optimizer step on


def learning_rates(
    hyp: Mapping[str, Any], *, epochs: int, batches: int, batch_size: int, cosine: bool = False
) -> Iterator[tuple[float, float]]:
    """The optimizer steps of a run of YOLOv5's train.py, with the learning rate of BN weights.

    Follows its warm-up, its accumulation to 64 images and its linear or cosine decay.

    Args:
        hyp: lr0, lrf and warmup_epochs, as in YOLOv5's hyp yaml.
        epochs: length of the run.
        batches: batches an epoch.
        batch_size: images a batch.
        cosine: as --cos-lr.

    Yields:
        Share of the run's batches that are done, in [0, 1), and the learning rate.
    """
    lr0, lrf = hyp["lr0"], hyp["lrf"]
    rise, last = warmup(hyp, batches), -1
    for index in range(epochs * batches):
        epoch = index // batches
        left = (1 + math.cos(epoch * math.pi / epochs)) / 2 if cosine else 1 - epoch / epochs
        share = min(index / rise, 1.0)
        accumulate = max(1, round(1 + share * (NOMINAL / batch_size - 1)))
        if index - last >= accumulate:
            yield index / (epochs * batches), lr0 * (left * (1 - lrf) + lrf) * share
            last = index


def warmup(hyp: Mapping[str, float], batches: int) -> int:
    """Batches in which the host's learning rate rises.

    Args:
        hyp, batches: see `learning_rates`.
    """
    return max(round(hyp["warmup_epochs"] * batches), 100)


def reach(rates: Iterable[tuple[float, float]], gain: float = 1.0) -> float:
    """The way that a gamma goes under a decaying penalty of sr = 1 with no other gradient.

    Args:
        rates: see `learning_rates`.
        gain: what the optimizer makes of a steady gradient: 1 / (1 - momentum) for SGD.

    Returns:
        The way in units of gamma; sr times it is how far |gamma| falls. Under an L1 Adam takes
        steps of lr whatever sr is: the way is then that of any sr.
    """
    return gain * sum(rate * (1 - 0.9 * progress) for progress, rate in rates)


def gain(optimizer: str, momentum: float) -> float:
    """What an optimizer makes of a steady gradient, in units of its learning rate.

    Momentum adds up steps: 1 / (1 - momentum) for SGD. A threshold has this factor, so that an sr
    moves gamma as far as the L1's subgradient would. 1 for those that normalise, such as Adam.

    Args:
        optimizer: its name, as in YOLOv5's --optimizer.
        momentum: of SGD; 0.999 is the most that is counted.

    Example:
        >>> round(gain("SGD", 0.9), 6)
        10.0
    """
    return 1 / (1 - min(momentum, 0.999)) if optimizer == "SGD" else 1.0


def descent(rates: Iterable[tuple[float, float]], end: float = REACHED) -> Callable[[float], float]:
    """How much of the way to zero gammas should have gone: a function of progress to [0, 1].

    It grows as learning rates add up, since they are what the network adapts with: little during
    the warm-up. The last step before `end` completes it, or the only one.

    Args:
        rates: the optimizer steps, see `learning_rates`.
        end: progress by which it becomes 1.
    """
    steps = [(progress, rate) for progress, rate in rates if progress < end]
    if not sum(rate for _, rate in steps):  # a first step in the warm-up: steps count
        steps = [(progress, 1.0) for progress, _ in steps]
    at = np.array([progress for progress, _ in steps])
    gone = np.cumsum([rate for _, rate in steps])
    return lambda progress: float(np.interp(progress + ROUNDING, at, gone / gone[-1]))
