"""YOLOv5's own training loop, with what we need attached to it and taken off again.

Nothing of the loop is copied. For the length of a run the names through which yolov5.train builds
its model and its optimizer, reads its data and opens its checkpoints point to ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch import save as torch_save

from yolo_slim.errors import InputError
from yolo_slim.host import checkpoint, data
from yolo_slim.host.compat import mend, replaced
from yolo_slim.host.evaluate import check_device
from yolo_slim.runs import check_writable, newest

mend()

from yolov5 import train as host  # noqa: E402
from yolov5.models import yolo  # noqa: E402
from yolov5.utils import general  # noqa: E402
from yolov5.utils.callbacks import Callbacks  # noqa: E402

LOGGER = host.LOGGER
HYP = general.ROOT / "data" / "hyps" / "hyp.scratch-low.yaml"
BuildModel = Callable[..., nn.Module]


@dataclass
class Run:
    """A training as it goes: what the hooks are told.

    Attributes:
        opt: the host's options; on resume, those of the run that is resumed.
        epoch, epochs: counted from 0; the epoch that runs, or has just ended.
        ema: the host's moving average of the model, None on ranks other than 0.
        hyp: the hyperparameters.
        callbacks: the host's, with its loggers registered.
    """

    opt: argparse.Namespace
    epoch: int = 0
    epochs: int = 0
    ema: Any = None
    hyp: dict[str, Any] = field(default_factory=dict)
    callbacks: Any = None

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

    @property
    def board(self) -> Any:
        """The host's TensorBoard writer, None where it has none."""
        actions = self.callbacks.get_registered_actions("on_train_start")
        loggers: list[Any] = [getattr(action["callback"], "__self__", None) for action in actions]
        return next((x.tb for x in loggers if getattr(x, "tb", None)), None)


def parse_options(
    argv: Sequence[str] | None,
    *,
    add: Callable[[argparse.ArgumentParser], None],
    prog: str,
    description: str,
    **defaults: Any,
) -> argparse.Namespace:
    """YOLOv5's training options, unchanged, and ours.

    Args:
        argv: the command line, None for sys.argv.
        add: adds our options to the host's parser.
        prog: name of the script, for --help.
        description: what it does, for --help.
        defaults: defaults that differ from the host's.
    """
    from yolo_slim.cli import OneLineParser

    class Parser(OneLineParser):
        def parse_args(self, *args: Any, **kwargs: Any) -> Any:
            self.prog, self.description = prog, description
            add(self)
            self.set_defaults(hyp=str(HYP), **defaults)
            return super().parse_args(argv)

    names = SimpleNamespace(ArgumentParser=Parser, Namespace=argparse.Namespace)
    with replaced(host, argparse=names):
        return host.parse_opt()


def check_common(opt: argparse.Namespace, nc: int | None = None) -> None:
    """Check what the host would stumble over later: data, cfg, hyp, image size, output folder.

    Raises:
        InputError: see the message.
    """
    opt.data = str(opt.data)
    if not Path(opt.data).is_file() and (data.shipped(opt.data)).is_file():
        opt.data = str(data.shipped(opt.data))
    data.check_data(opt.data, nc, ("train", "val"))
    for name in ("cfg", "hyp"):
        value = str(getattr(opt, name))
        if value:
            try:
                setattr(opt, name, general.check_yaml(value))
            except AssertionError as error:
                raise InputError(f"--{name}", value, "a yaml file") from error
    if opt.weights:
        opt.weights = str(Path(opt.weights).absolute())
    if opt.noval:
        raise InputError("--noval", "given", "no --noval: yolov5 7.0.14 fails on it (map50s)")
    check_hyp(opt.hyp)
    check_device(str(opt.device))
    if opt.workers < 0:
        raise InputError("--workers", opt.workers, "0 or more")
    if opt.imgsz < 32 or opt.imgsz % 32:
        raise InputError("--imgsz", opt.imgsz, "a multiple of the stride, 32")
    if opt.epochs < 1:
        raise InputError("--epochs", opt.epochs, "1 or more")
    if opt.batch_size == 0 or opt.batch_size < -1:
        raise InputError("--batch-size", opt.batch_size, "1 or more, or -1 for autobatch")
    check_writable(opt.project)


def check_hyp(path: str) -> None:
    """Check that a hyp yaml has all that the host looks up in it.

    Raises:
        InputError: it is no yaml, or an entry is missing.
    """
    hyp, least = data.read_mapping(path, "hyperparameters"), data.read_mapping(HYP, "")
    missing = [key for key in least if not isinstance(hyp.get(key), int | float)]
    if missing:
        raise InputError(f"--hyp {path}", f"no number {', '.join(missing)}", f"all of {HYP.name}")


def check_cfg(path: str, build: BuildModel) -> nn.Module:
    """Build a model yaml once, silently: what is wrong with it is then known at the start.

    Raises:
        InputError: it is no model yaml, or its layers do not fit together.
    """
    if not Path(path).is_file():
        raise InputError(f"--cfg {path}", "no such file", "a model yaml")
    with replaced(LOGGER, disabled=True), torch.random.fork_rng(devices=[]):
        try:
            return build(path)
        except InputError:
            raise
        except Exception as error:  # whatever a layer makes of its arguments
            text = f"cannot be built ({type(error).__name__}: {str(error)[:120]})"
            raise InputError(f"--cfg {path}", text, "layers that fit together") from error


def resolve_resume_(opt: argparse.Namespace, *, beside: str, made_by: str) -> None:
    """The newest unfinished run of the right kind where --resume names none.

    Raises:
        InputError: nothing to resume, a finished run, or a run of another kind.
    """
    if opt.resume is True:
        opt.resume = newest("**/weights/last.pt", where="--resume", made_by=made_by, beside=beside)
    last = Path(opt.resume)
    if checkpoint.load(last).epoch < 0:
        raise InputError(f"--resume {last}", "a finished training", "one that was interrupted")
    for name in ("opt.yaml", beside):
        if not (last.parent.parent / name).is_file():
            raise InputError(f"--resume {last}", f"no {name} in its run", f"a run of {made_by}")
    opt.resume = str(last.absolute())


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
    """Run yolov5.train.main with hooks.

    Args:
        opt: what `parse_options` returned.
        build: called as the host calls Model(cfg, ch=, nc=, anchors=).
        on_optimizer: called as soon as model and optimizer exist; the weights are loaded.
        on_epoch_start: called before each epoch, on each rank.
        on_epoch_end: called after the epoch's validation, on the main rank.

    Returns:
        The run's folder.
    """
    run, hooks = Run(opt), Callbacks()
    run.callbacks = hooks
    make_optimizer, host_train, resume = host.smart_optimizer, host.train, host.smart_resume

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

    class ModelEMA(host.ModelEMA):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            run.ema = self.ema

    def begin_epoch() -> None:
        run.epoch += 1
        if on_epoch_start:
            on_epoch_start(run)

    hooks.register_action("on_train_epoch_start", callback=begin_epoch)
    ended: set[int] = set()

    def end_epoch(*args: Any) -> None:
        if on_epoch_end and run.epoch not in ended:  # for COCO it is called once more at the end
            on_epoch_end(run)
        ended.add(run.epoch)

    hooks.register_action("on_fit_epoch_end", callback=end_epoch)
    with (
        checkpoint.safe_loading(),
        replaced(torch, save=save_aside),
        replaced(
            host,
            Model=build,
            ModelEMA=ModelEMA,
            smart_optimizer=smart_optimizer,
            smart_resume=smart_resume,
            check_dataset=data.read_data,
            attempt_load=checkpoint.attempt_load,
            check_requirements=lambda *args, **kwargs: None,
            train=start,
        ),
    ):
        try:
            host.main(opt, hooks)
        except AssertionError as error:  # how the host says that labels and classes do not fit
            raise InputError("YOLOv5's training", str(error), "what it asks for") from error
    return run.folder
