"""A training in YOLOv5's loop as others see it: where it stands, and what it calls as it goes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from yolo_slim.host.compat import mend

mend()

from yolov5 import train as host  # noqa: E402

LOGGER = host.LOGGER


class GoBack(Exception):
    """Leaves the host's loop; the run goes on from its last checkpoint. Holds the reason."""


@dataclass
class Run:
    """A training as it goes: what the hooks are told.

    Attributes:
        opt: the host's options; on resume, those of the run that is resumed.
        epoch, epochs: counted from 0; the epoch that runs, or has just ended.
        batch, batches: of the epoch; the batch, from 0, that is trained on.
        batch_size: images a batch, of all processes.
        ema: the host's moving average of the model, None on ranks other than 0.
        losses: means over the epoch so far, as the host prints them; empty before the first.
        map50, map: of the boxes at the end of the last epoch, as the host validated it.
        hyp: the hyperparameters.
        board: the host's TensorBoard writer, None where it has none.
        saved: the epoch of `last`, -1 where there is none yet.
        doubtful: set by a hook: the epoch is not saved, unless it is the last one.
    """

    opt: argparse.Namespace
    epoch: int = 0
    epochs: int = 0
    batch: int = 0
    batches: int = 1
    batch_size: int = 1
    ema: Any = None
    losses: tuple[float, ...] = ()
    map50: float = 0.0
    map: float = 0.0
    hyp: dict[str, Any] = field(default_factory=dict)
    board: Any = None
    saved: int = -1
    doubtful: bool = False
    _back: str = ""

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.opt.save_dir)

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch that was saved, which the host resumes from."""
        return self.folder / "weights" / "last.pt"

    @property
    def progress(self) -> float:
        """Share of the run's batches that are done, in [0, 1)."""
        return (self.epoch + self.batch / self.batches) / self.epochs

    @property
    def resumed(self) -> bool:
        """True if an interrupted run is gone on with."""
        return bool(self.opt.resume)

    @property
    def is_main(self) -> bool:
        """True in the process that logs and saves."""
        return host.RANK in {-1, 0}

    @property
    def is_alone(self) -> bool:
        """True if no other process trains, and waits for this one."""
        return host.RANK == -1

    @property
    def going_back(self) -> bool:
        """True from `go_back` on, until the run has gone."""
        return bool(self._back)

    def begin(self, opt: argparse.Namespace) -> None:
        """The loop begins, or begins again, with these options."""
        self.opt, self.epoch, self.epochs, self.saved = opt, -1, opt.epochs, -1
        self.doubtful, self._back = False, ""

    def go_back(self, why: str) -> None:
        """Go back to `last`, or to the start where there is none; to be called on the main rank.

        One process goes at once. Several go together when the epoch has ended; until then nothing
        is saved.
        """
        self._back = why
        if host.RANK == -1:
            self.leave()

    def leave(self) -> None:
        """Raise GoBack on every rank, if the main one has asked for it."""
        self._back, self.saved = of_main((self._back, self.saved))  # it alone saves
        if self._back:
            raise GoBack(self._back)


class Hooks:
    """What a training calls as it goes. Each does nothing until it is overridden."""

    def hyperparameters(self, run: Run, hyp: dict[str, Any]) -> dict[str, Any]:
        """The hyperparameters of a new training, on each rank; not called for a resumed one."""
        return hyp

    def on_optimizer(self, run: Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Model and optimizer exist; the weights are loaded, not yet those of a resumed optimizer.

        Called on each rank, and again when the run has gone back.
        """

    def on_resume(self, run: Run, state: dict[str, Any]) -> None:
        """The run goes on from a checkpoint: what `state` returned when that was saved."""

    def on_epoch_start(self, run: Run) -> None:
        """Before each epoch, on each rank."""

    def on_batch_start(self, run: Run) -> None:
        """Before each batch, on each rank."""

    def on_batch_end(self, run: Run) -> None:
        """After each batch, on the main rank, in the detection loop alone: the losses are new."""

    def loss(self, run: Run, outputs: Any, loss: torch.Tensor) -> torch.Tensor:
        """What a batch is trained on, on each rank, under the host's autocast.

        Args:
            run: as it goes.
            outputs: what the model made of the batch: raw maps, with masks if it has any.
            loss: the host's, (1,), scaled by the batch.
        """
        return loss

    def on_validation(self, run: Run) -> None:
        """Before the epoch's validation, on the main rank: the moving average may be changed."""

    def fitness(self, run: Run, fitness: Any) -> Any:
        """What the epoch is worth, after its validation, on the main rank.

        best.pt is of the epoch where this is largest, and an early stop goes by it. `fitness` is
        the host's: mostly mAP50-95; (1,) or a number.
        """
        return fitness

    def on_epoch_end(self, run: Run) -> None:
        """After the epoch's validation, before it is saved, on the main rank."""

    def on_back(self, run: Run, why: str) -> None:
        """The run goes back, on each rank. May raise, which ends it."""

    def state(self) -> dict[str, Any]:
        """What is saved in each checkpoint: plain values and tensors."""
        return {}

    def remains(self, state: dict[str, Any]) -> dict[str, Any]:
        """What of the `state` of a checkpoint is left in it when the training is over."""
        return state

    def finish(self, run: Run) -> None:
        """The training is over and all is written, on each rank: the last look, the last words.

        `train` calls it, whichever command trains: what belongs to the end of a training stands
        here, and no command can forget it.
        """


def of_main(value: Any) -> Any:
    """The main rank's value, on each rank; all have to call it."""
    told = [value]
    if host.RANK != -1:
        dist.broadcast_object_list(told, 0)
    return told[0]
