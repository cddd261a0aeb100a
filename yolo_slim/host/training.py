"""YOLOv5's own training loops, with what we need attached to them and taken off again.

Nothing of a loop is copied. For the length of a run the names through which yolov5.train, or
yolov5.segment.train, builds its model and its optimizer, reads its data and opens its checkpoints
point to ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch import save as torch_save

from yolo_slim.errors import InputError
from yolo_slim.host import checkpoint, data
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.segmentation import epoch_hooks
from yolo_slim.host.tasks import SEGMENTATION, task_of

mend()

from yolov5 import train as host  # noqa: E402
from yolov5.models import yolo  # noqa: E402
from yolov5.utils import loggers  # noqa: E402
from yolov5.utils.callbacks import Callbacks  # noqa: E402

LOGGER = host.LOGGER
BuildModel = Callable[..., nn.Module]


@dataclass
class Run:
    """A training as it goes: what the hooks are told.

    Attributes:
        opt: the host's options; on resume, those of the run that is resumed.
        epoch, epochs: counted from 0; the epoch that runs, or has just ended.
        ema: the host's moving average of the model, None on ranks other than 0.
        hyp: the hyperparameters.
        board: the host's TensorBoard writer, None where it has none.
    """

    opt: argparse.Namespace
    epoch: int = 0
    epochs: int = 0
    ema: Any = None
    hyp: dict[str, Any] = field(default_factory=dict)
    board: Any = None

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.opt.save_dir)

    @property
    def resumed(self) -> bool:
        """True if an interrupted run is gone on with."""
        return bool(self.opt.resume)

    @property
    def is_main(self) -> bool:
        """True in the process that logs and saves."""
        return host.RANK in {-1, 0}


def save_aside(data: Any, file: Any, *args: Any, **kwargs: Any) -> None:
    """torch.save, but a disk that fills leaves the last checkpoint whole."""
    if isinstance(file, str | Path):
        checkpoint.write(file, data)
    else:
        torch_save(data, file, *args, **kwargs)


def train(
    opt: argparse.Namespace,
    *,
    build: BuildModel = yolo.Model,
    on_optimizer: Callable[[Run, nn.Module, torch.optim.Optimizer], None] | None = None,
    on_epoch_start: Callable[[Run], None] | None = None,
    on_epoch_end: Callable[[Run], None] | None = None,
) -> Path:
    """Run the main of yolov5.train, or of yolov5.segment.train, with hooks.

    Args:
        opt: what `parse_options` returned; the loop follows from the model (see `task_of`).
        build: called as the host calls Model(cfg, ch=, nc=, anchors=).
        on_optimizer: called as soon as model and optimizer exist; the weights are loaded.
        on_epoch_start: called before each epoch, on each rank.
        on_epoch_end: called after the epoch's validation, on the main rank.

    Returns:
        The run's folder.
    """
    task = task_of(opt)
    loop = task.script("train")
    run, hooks, ended = Run(opt), Callbacks(), set[int]()
    make_optimizer, host_train, resume = loop.smart_optimizer, loop.train, loop.smart_resume
    make_board = loggers.SummaryWriter

    def start(hyp: Any, opt: argparse.Namespace, device: torch.device, callbacks: Any) -> Any:
        run.opt, run.epoch, run.epochs = opt, -1, opt.epochs  # on resume the host makes a new opt
        return host_train(hyp, opt, device, callbacks)

    def smart_optimizer(model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = make_optimizer(model, *args, **kwargs)
        run.hyp = dict(run.opt.hyp)
        if on_optimizer:
            on_optimizer(run, model, optimizer)
        return optimizer

    def smart_resume(*args: Any, **kwargs: Any) -> tuple[float, int, int]:
        best, first, run.epochs = resume(*args, **kwargs)
        run.epoch = first - 1
        return best, first, run.epochs

    class ModelEMA(loop.ModelEMA):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            run.ema = self.ema

    def board(*args: Any) -> Any:
        run.board = make_board(*args)
        return run.board

    def begin_epoch() -> None:
        run.epoch += 1
        if on_epoch_start:
            on_epoch_start(run)

    def end_epoch(epoch: int) -> None:
        if on_epoch_end and epoch == run.epoch and epoch not in ended:  # COCO's last comes twice
            on_epoch_end(run)
        ended.add(epoch)

    if task is SEGMENTATION:
        # check_git_status asks GitHub, and leaves us in the folder of the host's first import
        names = {"SegmentationModel": build, "check_git_status": lambda: None}
        names |= epoch_hooks(loop, begin_epoch, end_epoch)
    else:
        names = {"Model": build}
        hooks.register_action("on_train_epoch_start", callback=begin_epoch)
        hooks.register_action("on_fit_epoch_end", callback=lambda _, epoch, *__: end_epoch(epoch))
    with (
        checkpoint.safe_loading(),
        replaced(torch, save=save_aside),
        replaced(loggers, SummaryWriter=board),
        replaced(
            loop,
            ModelEMA=ModelEMA,
            smart_optimizer=smart_optimizer,
            smart_resume=smart_resume,
            check_dataset=data.read_data,
            attempt_load=checkpoint.attempt_load,
            check_requirements=lambda *args, **kwargs: None,
            train=start,
            **names,
        ),
    ):
        try:
            loop.main(opt, hooks)
        except AssertionError as error:  # how the host says that labels and classes do not fit
            raise InputError("YOLOv5's training", str(error), "what it asks for") from error
    return run.folder
