"""How far the raw outputs of two detectors are apart, part by part.

After Mehta & Ozturk 2018, section 3.2: a detector's maps are mostly background, so what the teacher
says of boxes and classes counts by how sure it is that there is an object at all; its objectness
counts everywhere.

Departures: where the teacher is less than 1% sure of an object it counts for nothing in boxes and
classes, and costs no time; boxes are compared after the sigmoid that the head takes them through,
classes and objectness by cross entropy (less the teacher's own, so that 0 is equality).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

GAINS = {"box": 0.5, "cls": 0.25, "obj": 1.0}  # to the size of the host's losses
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


def apart(student: Any, teacher: Any, nc: int) -> torch.Tensor:
    """How far the raw outputs of a detector are from its teacher's: a scalar.

    Args:
        student, teacher: raw maps, of a segmentation model with its masks, which are not compared.
        nc: number of classes.
    """
    parts = output_parts(maps(student), maps(teacher), nc)
    return torch.stack([GAINS[name] * value for name, value in parts.items()]).sum()
