"""The command line of finetune_pruned.py, and what can be known to be wrong with it at once."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.as_called import as_called, named
from yolo_slim.errors import InputError
from yolo_slim.files import CHECKPOINT, check_file
from yolo_slim.host.command_line import parse_options, refuse_beside_resume
from yolo_slim.host.training_options import check_training
from yolo_slim.parsing import add_no_page
from yolo_slim.runs import newest, run_to_resume, tell_taken

LR_TIMES = 2.0  # with SGD: what is left has further to go than a whole model (docs/results.md)
NONE = "none"  # of --hints


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, checked as far as that needs no model; nothing heavy is imported.

    Raises:
        InputError: see `check_first`.
    """
    opt = parse_options(
        argv,
        add=add_options,
        prog=named("finetune"),
        description="Train a pruned model: its shapes stay, and weights that "
        f"`{named('finegrained')}` set to zero stay zero. Takes all options of YOLOv5's train.py. "
        "--cfg pruned.yaml --weights '' trains the slim architecture from scratch.",
        unset={
            "weights": "the newest pruned.pt in runs/",
            "cfg": "that of the weights",
            "data": "that of the model's training",
            "imgsz": "that of the model's training",
        },
        weights=None,
        data=None,
        imgsz=None,
        project="runs/finetune",
    )
    if opt.resume is not False:
        refuse_beside_resume(argv, add_options, lambda: run_to_resume(opt.resume, "finetune"))
    else:
        check_first(opt)
    return opt


def check_first(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without the model.

    Raises:
        InputError: an option is out of range, or names no file.
    """
    if opt.weights is None and not opt.cfg:
        pruned = newest("**/pruned.pt", where="--weights", made_by=as_called("prune"))
        tell_taken("the newest pruned.pt", pruned)
        opt.weights = str(pruned)
    check_lr_times(opt)
    check_teachers(opt)
    check_training(opt)


def check_teachers(opt: argparse.Namespace) -> None:
    """See that the checkpoints of --teacher and --hints are there; only hints can be none.

    Raises:
        InputError: one is not.
    """
    if opt.teacher == NONE and not Path(NONE).exists():
        raise InputError("--teacher", NONE, "a checkpoint; without --teacher there is no teacher")
    for file in (opt.teacher, opt.hints):
        if file and file != NONE:
            check_file(file, file, CHECKPOINT)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What finetune_pruned adds to YOLOv5's options."""
    group = parser.add_argument_group("how a cut model is trained")
    text = "checkpoint of the model before the cut, or of a larger one: the pruned model also "
    text += "learns from its outputs (distillation; default: no teacher)"
    group.add_argument("--teacher", metavar="CHECKPOINT", help=text)
    text = "checkpoint of the model that was cut: for the first quarter of the training the pruned "
    text += "model is held to its feature maps, less and less (default: the one that was cut, "
    text += f"where it still is; {NONE}: no hints)"
    group.add_argument("--hints", metavar="CHECKPOINT", help=text)
    text = "lr0 of --hyp is multiplied by this (default of a model that was cut "
    text += f"{LR_TIMES:g} with SGD, else 1)"
    group.add_argument("--lr-times", type=float, metavar="N", help=text)
    add_no_page(parser.add_argument_group("shown and written"))


def lr_times_of(opt: argparse.Namespace) -> float:
    """The factor of lr0 that suits a training after a cut."""
    return LR_TIMES if opt.optimizer == "SGD" else 1.0


def check_lr_times(opt: argparse.Namespace) -> None:
    """Check --lr-times, the factor of lr0, if it is given.

    Raises:
        InputError: it is no positive number.
    """
    if opt.lr_times is not None and not 0 < opt.lr_times < math.inf:
        raise InputError("--lr-times", opt.lr_times, "more than 0")
