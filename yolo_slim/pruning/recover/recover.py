"""What is done after a cut, and what each part of it brings.

The parts, in this order: `constants` (what cut channels still send; needs no data), `weights` (the
next convs by least squares), `statistics` (BatchNorm's running ones) and `distill` (a short
training without labels). Where mAP can be measured it is, after each part; a part that costs more
than `LITTLE` of it is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.host.evaluate import Accuracy, titled
from yolo_slim.late import function_at
from yolo_slim.numerics import survives_half
from yolo_slim.pruning.recover.cut import Cut
from yolo_slim.pruning.recover.table import PARTS
from yolo_slim.weight_masks import zero_masked_

LITTLE = 0.001  # a part is kept if mAP50-95 falls by at most this
Judge = Callable[[nn.Module], Accuracy]


@dataclass(frozen=True)
class Done:
    """A part of a recovery that was done.

    Attributes:
        name: of `PARTS`.
        layers: how many convs or BNs it changed (distill: all convs).
        accuracy: measured after it; None where nothing measures.
        kept: False if it was undone, since mAP50-95 fell.
    """

    name: str
    layers: int
    accuracy: Accuracy | None = None
    kept: bool = True


@dataclass(frozen=True)
class Recovery:
    """What came of a recovery.

    Attributes:
        cut: accuracy of the model as it was cut; None where nothing measures.
        parts: in the order in which they were done.
    """

    cut: Accuracy | None = None
    parts: tuple[Done, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The parts that were kept."""
        return tuple(part.name for part in self.parts if part.kept)

    @property
    def looked(self) -> bool:
        """True if it looked at images."""
        return any(PARTS[part.name].data for part in self.parts)

    @property
    def steps(self) -> dict[str, Accuracy]:
        """What was measured, in words: as cut, and after each part."""
        accuracy_after = {"cut": self.cut} if self.cut else {}
        for part in self.parts:
            if part.accuracy is not None:
                accuracy_after[f"+ {part.name}" + ("" if part.kept else ", undone")] = part.accuracy
        return accuracy_after

    @property
    def accuracy(self) -> Accuracy | None:
        """Of the model as it is now."""
        return next((p.accuracy for p in reversed(self.parts) if p.kept), self.cut)


def recover_(
    pruned: nn.Module,
    model: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, torch.Tensor],
    parts: Sequence[str],
    calibration: Calibration | None = None,
    *,
    judge: Judge | None = None,
    seed: int = 0,
) -> Recovery:
    """Make up for a cut, in place.

    Where every value of the dense model survives half precision, so do the new ones: the checkpoint
    stays as small as it was.

    Args:
        pruned: what `rebuild` made of model, graph and masks.
        model: the dense model; left untouched.
        graph, masks: see `rebuild`.
        parts: see `check_parts`.
        calibration: images, for the parts that need them.
        judge: a model to its accuracy.
        seed: of the positions that the least squares look at.

    Raises:
        InputError: there are no images, or not of one size.
    """
    for name in parts:
        if PARTS[name].data and calibration is None:
            raise InputError(f"--recover {name}", "no calibration images", "--data")
    cut = Cut(pruned, model, graph, masks, calibration, seed)
    done, half = list[Done](), survives_half(model)

    def measured(what: str) -> Accuracy | None:
        with titled(f"validating, {what}"):
            return judge(pruned) if judge else None

    best = first = measured("as cut")
    for name in tqdm(parts, desc="recovery", unit="part", leave=False, disable=not parts):
        before = {key: value.clone() for key, value in pruned.state_dict().items()}
        layers = function_at(__package__, PARTS[name].home)(cut)
        zero_masked_(pruned)
        if half:
            to_half_(pruned)
        now = measured(f"{name} recovered") if layers else best
        kept = best is None or now is None or now.map >= best.map - LITTLE
        if kept:
            best = now
        else:
            pruned.load_state_dict(before)
        done.append(Done(name, layers, now, kept))
    return Recovery(first, tuple(done))


@torch.no_grad()
def to_half_(model: nn.Module) -> None:
    """Round values to half precision, in place; those that would be 0 or Inf stay as they are."""
    for value in model.state_dict().values():
        if value.is_floating_point():
            rounded = value.half().to(value)
            value.copy_(
                torch.where(rounded.isfinite() & ((rounded != 0) | (value == 0)), rounded, value)
            )
