"""slim: the whole road in one run: train, cut, recover, train on, in rounds, and a report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.commands.sparse import resolve_defaults_
from yolo_slim.errors import InputError
from yolo_slim.host import data, options, training
from yolo_slim.host.checkpoint import load
from yolo_slim.pruning import criteria
from yolo_slim.pruning.model import build_model
from yolo_slim.pruning.prune import ROUND_TO, prune
from yolo_slim.pruning.recover import PARTS
from yolo_slim.pruning.targets import check_target
from yolo_slim.rounds.plan import plan
from yolo_slim.rounds.report import PICTURE, REPORT, write_report
from yolo_slim.rounds.session import PLAN, SlimSession
from yolo_slim.runs import newest

LAST, MADE = "**/weights/last.pt", {"beside": PLAN, "made_by": "yolo-slim slim"}
OURS = ("macs", "rounds", "criterion", "round_to", "residual", "calib_images")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What slim adds to YOLOv5's options."""
    add = parser.add_argument_group("slimming").add_argument
    add("--macs", type=float, default=0.5, help="share of the MACs that is left in the end, (0, 1]")
    add("--rounds", type=int, default=1, help="cuts, spread over the run")
    text = "how channels are scored (see prune.py --help; default thinet)"
    add("--criterion", default="thinet", help=text)
    text = f"kept channels are multiples of N where a layer is wide enough (default {ROUND_TO})"
    add("--round-to", type=int, metavar="N", default=ROUND_TO, help=text)
    text = "what may be cut around residual adds (default: as suits the criterion)"
    add("--residual", choices=["skip", "inner", "group"], help=text)
    text = "images of the training split that a cut looks at"
    add("--calib-images", type=int, default=128, help=text)


def main(argv: Sequence[str] | None = None) -> Path:
    """Slim; returns the run's folder."""
    opt = options.parse_options(
        argv,
        add=add_options,
        prog="yolo-slim slim",
        description="Train, cut in the middle of the run, recover, train on; then report. Takes "
        "all options of YOLOv5's train.py; --epochs are those of the whole run.",
        weights="",
        data=None,
        imgsz=None,
        project="runs/slim",
    )
    if opt.resume:
        folder = finished(opt)
        if folder:
            return report(folder)
        options.resolve_resume_(opt, **MADE)
        saved = Path(opt.resume).parent.parent / "opt.yaml"
        kept = data.read_mapping(saved, "the options of a run")
        for name in (*OURS, "epochs"):
            setattr(opt, name, kept[name])
    else:
        resolve_defaults_(opt)
        check_options(opt)
    return run(opt)


def check_options(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong before the host starts.

    Raises:
        InputError: an option cannot be used, or the target is out of reach.
    """
    check_target("macs", opt.macs)
    for name in ("rounds", "round_to", "calib_images"):
        if getattr(opt, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}", getattr(opt, name), "1 or more")
    if opt.evolve:
        raise InputError("--evolve", "given", "no evolution: its runs are compared by one model")
    if opt.rounds >= opt.epochs:
        got = f"{opt.rounds} in {opt.epochs} epochs"
        raise InputError("--rounds", got, f"less than the epochs, {opt.epochs - 1} or fewer")
    criteria.find(opt.criterion)
    options.check_common(opt)
    model = load(opt.weights).model if opt.weights else None
    if opt.cfg:
        model = options.check_cfg(opt.cfg, build_model)
    residual = opt.residual or criteria.find(opt.criterion).residual
    prune(  # whatever the scores are, so much has to be within reach
        model,
        macs=opt.macs,
        criterion="first",
        budget="uniform",
        round_to=opt.round_to,
        residual=residual,
        recover=(),
        imgsz=opt.imgsz,
    )


def run(opt: argparse.Namespace) -> Path:
    """Train with the options that `parse_options` returned."""
    weights = opt.resume or opt.weights
    chosen: dict[str, Any] = {name: getattr(opt, name) for name in OURS[2:]}
    session = SlimSession(
        load(weights).model if weights else None,
        plan(opt.epochs, opt.rounds, opt.macs),
        {**chosen, "recover": PARTS},
    )
    return report(training.train(opt, session, build=session.build))


def finished(opt: argparse.Namespace) -> Path | None:
    """The folder of a run that only the report is missing of; None if it is to be resumed."""
    last = Path(opt.resume) if opt.resume is not True else newest(LAST, where="--resume", **MADE)
    folder = last.parent.parent
    if not (folder / PLAN).is_file() or (folder / REPORT).is_file():
        return None
    return folder if load(last).epoch < 0 else None


def report(folder: Path) -> Path:
    """Measure what came of it, and write and print it."""
    print(write_report(folder))
    best = folder / "weights" / "best.pt"
    print(f"{best}, {REPORT}, {PICTURE}")
    print(f"Next: python export.py --weights {best}")
    return folder
