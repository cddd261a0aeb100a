"""Soft thresholding after the optimizer's step: the L1 by its proximal operator.

    gamma <- sign(gamma) * max(|gamma| - threshold, 0)        (Parikh & Boyd 2014, section 6.5.2)

What falls under the threshold is exactly zero and stays there, where a subgradient leaves it
swinging around zero; and the step does not pass through the moments of Adam, which make of any L1
the same step (Yun et al. 2021, ProxGen). Channels that go together shrink by one factor: block soft
thresholding of their root mean square (Parikh & Boyd, section 6.5.4). beta shrinks by the factor of
its gamma: a channel whose gamma is zero then sends nothing, not even a constant.
"""

from __future__ import annotations

import torch

from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.strategy import Fixed, Rates


class FixedProx(Fixed):
    """Soft thresholding with a decaying strength that is given.

    Args:
        norms, percent, sr: see `Fixed`.
        bias_sr: strength on beta; None: beta shrinks by the factor of its gamma.
    """

    method = "prox"

    def __init__(
        self, norms: PrunableNorms, percent: float, sr: float, bias_sr: float | None
    ) -> None:
        super().__init__(norms, percent, sr, bias_sr or 0.0)
        self.with_gamma = bias_sr is None

    def after_step_(self, progress: float, rates: Rates) -> None:
        if self.sr:
            shrink_(self.norms, self.strength(progress) * rates(), self.with_gamma)
        if self.bias_sr:
            shrink_biases_(self.norms, self.bias_strength * rates())


@torch.no_grad()
def shrink_(norms: PrunableNorms, threshold: torch.Tensor | float, bias: bool = True) -> None:
    """Soft-threshold gamma, in place; those of frozen BNs stay.

    Args:
        norms: those that are penalised.
        threshold: (channels,) or one for all, in units of gamma.
        bias: beta shrinks by the same factor.
    """
    size = norms.over_groups(norms.flat("weight"))
    factor = (1 - threshold / size.clamp_min(1e-30)).clamp_min(0)  # no threshold: exactly 1
    norms.scale_("weight", factor)
    if bias:
        norms.scale_("bias", factor)


@torch.no_grad()
def shrink_biases_(norms: PrunableNorms, threshold: torch.Tensor | float) -> None:
    """Soft-threshold beta by itself, in place."""
    size = norms.flat("bias").abs()
    norms.scale_("bias", (size - threshold).clamp_min(0) / size.clamp_min(1e-30))
