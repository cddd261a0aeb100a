"""What a student differs from its teacher by, part by part.

Outputs after Mehta & Ozturk 2018, section 3.2: a detector's maps are mostly background, so what the
teacher says of boxes and classes counts by how sure it is that there is an object at all; its
objectness counts everywhere. Features after Romero et al. 2015: what the head reads, through a 1x1
conv that is thrown away afterwards, since student and teacher have other channels.

Departures: where the teacher is less than 1% sure of an object it counts for nothing in boxes and
classes, and costs no time; boxes are compared after the sigmoid that the head takes them through,
classes and objectness by cross entropy (less the teacher's own, so that 0 is equality), features as
shares of the teacher's energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

PARTS = ("box", "cls", "obj", "features")
GAINS = {"box": 0.5, "cls": 0.25, "obj": 1.0, "features": 0.05}  # to the size of the host's losses
BALANCE = {3: (4.0, 1.0, 0.4)}  # the host's weights of objectness by scale
OTHERS = (4.0, 1.0, 0.25, 0.06, 0.02)
LEAST = -4.6  # the logit of 1%
Maps = Sequence[torch.Tensor]


def maps(outputs: Any) -> Maps:
    """The raw maps of a head; a Segment head gives its masks besides."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def output_parts(student: Maps, teacher: Maps, nc: int) -> dict[str, torch.Tensor]:
    """Box, class and objectness.

    Args:
        student, teacher: raw maps (n, anchors, h, w, 5 + nc or more), a scale each.
        nc: number of classes; what comes after them (masks) is not compared.

    Returns:
        Scalars: box and cls are means over the cells, weighted by the teacher's objectness.
    """
    box = cls = obj = torch.zeros((), device=student[0].device)
    balance, total = BALANCE.get(len(student), OTHERS), torch.zeros_like(box)
    for ours, theirs, share in zip(student, teacher, balance, strict=False):
        seen = theirs[..., 4] > LEAST
        weight, ours_seen = theirs[seen][:, 4].float().sigmoid(), ours[seen].float()
        theirs_seen = theirs[seen].float()
        total = total + weight.sum()
        error = (ours_seen[:, :4].sigmoid() - theirs_seen[:, :4].sigmoid()).square().sum(1)
        box = box + (weight * error).sum()
        if nc > 1:
            classes = excess(ours_seen[:, 5 : 5 + nc], theirs_seen[:, 5 : 5 + nc])
            cls = cls + (weight * classes.sum(1)).sum()
        obj = obj + share * excess(ours[..., 4].float(), theirs[..., 4].float()).mean()
    total = total.clamp(min=1e-6)
    return {"box": box / total, "cls": cls / total, "obj": obj}


def excess(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy with the teacher's probabilities, less their entropy; of logits."""
    wanted = theirs.sigmoid()
    own = F.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")
    return F.binary_cross_entropy_with_logits(ours, wanted, reduction="none") - own


def feature_part(adapted: Maps, teacher: Maps) -> torch.Tensor:
    """Mean over the scales of the squared error, a share of the teacher's energy.

    Args:
        adapted: (n, C, h, w), the student's features through the adapters.
        teacher: (n, C, h, w), a scale each.
    """
    parts = [relative_error(a, t) for a, t in zip(adapted, teacher, strict=True)]
    return torch.stack(parts).mean()


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Squared error of a map as a share of the energy of the wanted one; both (n, C, h, w)."""
    wanted = theirs.float()
    return (ours.float() - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)
