"""mAP of an exported file, in YOLOv5's own validation: square images, as it has for such files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.host.evaluate import Accuracy, is_single, one_bar, scored, val_loader
from yolo_slim.host.tasks import task_of_model

Run = Callable[[np.ndarray], Sequence[np.ndarray]]


class FileAccuracy:
    """What an exported model is worth on the validation split; called with a way to run a file.

    Example:
        accuracy = FileAccuracy(model, read_data("data.yaml"), imgsz=640)
        print(accuracy(opened("best.onnx")))
    """

    def __init__(
        self,
        model: nn.Module,
        data: dict[str, Any],
        *,
        imgsz: int,
        batch: int = 1,
    ) -> None:
        """Read the labels.

        Args:
            model: the one that was exported; left untouched.
            data: from `read_data`.
            imgsz: side of the images that the file takes, px.
            batch: images that the file takes at once.

        Raises:
            InputError: a segmentation model, and labels that are boxes.
        """
        self._model, self._data, self._imgsz, self._batch = model, data, imgsz, batch
        # no processes: the runtimes have threads, and what is forked beside them may stand still
        self._loader = val_loader(model, data, imgsz=imgsz, workers=0, rect=False)

    def __call__(self, run: Run, title: str = "validating") -> Accuracy:
        """The mAP of a file.

        Args:
            run: images (batch, 3, imgsz, imgsz) to the outputs of the model.
            title: of the progress bar.
        """
        task = task_of_model(self._model)
        stand_in = _StandIn(self._model, run, self._batch)
        with one_bar(task.script("val"), title):
            return scored(
                stand_in,
                self._data,
                self._loader,
                imgsz=self._imgsz,
                task=task,
                single=is_single(self._model, self._data),
            )


class _StandIn(nn.Module):
    """What the host's validation asks of a model; a file does the work."""

    def __init__(self, model: nn.Module, run: Run, batch: int) -> None:
        super().__init__()
        head = model.model[-1]
        self.model = [SimpleNamespace(nc=head.nc, nm=getattr(head, "nm", 0))]
        self.names, self.stride = model.names, model.stride
        self._run, self._batch = run, batch
        self._device = nn.Parameter(torch.zeros(1), requires_grad=False)  # the host asks for one

    def forward(self, images: torch.Tensor, augment: bool = False) -> list[torch.Tensor]:
        """Outputs of all images, in batches as the file takes them."""
        count = len(images)
        padded = np.resize(
            images.numpy(), (-(-count // self._batch) * self._batch, *images.shape[1:])
        )
        parts = [self._run(part) for part in np.split(padded, len(padded) // self._batch)]
        outputs = [np.concatenate(out)[:count] for out in zip(*parts, strict=True)]
        return [torch.from_numpy(out) for out in outputs]
