"""Calibration images: what a criterion, or a reconstruction, may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from yolo_slim.errors import InputError

Batch = tuple[torch.Tensor, Any]  # images (n, 3, h, w), as the model takes them; targets


@dataclass(frozen=True)
class Calibration:
    """Some batches of real images, and what the model is trained to make of them.

    Attributes:
        batches: images and targets; what targets are is known to `loss` alone.
        loss: (model, batch) to the training loss, a scalar that can be derived; None where there
            is none: then no criterion that needs gradients can be used.
        compare: (outputs of a pruned model, of the dense one) to how far they are apart, a scalar
            that can be derived, about 1 where they have nothing in common; None: the mean of the
            squared errors, each a share of the energy of the dense output.
        source: where the images are from, for reports.
    """

    batches: tuple[Batch, ...]
    loss: Callable[[torch.nn.Module, Batch], torch.Tensor] | None = None
    source: str = ""
    compare: Callable[[Any, Any], torch.Tensor] | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.batches, tuple | list) and all(
            isinstance(batch, tuple | list)
            and len(batch) == 2
            and isinstance(batch[0], torch.Tensor)
            and batch[0].ndim == 4
            for batch in self.batches
        )
        if not whole:
            expected = "(images, targets) a batch, images a tensor (n, channels, h, w)"
            raise InputError("Calibration, batches", f"{self.batches!r:.80}", expected)

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(len(images) for images, _ in self.batches)


def check_images(calibration: Calibration, where: str) -> list[torch.Tensor]:
    """The images of a calibration, batch by batch, which have to be of one size.

    Raises:
        InputError: there are none, or they are of several sizes.
    """
    if not calibration.images:
        raise InputError(where, "no calibration images", "a data yaml with --data")
    batches = [images for images, _ in calibration.batches]
    odd = next((tuple(b.shape) for b in batches if b.shape[1:] != batches[0].shape[1:]), None)
    if odd:
        raise InputError("images", f"{tuple(batches[0].shape)} and {odd}", "one size")
    return batches
