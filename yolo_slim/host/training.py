"""YOLOv5's own training loops, with what we need attached to them and taken off again.

Nothing of a loop is copied. For the length of a run the names through which yolov5.train, or
yolov5.segment.train, builds its model and its optimizer, reads its data and opens its checkpoints
point to ours. A run can go back to its last checkpoint: the loop is left by an exception and begun
again as the host resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch import save as torch_save

from yolo_slim.as_called import as_called
from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping
from yolo_slim.host import checkpoint, data
from yolo_slim.host.assertions import in_our_words, is_hosts
from yolo_slim.host.classes import yolo
from yolo_slim.host.compat import replaced
from yolo_slim.host.hooks import LOGGER, GoBack, Hooks, Run, of_main
from yolo_slim.host.loops import (
    AnnouncedBroadcast,
    HookedLoss,
    announced,
    keep_rows,
    segment_logger,
)
from yolo_slim.host.options import BuildModel, task_of
from yolo_slim.host.quiet_log import quiet
from yolo_slim.host.tasks import SEGMENTATION
from yolo_slim.moved import BEGUN_IN, check_there, options_here, standing_in
from yolo_slim.runs import RESULTS, record_call

from yolov5.utils import loggers  # isort: skip
from yolov5.utils.callbacks import Callbacks  # isort: skip

__all__ = ["LOGGER", "Callbacks", "Hooks", "Run", "train"]


def train(
    opt: argparse.Namespace,
    hooks: Hooks,
    *,
    command: str = "sparse",
    build: BuildModel = yolo.Model,
) -> Path:
    """Run the main of yolov5.train, or of yolov5.segment.train, with hooks.

    Args:
        opt: what `parse_options` returned; the loop follows from the model (see `task_of`).
        hooks: called as the run goes, `finish` when it is over.
        command: that goes on with it when it was interrupted.
        build: called as the host calls Model(cfg, ch=, nc=, anchors=).

    Returns:
        The run's folder.

    Raises:
        InputError: what the host says that it cannot use.
        KeyboardInterrupt: interrupted, with the command that goes on.
    """
    with ExitStack() as stack:
        here = options_of_resumed(opt.resume) if opt.resume else {}
        if here:
            stack.enter_context(standing_in(here[BEGUN_IN]))
        training = Training(opt, hooks, build, here)
        stack.enter_context(checkpoint.safe_loading())
        stack.enter_context(training.patched())
        try:
            training.loop.main(opt, Callbacks())
        except KeyboardInterrupt as stop:
            training.clear()
            raise KeyboardInterrupt(training.way_on(command)) from stop
        except BaseException as error:
            training.clear()
            if is_hosts(error):
                raise in_our_words(error, "training") from error
            raise
        hooks.finish(training.run)
        return training.run.folder


def options_of_resumed(last: str) -> dict[str, Any]:
    """What changes of the options of a run that goes on, see `options_here`.

    Raises:
        InputError: its options cannot be read, or its data is gone.
    """
    folder = Path(last).absolute().parents[1]
    saved = read_mapping(folder / "opt.yaml", "the options of a run")
    if not isinstance(saved.get("save_dir"), str):
        raise InputError(folder / "opt.yaml", "no save_dir", "the options of a run of YOLOv5")
    here = options_here(saved, folder)
    check_there(here, folder)
    return here


class Training:
    """A run of one of the host's loops: each patched name of the host is a method here.

    Args:
        opt, hooks, build: see `train`.
        here: of a run that goes on: options that are not as they were saved.

    Attributes:
        loop: the host's module.
        names: what is patched in it, and what stands in its place.
        host: what stood there.
        run: how far it is.
        ended: the epochs that have ended.
        purged: TensorBoard drops all entries from this epoch on; None: it keeps all.
    """

    def __init__(
        self,
        opt: argparse.Namespace,
        hooks: Hooks,
        build: BuildModel,
        here: Mapping[str, Any] | None = None,
    ) -> None:
        self.hooks, self.build, self.here = hooks, build, here or {}
        self.made: Path | None = None  # the folder, if this process made it
        task = task_of(opt)
        self.segments = task is SEGMENTATION
        self.loop = task.script("train")
        self.run, self.ended = Run(opt), set[int]()
        self.purged: int | None = None
        self.names = self.replacements()
        self.host = {name: getattr(self.loop, name) for name in self.names}
        self.make_board = loggers.SummaryWriter

    def replacements(self) -> dict[str, Any]:
        """The names of the loop's module that are patched, and what stands in their place."""
        model = "SegmentationModel" if self.segments else "Model"
        names = {
            model: self.build,
            "ModelEMA": self.moving_average,
            "ComputeLoss": self.compute_loss,
            "smart_optimizer": self.smart_optimizer,
            "smart_resume": self.smart_resume,
            "fitness": self.fitness,
            "create_dataloader": announced(self.loop, self.begin_epoch, self.begin_batch),
            "check_dataset": data.read_data,
            "attempt_load": checkpoint.attempt_load,
            "check_requirements": lambda *args, **kwargs: None,
            "dist": AnnouncedBroadcast(dist, self.run.leave),
            "train": self.train,
        }
        if self.segments:
            # check_git_status asks GitHub, and leaves us in the folder of the host's first import
            names["check_git_status"] = lambda: None
            names["GenericLogger"] = segment_logger(self.loop, self.end_segment_epoch)
        return names

    @contextmanager
    def patched(self) -> Iterator[None]:
        """The host's names point to our methods in the block."""
        with ExitStack() as patches:
            patches.enter_context(replaced(torch, save=self.save))
            patches.enter_context(replaced(loggers, SummaryWriter=self.board))
            patches.enter_context(replaced(self.loop, **self.names))
            patches.enter_context(quiet(LOGGER, lambda: Path(self.run.opt.save_dir)))
            yield

    def train(self, hyp: Any, opt: argparse.Namespace, device: torch.device, _: Any) -> Any:
        """The host's train, begun again from the last checkpoint each time that the run goes back.

        In the place of the loop's train(hyp, opt, device, callbacks).
        """
        run, hooks = self.run, self.hooks
        if opt.resume:
            vars(opt).update(self.here)
        opt.save_dir = of_main(opt.save_dir)  # each rank looked for a free name
        if not opt.resume:
            opt.begun_in = str(Path.cwd())
            if run.is_main and not Path(opt.save_dir).exists():
                self.made = Path(opt.save_dir)
            content = read_mapping(hyp, "hyperparameters") if isinstance(hyp, str) else hyp
            hyp = hooks.hyperparameters(run, content)
        given = deepcopy(opt)  # the host changes both as it goes
        while True:
            run.begin(opt)
            self.ended.clear()
            try:
                return self.host["train"](deepcopy(hyp), opt, device, self.callbacks())
            except GoBack as back:
                why = str(back)
            self.purged = run.saved + 1
            if run.board:
                run.board.close()
            hooks.on_back(run, why)
            opt = deepcopy(given)
            if run.saved >= 0:
                opt.cfg, opt.weights, opt.resume = "", str(run.last), True
            elif run.is_main:
                keep_rows(run.folder / RESULTS, 0)

    def clear(self) -> None:
        """Remove the folder of a run that was ended before anything was learned."""
        kept = (RESULTS, "weights/*.pt", "evolve.csv")
        if self.made and not any(file for name in kept for file in self.made.glob(name)):
            shutil.rmtree(self.made, ignore_errors=True)

    def way_on(self, command: str) -> str:
        """What an interrupted user is told."""
        if getattr(self.run.opt, "save_dir", None) and self.run.last.is_file():
            return f"{as_called(command, '--resume', self.run.last)} goes on"
        return "no epoch had ended, so there is nothing to go on from"

    def smart_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The host's optimizer, which the hooks are told of."""
        optimizer = self.host["smart_optimizer"](model, *args, **kwargs)
        self.run.hyp = dict(self.run.opt.hyp)
        if self.run.is_main and not self.run.resumed:
            record_call(self.run.folder)
        self.hooks.on_optimizer(self.run, model, optimizer)
        return optimizer

    def smart_resume(
        self, ckpt: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[float, int, int]:
        """The host's resuming of an optimizer, and that of the hooks."""
        run = self.run
        best, first, run.epochs = self.host["smart_resume"](ckpt, *args, **kwargs)
        first = min(first, run.epochs - 1)  # the last epoch was saved: the loop needs one to end
        run.epoch = run.saved = first - 1
        if run.is_main:
            keep_rows(run.folder / RESULTS, first)
        self.hooks.on_resume(run, ckpt.get(checkpoint.STATE) or {})
        return best, first, run.epochs

    def moving_average(self, *args: Any, **kwargs: Any) -> Any:
        """The host's ModelEMA, whose update_attr, the last thing before a validation, is told."""
        average = self.host["ModelEMA"](*args, **kwargs)
        self.run.ema, update = average.ema, average.update_attr

        def update_attr(*args: Any, **kwargs: Any) -> None:
            update(*args, **kwargs)
            self.hooks.on_validation(self.run)

        average.update_attr = update_attr
        return average

    def compute_loss(self, *args: Any, **kwargs: Any) -> HookedLoss:
        """The host's ComputeLoss, to which the hooks add."""
        loss = self.host["ComputeLoss"](*args, **kwargs)
        return HookedLoss(loss, lambda outputs, value: self.hooks.loss(self.run, outputs, value))

    def fitness(self, results: Any) -> Any:
        """What an epoch is worth: the host's opinion, or that of the hooks."""
        return self.hooks.fitness(self.run, self.host["fitness"](results))

    def board(self, *args: Any) -> Any:
        """The host's TensorBoard writer, in the place of SummaryWriter(folder)."""
        self.run.board = self.make_board(*args, "", self.purged)
        return self.run.board

    def save(self, content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        """torch.save of the host's checkpoints, with the state of the hooks in them."""
        run = self.run
        if isinstance(content, dict) and "ema" in content and content.get("epoch", -1) >= 0:
            in_doubt = run.doubtful and run.epoch + 1 < run.epochs
            if run.going_back or in_doubt:  # what was saved last is what the run goes back to
                return
            content = {**content, checkpoint.STATE: self.hooks.state()}
            run.saved = content["epoch"]
        elif isinstance(content, dict) and checkpoint.STATE in content:  # stripped at the end
            kept = self.hooks.remains(content[checkpoint.STATE])
            content = {**content, checkpoint.STATE: kept}
        save_aside(content, file, *args, **kwargs)

    def begin_epoch(self, loader: Any) -> None:
        """Called by the training loader before an epoch's first batch."""
        run, size = self.run, self.run.opt.batch_size
        run.epoch, run.batch, run.batches = run.epoch + 1, 0, len(loader)
        run.batch_size = size if size > 0 else loader.batch_size  # -1: the host found one
        self.hooks.on_epoch_start(run)

    def begin_batch(self, batch: int) -> None:
        """Called by the training loader before each batch."""
        self.run.batch = batch
        self.hooks.on_batch_start(self.run)

    def end_batch(self, *args: Any) -> None:
        """The host's callback on_train_batch_end."""
        self.run.losses = tuple(map(float, args[-1]))
        self.hooks.on_batch_end(self.run)

    def end_epoch(self, epoch: int, losses: Any, accuracy: Any) -> None:
        """An epoch has been validated: its losses, and mAP50 and mAP50-95 of the boxes."""
        if epoch == self.run.epoch and epoch not in self.ended:  # COCO's last comes twice
            self.ended.add(epoch)
            self.run.losses = tuple(map(float, losses))
            self.run.map50, self.run.map = map(float, accuracy)
            self.hooks.on_epoch_end(self.run)

    def end_segment_epoch(self, epoch: int, metrics: dict[str, Any]) -> None:
        """The same, from what the segmentation loop logs."""
        losses = [v for k, v in metrics.items() if k.startswith("train/")]
        accuracy = [metrics[f"metrics/mAP_{k}(B)"] for k in ("0.5", "0.5:0.95")]
        self.end_epoch(epoch, losses, accuracy)

    def callbacks(self) -> Callbacks:
        """The host's callbacks, of the detection loop alone."""
        made = Callbacks()
        made.register_action("on_train_batch_end", callback=self.end_batch)
        made.register_action(
            "on_fit_epoch_end",
            callback=lambda values, epoch, *_: self.end_epoch(epoch, values[:3], values[5:7]),
        )
        return made


def save_aside(data: Any, file: Any, *args: Any, **kwargs: Any) -> None:
    """torch.save, but a disk that fills leaves the last checkpoint whole."""
    if isinstance(file, str | Path):
        checkpoint.write(file, data)
    else:
        torch_save(data, file, *args, **kwargs)
