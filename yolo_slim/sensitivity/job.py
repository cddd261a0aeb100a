"""What a worker does in a sensitivity scan: it loads model and images, then measures cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.host.validation import Validation
from yolo_slim.models import load
from yolo_slim.sensitivity.cuts import Cut, cut_model
from yolo_slim.sensitivity.scan import Row


@dataclass(frozen=True)
class Job:
    """What a worker needs to measure cuts.

    Attributes:
        weights: the checkpoint.
        data: from `check_data`.
        imgsz, images, device, split: as for `Validation`.
        modules: the files of --modules.
        cfg: of --cfg, for weights without a model.
    """

    weights: Path
    data: dict[str, Any]
    imgsz: int
    images: int
    device: str = ""
    split: str = "val"
    modules: tuple[str, ...] = ()
    cfg: str | None = None

    def start(self, progress: bool = True) -> Callable[[Cut], Row]:
        """Load the model and the images; returns what measures a cut."""
        model = load(self.weights, self.cfg).model
        validation = Validation(
            model,
            self.data,
            imgsz=self.imgsz,
            images=self.images,
            device=self.device,
            split=self.split,
            progress=progress,
        )

        def measure(cut: Cut) -> Row:
            layer, (copy, gone) = cut.layer, cut_model(model, cut)
            accuracy = validation(copy)
            return Row(
                layer.kind, layer.name, layer.size, cut.share, gone, accuracy.map50, accuracy.map
            )

        return measure
