"""How sparse the gammas of a model are, measured against what they were.

A channel counts as near zero against its own layer: layers differ in how large their gammas are by
more than one order, and a threshold for all would call a whole layer dead that works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import nn

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 1.0)
NEAR_ZERO = 0.01  # of the median |gamma| that a layer began with


def gammas(model: nn.Module, names: Sequence[str]) -> torch.Tensor:
    """|gamma| of these BNs, joined: (channels,) float32 on the CPU."""
    return torch.cat([gamma_of(model, name) for name in names])


def gamma_of(model: nn.Module, name: str) -> torch.Tensor:
    """|gamma| of one BN: (C,) float32 on the CPU."""
    return model.get_submodule(name).weight.detach().float().cpu().abs()


def layer_median(gamma: torch.Tensor) -> torch.Tensor:
    """Median of |gamma| (C,), what near zero is measured against: (); 1 where that is zero."""
    median = gamma.abs().median()
    return torch.where(median > 0, median, 1.0)


def start_medians(model: nn.Module, names: Sequence[str]) -> dict[str, float]:
    """What the gammas of a training are measured against; to be taken before its first step.

    Args:
        model: left untouched.
        names: of the BNs.

    Returns:
        BN name to its median |gamma|; 1 where that is zero (a sparse model is trained on).
    """
    return {name: layer_median(gamma_of(model, name)).item() for name in names}


def relative_gammas(model: nn.Module, start: Mapping[str, float]) -> torch.Tensor:
    """|gamma| in units of its layer's median at the start, joined: (channels,) float32, CPU."""
    return torch.cat([gamma_of(model, name) / median for name, median in start.items()])


@dataclass(frozen=True)
class Kept:
    """What a cut keeps.

    Attributes:
        share: of the prunable channels that is cut, in (0, 1).
        kept: mAP50 after the cut over mAP50 before, on the same images.
    """

    share: float
    kept: float


@dataclass(frozen=True)
class Sparsity:
    """|gamma| of the prunable BNs at the end of an epoch, and what the model is worth.

    Attributes:
        epoch: counted from 0.
        sr: the strength on gamma in that epoch.
        gamma: |gamma| at QUANTILES.
        relative: at QUANTILES too, in units of each layer's median at the start.
        quantile: the same at the share that is to be cut.
        near_zero: share of the channels below NEAR_ZERO in these units.
        map50, map: of the host's validation; nan where it is not known.
        now, aim: a cut of what is near zero, and of the share that is wanted; None: not measured.
    """

    epoch: int
    sr: float
    gamma: tuple[float, ...]
    relative: tuple[float, ...]
    quantile: float
    near_zero: float
    map50: float = nan
    map: float = nan
    now: Kept | None = None
    aim: Kept | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        start: Mapping[str, float],
        *,
        epoch: int,
        sr: float,
        percent: float,
        map50: float = nan,
        map: float = nan,
    ) -> Sparsity:
        """Measure a model.

        Args:
            model: left untouched.
            start: from `start_medians`.
            percent: the share that is to be cut.
            epoch, sr, map50, map: as above.
        """
        gamma, relative = gammas(model, list(start)), relative_gammas(model, start)
        at = torch.tensor([*QUANTILES, percent])
        *quantiles, quantile = torch.quantile(relative, at).tolist()
        return cls(
            epoch,
            sr,
            tuple(torch.quantile(gamma, at[:-1]).tolist()),
            tuple(quantiles),
            quantile,
            (relative < NEAR_ZERO).float().mean().item(),
            map50,
            map,
        )
