"""The L1 by its subgradient: added to the gradients before the optimizer's step.

Liu et al. 2017, Network Slimming, section 3, with what the YOLOv5 pruners that users come from
changed: the strength decays, and beta is penalised too.

    gamma.grad += sr * decay * sign(gamma)        decay = 1 - 0.9 * progress
    beta.grad  += bias_sr * sign(beta)

Channels that go together (tied by an add with residual="group", or by a depthwise conv) have a
group lasso in its place (Yuan & Lin 2006, eq. 3): for n tied gammas

    gamma.grad += sr * decay * sqrt(n) * gamma / norm of the n gammas

which is the same for n = 1, and as strong as it where the n are equal.
"""

from __future__ import annotations

import torch

from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.strategy import Fixed, Rates


class FixedL1(Fixed):
    """The decaying L1 of network slimming, with a strength that is given; see the module."""

    method = "l1"

    def before_step_(self, progress: float, rates: Rates) -> None:
        add_l1_(self.norms, self.strength(progress), self.bias_strength)


@torch.no_grad()
def add_l1_(norms: PrunableNorms, sr: float, bias_sr: float) -> None:
    """Add the penalty's gradient to the .grad of each BN that has one.

    Args:
        norms: those that are penalised.
        sr: strength on gamma, its decay counted in.
        bias_sr: strength on beta.
    """
    for attribute, strength in (("weight", sr), ("bias", bias_sr)):
        pairs = [(i, getattr(norm, attribute)) for i, norm in enumerate(norms.modules)]
        pairs = [(i, p) for i, p in pairs if p.grad is not None]
        if not pairs or not strength:
            continue
        slopes = list(torch._foreach_sign([p for _, p in pairs]))
        if attribute == "weight" and norms.tied:
            gamma = norms.flat("weight")
            mean = norms.over_groups(gamma)
            slope = torch.where(mean > 0, gamma / mean.clamp_min(1e-30), 0.0).split(norms.sizes)
            slopes = [slope[i] for i, _ in pairs]
        torch._foreach_add_([p.grad for _, p in pairs], slopes, alpha=strength)
