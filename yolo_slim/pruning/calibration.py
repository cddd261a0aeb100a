"""Calibration images: what a criterion, or a reconstruction, may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Batch = tuple[torch.Tensor, Any]  # images (n, 3, h, w), as the model takes them; targets


@dataclass(frozen=True)
class Calibration:
    """Some batches of real images, and what the model is trained to make of them.

    Attributes:
        batches: images and targets; what targets are is known to `loss` alone.
        loss: (model, batch) to the training loss, a scalar that can be derived; None where there
            is none: then no criterion that needs gradients can be used.
        source: where the images are from, for reports.
    """

    batches: tuple[Batch, ...]
    loss: Callable[[torch.nn.Module, Batch], torch.Tensor] | None = None
    source: str = ""

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(len(images) for images, _ in self.batches)
