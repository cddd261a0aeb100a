"""The command line of train_sparse.py, and what can be known to be wrong with it at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from yolo_slim.as_called import named
from yolo_slim.channels.residual import RESIDUAL
from yolo_slim.errors import InputError, check_count
from yolo_slim.host.command_line import names_given, parse_options, refuse_beside_resume
from yolo_slim.host.training_options import check_training
from yolo_slim.pruning.budget.target import PERCENT, ROUND_TO, Target
from yolo_slim.runs import run_to_resume
from yolo_slim.sparsify.strengths import AUTO, METHODS, check_macs, check_strengths


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, checked as far as that needs no model; nothing heavy is imported.

    Raises:
        InputError: see `check_first`.
    """
    opt = parse_options(
        argv,
        add=add_options,
        prog=named("sparse"),
        description="With --st: train until many channels are at zero, so that a cut of them costs "
        "little. Without --st this is YOLOv5's own training. Takes all options of its train.py.",
        unset={
            "weights": "none: random weights",
            "cfg": "that of the weights; yolov5n.yaml with random ones",
            "data": "shapes that are drawn, as in the demo",
            "imgsz": "640; 160 of the shapes",
        },
        weights="",
        data=None,
        imgsz=None,
    )
    if opt.resume is not False:
        folder = partial(run_to_resume, opt.resume, "sparse")
        refuse_beside_resume(argv, add_options, folder, allowed=["--st"])
    else:
        check_first(opt, ours_in(argv))
    return opt


def check_first(opt: argparse.Namespace, given: Sequence[str]) -> None:
    """Everything that can be known to be wrong without the model.

    Args:
        opt: what was parsed.
        given: those of our options that were given, but for --st.

    Raises:
        InputError: an option is out of range, excludes another one, or names no file.
    """
    check_strengths(opt.sr, opt.bias_sr, "--")
    for name in () if opt.st else given:
        raise InputError(name, "given without --st", "--st, which turns the penalty on")
    Target.of(percent=opt.percent, macs=opt.macs)
    check_macs(opt.macs, opt.sr, opt.penalty)
    if opt.sr in (None, AUTO) and opt.penalty != "l1":
        if opt.macs == 1:
            raise InputError("--macs", "1", "less than 1: what is to be left, for --sr auto")
        if opt.percent == 0:
            raise InputError("--percent", "0", "more than 0: what is to be cut, for --sr auto")
    if opt.st and opt.evolve:
        why = "one of the two: evolution compares runs by an mAP that sparsity holds down"
        raise InputError("--evolve", "given with --st", why)
    if opt.round_to is not None:
        check_count("--round-to", opt.round_to)
    check_training(opt)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What train_sparse adds to YOLOv5's options."""
    add = parser.add_argument_group("sparsity: how much").add_argument
    add("--st", action="store_true", help="train with sparsity: a penalty on BatchNorm")
    add("--percent", type=float, help=f"share that is to be cut (default: {PERCENT:g})")
    text = "share of the MACs that is to be left, in place of --percent (with --sr auto and prox)"
    add("--macs", type=float, help=text)
    text = "layers that are not penalised, such as model.2 (repeatable)"
    add("--keep", action="append", default=[], metavar="GLOB", help=text)
    text = "what may be cut around residual adds (group: a group penalty on what is tied); default "
    text += "as in the last cut of a pruned model, or skip"
    add("--residual", choices=RESIDUAL, help=text)
    text = f"as of {named('prune')}, for --sr auto with prox (default: {ROUND_TO})"
    add("--round-to", type=int, metavar="N", help=text)
    add = parser.add_argument_group("sparsity: how it comes about").add_argument
    text = "auto (default): as strong as it takes to have --percent of the channels at zero by "
    text += "three quarters of the run; or a number: the strength of an L1 penalty on gamma"
    add("--sr", type=strength, metavar="SR", help=text)
    text = "prox: soft thresholding after the step (default with --sr auto); l1: its gradient "
    text += "before the step, decaying (default with a number)"
    add("--penalty", choices=METHODS, help=text)
    text = "strength on beta; 0: beta is left alone (default: l1 10 * sr, prox falls with gamma)"
    add("--bias-sr", type=float, help=text)
    text = "no quick cuts on validation images (they take up to 3%% of the time)"
    add("--no-probe", action="store_true", help=text)


def strength(text: str) -> float | str:
    """A number, or auto."""
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number or auto") from error


def ours_in(argv: Sequence[str] | None) -> list[str]:
    """Those of our options that a command line has, but for --st, which turns them on."""
    return [name for name in names_given(argv, add_options)[0] if name != "--st"]
