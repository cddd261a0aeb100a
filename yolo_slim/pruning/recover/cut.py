"""What a part of a recovery is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph


@dataclass(frozen=True)
class Cut:
    """A model before and after a cut.

    Attributes:
        pruned: what `rebuild` made of model, graph and masks; a part changes it in place.
        model: the dense model, which no part changes.
        graph: its channel graph.
        masks: BN name to bool (C,), True = kept.
        calibration: images; None only where no part needs them.
        seed: of what a part draws.
    """

    pruned: nn.Module
    model: nn.Module
    graph: ChannelGraph
    masks: Mapping[str, torch.Tensor]
    calibration: Calibration | None = None
    seed: int = 0

    @property
    def images(self) -> Calibration:
        """The calibration images, of a part that needs them."""
        assert self.calibration is not None
        return self.calibration
