"""What is done after a cut, and what each part of it brings.

The parts, in this order: `constants` (what cut channels still send; needs no data), `weights` (the
next convs by least squares), `statistics` (BatchNorm's running ones) and `distill` (a short
training without labels). Where mAP can be measured it is, after each part; a part that costs more
than `LITTLE` of it is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.numerics import survives_half
from yolo_slim.pruning.recover.constants import move_constants_
from yolo_slim.pruning.recover.distill import distill_
from yolo_slim.pruning.recover.reconstruct import Reconstruction, reconstruct_
from yolo_slim.pruning.recover.statistics import retake_statistics_
from yolo_slim.weight_masks import zero_masked_

if TYPE_CHECKING:
    from yolo_slim.host.evaluate import Accuracy

ALL = ("constants", "weights", "statistics")  # of `--recover all`
PARTS = (*ALL, "distill")
NEED_DATA = ("weights", "statistics", "distill")
LITTLE = 0.001  # mAP50-95 that a part may cost: what a validation rounds off
Judge = Callable[[nn.Module], "Accuracy"]


@dataclass(frozen=True)
class Part:
    """One part of a recovery.

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
        fitted: what the least squares did to each conv; None without them.
    """

    cut: Accuracy | None = None
    parts: tuple[Part, ...] = ()
    fitted: Reconstruction | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The parts that were kept."""
        return tuple(part.name for part in self.parts if part.kept)

    @property
    def looked(self) -> bool:
        """True if it looked at images."""
        return any(part.name in NEED_DATA for part in self.parts)

    @property
    def steps(self) -> dict[str, Accuracy]:
        """What was measured, in words: as cut, and after each part."""
        found = {"cut": self.cut} if self.cut else {}
        for part in self.parts:
            if part.accuracy is not None:
                found[f"+ {part.name}" + ("" if part.kept else ", undone")] = part.accuracy
        return found

    @property
    def accuracy(self) -> Accuracy | None:
        """Of the model as it is now."""
        return next((p.accuracy for p in reversed(self.parts) if p.kept), self.cut)


def check_parts(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts of a recovery, in their order.

    Raises:
        InputError: an unknown part.
    """
    for part in parts:
        if part not in PARTS:
            text = f"some of {', '.join(PARTS)} and all, or none alone"
            raise InputError("--recover", repr(part), text)
    return tuple(part for part in PARTS if part in parts)


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
        if name in NEED_DATA and calibration is None:
            raise InputError(f"--recover {name}", "no calibration images", "--data")
    fitted, done, half = None, list[Part](), survives_half(model)
    best = cut = judge(pruned) if judge else None
    for name in parts:
        before = {key: value.clone() for key, value in pruned.state_dict().items()}
        if name == "constants":
            layers = move_constants_(pruned, model, graph, masks)
        elif name == "weights":
            assert calibration is not None
            fitted = reconstruct_(pruned, model, graph, masks, calibration, seed=seed)
            layers = len(fitted.errors)
        elif name == "distill":
            assert calibration is not None
            distill_(pruned, model, graph, masks, calibration, seed=seed)
            layers = len(graph.convs)
        else:
            assert calibration is not None
            layers = retake_statistics_(pruned, model, graph, masks, calibration)
        zero_masked_(pruned)
        if half:
            to_half_(pruned)
        now = judge(pruned) if judge and layers else best
        kept = best is None or now is None or now.map >= best.map - LITTLE
        if kept:
            best = now
        else:
            pruned.load_state_dict(before)
        done.append(Part(name, layers, now, kept))
    return Recovery(cut, tuple(done), fitted)


@torch.no_grad()
def to_half_(model: nn.Module) -> None:
    """Round what is outside of half precision to it, in place, but for what has no place there."""
    for value in model.state_dict().values():
        if value.is_floating_point():
            rounded = value.half().to(value)
            value.copy_(
                torch.where(rounded.isfinite() & ((rounded != 0) | (value == 0)), rounded, value)
            )
