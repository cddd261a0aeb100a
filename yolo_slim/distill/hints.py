"""Hints: the model that was cut shows each channel that is left what it was.

Romero et al. 2015 (FitNets), section 2.2: a student learns faster if its inner feature maps are
compared with the teacher's. Departures: a channel of a pruned model is a channel of the model that
it was cut from, so nothing has to be learned to compare them, and all layers are compared, not one;
errors are shares of the energy of the source's map, so that layers count alike; and the weight of
the comparison falls linearly to zero early in the training, after which labels alone decide.

The source need not know the task: what a pretrained model sees is worth keeping even where its
classes are others than those that the student learns. How long hints help differs between data
sets (docs/results.md, "Where cut models forgot").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from yolo_slim.distill.asked import LAYOUT, asked
from yolo_slim.errors import InputError
from yolo_slim.host.classes import common
from yolo_slim.numerics import relative_error
from yolo_slim.text import counted

UNTIL = 0.25  # share of the training after which there are no hints
GAIN = 1.0  # of the hints at the start, beside the host's loss of an image (about 0.1 to 0.3)


class Hints:
    """Compares the feature maps of a pruned model with those of the model that it was cut from.

    Hooks stand on the student only between `attach` and `detach`; the source is a fused copy in
    eval mode, without gradients.

    Args:
        source: the model that was cut.
        student: the pruned model, on its device.
        masks: `maskbndict` of the cut: BN name to bool (C,), True = kept. A BN that has none was
            not cut.
        gain: weight of the hints at the start of the training.
        until: progress, in (0, 1], from which on there are none.

    Raises:
        InputError: source and student are not the model before and after this cut.
    """

    def __init__(
        self,
        source: nn.Module,
        student: nn.Module,
        masks: Mapping[str, torch.Tensor],
        *,
        gain: float = GAIN,
        until: float = UNTIL,
    ) -> None:
        device = next(student.parameters()).device
        self.kept = kept_channels(source, student, masks)
        self.student, self.source = student, asked(source, device)
        self.kept = {name: index.to(device) for name, index in self.kept.items()}
        self.gain, self.until = gain, until
        self._ours: dict[str, torch.Tensor] = {}
        self._theirs: dict[str, torch.Tensor] = {}
        self._images: torch.Tensor | None = None
        self._handles: list[Any] = []
        self._watch(self.source, self._theirs)  # for good: the copy is ours
        self._sum, self._count = 0.0, 0

    def weight(self, progress: float) -> float:
        """What a hint counts at this progress of the training, in [0, 1]."""
        return self.gain * max(1 - progress / self.until, 0.0)

    def attach(self) -> None:
        """Look at what the student is given, and at its feature maps."""
        self.detach()
        self._handles = self._watch(self.student, self._ours)
        self._handles.append(self.student.register_forward_pre_hook(self._look))

    def detach(self) -> None:
        """Take the hooks off the student, and forget its maps."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._images = [], None
        self._ours.clear()
        self._theirs.clear()

    def loss(self, progress: float) -> torch.Tensor:
        """What the batch that the student has just run adds to its loss.

        Args:
            progress: of the training, in [0, 1].

        Returns:
            A scalar for the whole batch: the host's loss is a sum over images, too.
        """
        assert self._images is not None
        with torch.no_grad():
            self.source(self._images.contiguous(memory_format=LAYOUT))
        errors = [
            relative_error(self._ours[name], self._theirs[name][:, index])
            for name, index in self.kept.items()
        ]
        error = torch.stack(errors).mean()
        self._sum, self._count = self._sum + float(error.detach()), self._count + 1
        return self.weight(progress) * error * len(self._images)

    def mean(self) -> float:
        """Mean error over the batches since the last call, a share of the energy of the maps."""
        average = self._sum / max(self._count, 1)
        self._sum, self._count = 0.0, 0
        return average

    def _look(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._images = inputs[0]

    def _watch(self, model: nn.Module, maps: dict[str, torch.Tensor]) -> list[Any]:
        def keep(name: str) -> Any:
            return lambda module, inputs, output: maps.__setitem__(name, output)

        return [model.get_submodule(n).register_forward_hook(keep(n)) for n in self.kept]


def kept_channels(
    source: nn.Module, student: nn.Module, masks: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Which channels of the source each Conv of the student has.

    Args:
        source, student, masks: see `Hints`.

    Returns:
        Conv name to (C,) int64, for every Conv.

    Raises:
        InputError: a layer of the student has other channels than the cut left of the source.
    """
    kept: dict[str, torch.Tensor] = {}
    theirs = {n: m for n, m in source.named_modules() if isinstance(m, common.Conv)}
    for name, conv in student.named_modules():
        if not isinstance(conv, common.Conv):
            continue
        bn, dense = f"{name}.bn", theirs.get(name)
        channels = dense.bn.num_features if dense is not None else 0
        mask = masks.get(bn, torch.ones(channels, dtype=torch.bool)).cpu()
        if len(mask) != channels or int(mask.sum()) != conv.bn.num_features:
            got = f"{counted(channels, 'channel')} in {bn}"
            wanted = f"the model that was cut, with {len(mask)} there"
            raise InputError("the source of the hints", got, wanted)
        kept[name] = mask.nonzero().flatten()
    return kept
