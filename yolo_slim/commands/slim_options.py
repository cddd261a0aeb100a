"""The command line of slim, and what can be known to be wrong with it at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.as_called import as_called, named
from yolo_slim.channels.residual import RESIDUAL
from yolo_slim.commands.finetune_options import LR_TIMES, NONE, check_lr_times, check_teachers
from yolo_slim.commands.prune_options import check_table, split_device_
from yolo_slim.errors import InputError, check_count, option_of
from yolo_slim.host.command_line import parse_options, refuse_beside_resume
from yolo_slim.host.training_options import check_training
from yolo_slim.packages import TIMED, check_imports
from yolo_slim.parsing import add_no_page
from yolo_slim.pruning.budget.target import MACS, ROUND_TO, Target
from yolo_slim.pruning.criteria.table import AUTO, check_depth, find, name_given
from yolo_slim.rounds.plan import REPORT
from yolo_slim.runs import STATE, newest, tell_taken
from yolo_slim.text import counted

USUAL, SPARSE = "thinet", "bn"  # the criterion, by default: without --st, with it


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, checked as far as that needs no model.

    Nothing heavy is imported before a mistake is told, and then only what times the result.

    Raises:
        InputError: see `check_first`; a package cannot be imported.
    """
    opt = parse_options(
        argv,
        add=add_options,
        prog=named("slim"),
        description="Cut a model, recover it, train it on, and report what came of it. Takes all "
        "options of YOLOv5's train.py; --epochs are those of all trainings together. --resume "
        "[FOLDER] goes on with an interrupted run.",
        usage="%(prog)s --weights FILE --data YAML [options]",
        unset={
            "weights": "none: it or --cfg must be given",
            "data": "none: it must be given",
            "imgsz": "640",
        },
        weights="",
        data=None,
        imgsz=None,
        project="runs/slim",
    )
    split_device_(opt)
    if opt.resume is not False:
        refuse_beside_resume(argv, add_options, lambda: resumed(opt.resume))
    check_first(opt)
    check_imports(named("slim"), TIMED)  # at the end the result is timed
    return opt


def check_first(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without the model.

    Raises:
        InputError: an option is out of range, excludes another one, or names no file.
    """
    if int(os.getenv("WORLD_SIZE", "1")) > 1:
        raise InputError(named("slim"), "started by torchrun", "one process; or step by step")
    if opt.resume:
        return
    target_of(opt)
    check_depth(bool(opt.depth), opt.residual, named=True)
    if opt.latency is not None and opt.st:
        raise InputError("--latency", "with --st", "--macs: a sparse training aims at MACs")
    check_table(opt)
    opt.round_to = ROUND_TO if opt.round_to is None else opt.round_to
    for name in ("rounds", "round_to", "calib_images"):
        check_count(option_of(name), getattr(opt, name))
    if opt.evolve:
        raise InputError("--evolve", "given", "no evolution: its runs are compared by one model")
    check_epochs(opt, at_once=not (opt.cfg or opt.st))
    if opt.data is None:
        raise InputError("--data", "not given", "a data yaml")
    if not opt.weights and not opt.cfg:
        raise InputError("--weights", "not given", "a checkpoint, or --cfg with a model yaml")
    if opt.st and opt.criterion not in (AUTO, SPARSE):
        raise InputError("--criterion", f"{opt.criterion} with --st", SPARSE)
    if opt.criterion != AUTO and not opt.modules:  # whose files may have criteria of their own
        find(opt.criterion, also=(AUTO,))
    for name in ("s3_upload_dir", "hf_model_id", "roboflow_upload"):
        if getattr(opt, name, None):
            raise InputError(f"--{name}", "given", "no upload: a run has several trainings")
    check_lr_times(opt)
    check_teachers(opt)
    check_training(opt)
    if opt.exist_ok and (Path(opt.project) / opt.name / STATE).is_file():
        expected = "another --name, or --resume: there is a run of slim in that folder"
        raise InputError("--exist-ok", Path(opt.project) / opt.name, expected)


def target_of(opt: argparse.Namespace) -> Target:
    """What is to be left in the end.

    Raises:
        InputError: see `Target`.
    """
    latency = getattr(opt, "latency", None)  # an older run has no such option
    given = opt.macs if latency is None else None
    target = Target.of(macs=opt.macs, latency=latency)
    return Target("macs", MACS) if given is None and latency is None else target


def check_epochs(opt: argparse.Namespace, *, at_once: bool) -> None:
    """See that each training of a run has an epoch.

    Args:
        opt: what was parsed.
        at_once: the first cut comes before the first training.

    Raises:
        InputError: there are fewer epochs than trainings.
    """
    least = opt.rounds + (not at_once)
    if opt.epochs < least:
        got = f"{opt.epochs} with {counted(opt.rounds, 'round')}"
        trainings = "after each cut" if at_once else "before each cut, and after the last"
        raise InputError("--epochs", got, f"{least} or more: a training comes {trainings}")


def resumed(place: Any) -> Path:
    """The folder of an interrupted run: as given, or the newest one for True.

    Raises:
        InputError: there is none, or it is finished.
    """
    if place is True:
        made_by = as_called("slim")
        state = newest(f"**/{STATE}", where="--resume", made_by=made_by)
        tell_taken("the newest run of slim", state, not_given="--resume names no run")
        run_folder = state.parent
    else:
        places = [p for p in (Path(place), *Path(place).parents) if (p / STATE).is_file()]
        if not places:
            got = f"no {STATE} there"
            raise InputError(f"--resume {place}", got, f"the folder of a run of {named('slim')}")
        run_folder = places[0]
    if (run_folder / REPORT).is_file():
        raise InputError(f"--resume {run_folder}", "a finished run", "one that was interrupted")
    return run_folder


def add_options(parser: argparse.ArgumentParser) -> None:
    """What slim adds to YOLOv5's options."""
    add = parser.add_argument_group("how much is cut").add_argument
    text = f"share of the MACs that is left in the end, (0, 1] (default: {MACS:g})"
    add("--macs", type=float, help=text)
    text = (
        "instead: share of the time that is left, (0, 1]; on a device with --device device.json, "
    )
    text += f"the table of `{named('profile')}`, else on this machine in ONNX Runtime"
    add("--latency", type=float, help=text)
    text = "number of cuts. The first comes at once, or after a training if the weights are random "
    text += "or --st is given; a training follows each cut (default: 1)"
    add("--rounds", type=int, default=1, help=text)
    text = f"make the model sparse before each cut (see {named('sparse')} --help): what is then at "
    text += "zero is cut; these trainings get half of the epochs"
    add("--st", action="store_true", help=text)
    add = parser.add_argument_group("how channels are chosen").add_argument
    text = f"how channels are scored (see {named('prune')} --help; default auto, with --st "
    text += f"{SPARSE})"
    add("--criterion", type=name_given, default=AUTO, help=text)
    text = f"kept channels are multiples of N where a layer is wide enough (default: {ROUND_TO})"
    add("--round-to", type=int, metavar="N", help=text)
    text = "what may be cut around residual adds (default: as suits the criterion)"
    add("--residual", choices=RESIDUAL, help=text)
    text = f"residual Bottlenecks may go as a whole too (see {named('prune')} --help)"
    add("--depth", action=argparse.BooleanOptionalAction, help=text)
    text = "images of the training split that a cut looks at (default: 128)"
    add("--calib-images", type=int, default=128, help=text)
    add = parser.add_argument_group("the trainings after a cut").add_argument
    text = "trainings after a cut begin with lr0 of --hyp times this (default "
    text += f"{LR_TIMES:g} with SGD, else 1)"
    add("--lr-times", type=float, metavar="N", help=text)
    text = f"{NONE}: a cut model gets no hints from the model before the cut (see "
    text += f"{named('finetune')} --help)"
    add("--hints", choices=[NONE], help=text)
    text = f"checkpoint of a model that teaches the cut ones (see {named('finetune')} --help)"
    add("--teacher", metavar="CHECKPOINT", help=text)
    add_no_page(parser.add_argument_group("shown and written"))
