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
def shrink_biases_(norms: PrunableNorms, threshold: float) -> None:
    """Soft-threshold beta by itself, in place."""
    size = norms.flat("bias").abs()
    norms.scale_("bias", (size - threshold).clamp_min(0) / size.clamp_min(1e-30))


def gain(optimizer: torch.optim.Optimizer, group: dict) -> float:
    """What an optimizer makes of a steady gradient, in units of its learning rate.

    Momentum adds up steps: 1 / (1 - momentum) for SGD. A threshold has this factor, so that an sr
    moves gamma as far as the L1's subgradient would. 1 for those that normalise, such as Adam.
    """
    momentum = group.get("momentum", 0.0) if isinstance(optimizer, torch.optim.SGD) else 0.0
    return 1 / (1 - min(momentum, 0.999))
