"""How sparse the gammas are, and what that means for a cut, in words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 1.0)
NEAR_ZERO = 0.01  # share of the median |gamma| that the training began with


def gammas(model: nn.Module, names: list[str]) -> torch.Tensor:
    """|gamma| of these BNs, joined: (channels,) float32 on the CPU."""
    modules = dict(model.named_modules())
    return torch.cat([modules[n].weight.detach().float().cpu().abs() for n in names])


@dataclass(frozen=True)
class Sparsity:
    """|gamma| of the prunable BNs at the end of an epoch.

    Attributes:
        epoch: counted from 0.
        sr: the strength on gamma in that epoch.
        quantiles: |gamma| at QUANTILES.
        near_zero: share of the channels with |gamma| under `threshold`.
        threshold: NEAR_ZERO times the median at the start of the training.
    """

    epoch: int
    sr: float
    quantiles: tuple[float, ...]
    near_zero: float
    threshold: float

    @classmethod
    def of(cls, gamma: torch.Tensor, *, epoch: int, sr: float, start: float) -> Sparsity:
        """Measure.

        Args:
            gamma: (channels,) |gamma|.
            epoch, sr: as above.
            start: the median |gamma| that the training began with.
        """
        threshold = NEAR_ZERO * start
        quantiles = torch.quantile(gamma, torch.tensor(QUANTILES)).tolist()
        near_zero = (gamma < threshold).float().mean().item()
        return cls(epoch, sr, tuple(quantiles), near_zero, threshold)


def verdict(first: Sparsity, last: Sparsity, percent: float = 0.6) -> str:
    """Whether the model is ready to be cut, and by how much.

    Args:
        first, last: the first and the last epoch of a sparse training.
        percent: the share that is wanted.
    """
    share = f"{last.near_zero:.0%} of the prunable channels have |gamma| near zero"
    safe = int(last.near_zero * 20) / 20
    if last.near_zero >= percent:
        return f"Ready: {share}. Cut with --percent {safe:.2f} or less."
    if safe >= 0.1:
        return (
            f"Ready for a smaller cut: {share}. --percent {safe:.2f} costs little; more "
            f"takes channels that still work, and finetuning has to win them back. "
            f"A longer run or a larger --sr gets to {percent:.0%}."
        )
    before, now = first.quantiles[4], last.quantiles[4]
    moved = f"the 60% quantile of |gamma| went from {before:.3f} to {now:.3f}"
    return (
        f"Not ready: {share}, {moved}. A cut now takes channels that work. "
        f"Raise --sr or train for more epochs."
    )
