"""YOLOv5's own training loops, with what we need attached to them and taken off again.

Nothing of a loop is copied. For the length of a run the names through which yolov5.train, or
yolov5.segment.train, builds its model and its optimizer, reads its data and opens its checkpoints
point to ours. A run can go back to its last checkpoint: the loop is left by an exception and begun
again as the host resumes an interrupted run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch import save as torch_save

from yolo_slim.errors import InputError
from yolo_slim.host import checkpoint, data
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.loops import AnnouncedBroadcast, announced, keep_rows, segment_logger
from yolo_slim.host.options import task_of
from yolo_slim.host.tasks import SEGMENTATION

mend()

from yolov5 import train as host  # noqa: E402
from yolov5.models import yolo  # noqa: E402
from yolov5.utils import loggers  # noqa: E402
from yolov5.utils.callbacks import Callbacks  # noqa: E402

LOGGER = host.LOGGER
BuildModel = Callable[..., nn.Module]
RESULTS = "results.csv"  # the host's, one row an epoch


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
    def going_back(self) -> bool:
        """True from `go_back` on, until the run has gone."""
        return bool(self._back)

    def go_back(self, why: str) -> None:
        """Go back to `last`, or to the start where there is none; to be called on the main rank.

        One process goes at once. Several go together when the epoch has ended; until then nothing
        is saved.
        """
        self._back = why
        if host.RANK == -1:
            self._leave()

    def _leave(self) -> None:
        """Raise GoBack on every rank, if the main one has asked for it."""
        self._back, self.saved = of_main((self._back, self.saved))  # it alone saves
        if self._back:
            raise GoBack(self._back)


class Hooks:
    """What a training calls as it goes. Each does nothing until it is overridden."""

    def hyperparameters(self, run: Run, hyp: dict[str, Any]) -> dict[str, Any]:
        """What a new training is to go by, once, on each rank; a resumed one has what it had."""
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


def train(opt: argparse.Namespace, hooks: Hooks, *, build: BuildModel = yolo.Model) -> Path:
    """Run the main of yolov5.train, or of yolov5.segment.train, with hooks.

    Args:
        opt: what `parse_options` returned; the loop follows from the model (see `task_of`).
        hooks: called as the run goes.
        build: called as the host calls Model(cfg, ch=, nc=, anchors=).

    Returns:
        The run's folder.
    """
    task = task_of(opt)
    loop = task.script("train")
    run, ended = Run(opt), set[int]()
    make_optimizer, host_train, resume = loop.smart_optimizer, loop.train, loop.smart_resume
    fitness, make_board = loop.fitness, loggers.SummaryWriter
    purged: int | None = None  # from this epoch on, the board drops what it was told before

    def start(hyp: Any, opt: argparse.Namespace, device: torch.device, _: Any) -> Any:
        nonlocal purged
        opt.save_dir = of_main(opt.save_dir)  # each rank looked for a free name
        if not opt.resume:
            content = data.read_mapping(hyp, "hyperparameters") if isinstance(hyp, str) else hyp
            hyp = hooks.hyperparameters(run, content)
        given = deepcopy(opt)  # the host changes both as it goes
        while True:
            run.opt, run.epoch, run.epochs, run.saved = opt, -1, opt.epochs, -1
            run.doubtful, run._back = False, ""
            ended.clear()
            try:
                return host_train(deepcopy(hyp), opt, device, callbacks())
            except GoBack as back:
                why = str(back)
            purged = run.saved + 1
            if run.board:
                run.board.close()
            hooks.on_back(run, why)
            opt = deepcopy(given)
            if run.saved >= 0:
                opt.cfg, opt.weights, opt.resume = "", str(run.last), True
            elif run.is_main:
                keep_rows(run.folder / RESULTS, 0)

    def smart_optimizer(model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = make_optimizer(model, *args, **kwargs)
        run.hyp = dict(run.opt.hyp)
        hooks.on_optimizer(run, model, optimizer)
        return optimizer

    def smart_resume(ckpt: dict[str, Any], *args: Any, **kwargs: Any) -> tuple[float, int, int]:
        best, first, run.epochs = resume(ckpt, *args, **kwargs)
        run.epoch = run.saved = first - 1
        if run.is_main:
            keep_rows(run.folder / RESULTS, first)
        hooks.on_resume(run, ckpt.get(checkpoint.STATE) or {})
        return best, first, run.epochs

    class ModelEMA(loop.ModelEMA):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            run.ema = self.ema

        def update_attr(self, *args: Any, **kwargs: Any) -> None:  # what the host does just before
            super().update_attr(*args, **kwargs)
            hooks.on_validation(run)

    class ComputeLoss(loop.ComputeLoss):  # type: ignore[misc, name-defined]
        def __call__(self, outputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss, items = super().__call__(outputs, *args, **kwargs)
            if torch.is_grad_enabled():  # the validation asks for it too
                loss = hooks.loss(run, outputs, loss)
            return loss, items

    def board(*args: Any) -> Any:
        run.board = make_board(*args, "", purged)
        return run.board

    def save(data: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(data, dict) and "ema" in data and data.get("epoch", -1) >= 0:
            in_doubt = run.doubtful and run.epoch + 1 < run.epochs
            if run._back or in_doubt:  # what was saved last is what the run goes back to
                return
            data = {**data, checkpoint.STATE: hooks.state()}
            run.saved = data["epoch"]
        elif isinstance(data, dict) and checkpoint.STATE in data:  # stripped at the end
            data = {**data, checkpoint.STATE: hooks.remains(data[checkpoint.STATE])}
        save_aside(data, file, *args, **kwargs)

    def begin_epoch(loader: Any) -> None:
        run.epoch, run.batch, run.batches = run.epoch + 1, 0, len(loader)
        size = run.opt.batch_size
        run.batch_size = size if size > 0 else loader.batch_size  # -1: the host found one
        hooks.on_epoch_start(run)

    def begin_batch(batch: int) -> None:
        run.batch = batch
        hooks.on_batch_start(run)

    def end_batch(*args: Any) -> None:
        run.losses = tuple(map(float, args[-1]))
        hooks.on_batch_end(run)

    def end_epoch(epoch: int, losses: Any, accuracy: Any) -> None:
        if epoch == run.epoch and epoch not in ended:  # COCO's last comes twice
            ended.add(epoch)
            run.losses = tuple(map(float, losses))
            run.map50, run.map = map(float, accuracy)
            hooks.on_epoch_end(run)

    def end_segment_epoch(epoch: int, metrics: dict[str, Any]) -> None:
        losses = [v for k, v in metrics.items() if k.startswith("train/")]
        end_epoch(epoch, losses, [metrics[f"metrics/mAP_{k}(B)"] for k in ("0.5", "0.5:0.95")])

    def callbacks() -> Callbacks:
        made = Callbacks()
        add = made.register_action
        add("on_train_batch_end", callback=end_batch)
        add("on_fit_epoch_end", callback=lambda v, epoch, *_: end_epoch(epoch, v[:3], v[5:7]))
        return made

    names: dict[str, Any] = {"create_dataloader": announced(loop, begin_epoch, begin_batch)}
    if task is SEGMENTATION:
        # check_git_status asks GitHub, and leaves us in the folder of the host's first import
        names |= {"SegmentationModel": build, "check_git_status": lambda: None}
        names |= {"GenericLogger": segment_logger(loop, end_segment_epoch)}
    else:
        names |= {"Model": build}
    with (
        checkpoint.safe_loading(),
        replaced(torch, save=save),
        replaced(loggers, SummaryWriter=board),
        replaced(
            loop,
            ModelEMA=ModelEMA,
            ComputeLoss=ComputeLoss,
            smart_optimizer=smart_optimizer,
            smart_resume=smart_resume,
            fitness=lambda results: hooks.fitness(run, fitness(results)),
            check_dataset=data.read_data,
            attempt_load=checkpoint.attempt_load,
            dist=AnnouncedBroadcast(dist, run._leave),
            check_requirements=lambda *args, **kwargs: None,
            train=start,
            **names,
        ),
    ):
        try:
            loop.main(opt, Callbacks())
        except AssertionError as error:  # how the host says that labels and classes do not fit
            raise InputError("YOLOv5's training", str(error), "what it asks for") from error
    return run.folder


def of_main(value: Any) -> Any:
    """The main rank's value, on each rank; all have to call it."""
    told = [value]
    if host.RANK != -1:
        dist.broadcast_object_list(told, 0)
    return told[0]


def save_aside(data: Any, file: Any, *args: Any, **kwargs: Any) -> None:
    """torch.save, but a disk that fills leaves the last checkpoint whole."""
    if isinstance(file, str | Path):
        checkpoint.write(file, data)
    else:
        torch_save(data, file, *args, **kwargs)
