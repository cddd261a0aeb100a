"""train_sparse: YOLOv5's training with the L1 penalty on BatchNorm attached."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.channels.graph import RESIDUAL, Residual
from yolo_slim.errors import InputError
from yolo_slim.host import data, options, training
from yolo_slim.host.checkpoint import load
from yolo_slim.host.tasks import DETECTION, SEGMENTATION, task_of
from yolo_slim.pruning.model import build_heir, build_model
from yolo_slim.pruning.weight_masks import hold_masks
from yolo_slim.sparsify import schedule
from yolo_slim.sparsify.monitor import CSV, SparsityMonitor
from yolo_slim.sparsify.penalty import SparsityPenalty
from yolo_slim.sparsify.readiness import gammas

SR = 0.0002
DEMO_CFG, DEMO_IMGSZ = "cfg/yolov5n.yaml", 160
DEMO_DATA = {DETECTION: "data/shapes.yaml", SEGMENTATION: "data/shapes-seg.yaml"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What train_sparse adds to YOLOv5's options."""
    group = parser.add_argument_group("sparse training")
    group.add_argument("--st", action="store_true", help="train with sparsity: L1 on BatchNorm")
    text = f"strength of the L1 on gamma (default {SR:g})"
    group.add_argument("--sr", type=float, help=text)
    group.add_argument("--bias-sr", type=float, default=None, help="on beta (default 10 * sr)")
    text = "what may be cut around residual adds (group: a group penalty on what is tied); default "
    text += "as in the last cut of a pruned model, or skip"
    group.add_argument("--residual", choices=RESIDUAL, help=text)
    text = "layers that are not penalised, such as model.2 (repeatable)"
    group.add_argument("--keep", action="append", default=[], metavar="GLOB", help=text)
    group.add_argument("--percent", type=float, default=0.6, help="share that is to be cut later")


def main(argv: Sequence[str] | None = None) -> Path:
    """Train; returns the run's folder."""
    opt = options.parse_options(
        argv,
        add=add_options,
        prog="train_sparse.py",
        description="Train YOLOv5 with channel sparsity. Takes all options of YOLOv5's train.py.",
        weights="",
        data=None,
        imgsz=None,
    )
    if opt.resume:
        options.resolve_resume_(opt, beside=CSV, made_by="train_sparse.py --st")
    else:
        resolve_defaults_(opt)
        check_options_(opt)
    return run(opt)


def resolve_defaults_(opt: argparse.Namespace) -> None:
    """The demo data and cfg/yolov5n.yaml where nothing else was given."""
    if opt.imgsz is None:
        opt.imgsz = DEMO_IMGSZ if opt.data is None else 640
    if not opt.cfg and not opt.weights:
        opt.cfg = str(data.shipped(DEMO_CFG))
    if opt.data is None:
        opt.data = str(data.shipped(DEMO_DATA[task_of(opt)]))


def check_options_(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong before the host starts; sets sr and residual.

    Raises:
        InputError: an option cannot be used.
    """
    if not 0 <= opt.percent < 1:
        raise InputError("--percent", opt.percent, "a share in [0, 1)")
    for name, value in (("--sr", opt.sr), ("--bias-sr", opt.bias_sr)):
        if value is not None and not 0 <= value < float("inf"):
            raise InputError(name, value, "a finite number, 0 or more")
    for name in ("sr", "bias_sr", "residual", "keep"):
        if getattr(opt, name) and not opt.st:
            option = f"--{name.replace('_', '-')}"
            raise InputError(option, "given without --st", "--st, which turns the penalty on")
    if opt.st and opt.evolve:
        raise InputError("--evolve", "given with --st", "one of the two")
    options.check_common(opt)
    model = load(opt.weights).model if opt.weights else None
    if opt.cfg:
        model = options.check_cfg(opt.cfg, build_model)
    opt.sr = SR if opt.sr is None else opt.sr
    cuts = getattr(model, "ancestry", None) or [{}]
    opt.residual = opt.residual or cuts[-1].get("residual", "skip")
    if opt.st and model is not None:
        penalty_of(model, opt)


def penalty_of(model: nn.Module, opt: argparse.Namespace) -> SparsityPenalty:
    """The penalty that the options ask for.

    Raises:
        InputError: see `SparsityPenalty`.
    """
    residual: Residual = getattr(opt, "residual", "skip")  # an older run has none
    keep = getattr(opt, "keep", [])
    return SparsityPenalty(model, opt.sr, bias_sr=opt.bias_sr, residual=residual, keep=keep)


def run(opt: argparse.Namespace) -> Path:
    """Train with the options that `parse_options` returned."""
    state: dict[str, Any] = {}

    def on_optimizer(run: training.Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        hold_masks(model, optimizer)
        if not getattr(run.opt, "st", False):
            return
        penalty = penalty_of(model, run.opt).attach(optimizer)
        start = gammas(model, penalty.names)
        state["penalty"] = penalty
        if run.is_main:
            state["start"] = start
            announce(run, penalty, start)

    def on_epoch_start(run: training.Run) -> None:
        if "penalty" in state:
            state["penalty"].progress = run.epoch / run.epochs
            if run.is_main and "monitor" not in state:
                start = state["start"].median().item()
                state["monitor"] = SparsityMonitor(run.folder, state["penalty"], start, run.epoch)

    def on_epoch_end(run: training.Run) -> None:
        if "monitor" in state:
            row = state["monitor"].record(run.ema, run.epoch, run.board)
            training.LOGGER.info(
                f"sparsity: sr {row.sr:.3g}, median |gamma| {row.quantiles[3]:.3g}, "
                f"{row.near_zero:.1%} of prunable channels near zero"
            )

    weights = opt.resume or opt.weights
    folder = training.train(
        opt,
        build=build_heir(load(weights).model if weights else None),
        on_optimizer=on_optimizer,
        on_epoch_start=on_epoch_start,
        on_epoch_end=on_epoch_end,
    )
    if "penalty" in state:
        state["penalty"].detach()
    if "monitor" in state and state["monitor"].history:
        print(f"\n{state['monitor'].finish(opt.percent)}")
        print(f"The distribution of |gamma| over the epochs: {folder / 'sparsity.png'}")
        print(f"Next: python prune.py --weights {folder / 'weights' / 'last.pt'}")
    return folder


def announce(run: training.Run, penalty: SparsityPenalty, start: torch.Tensor) -> None:
    """Say before the first epoch how far this sr can move gamma in this run."""
    hyp, opt = run.hyp, run.opt
    images = len(data.images(data.read_data(opt.data), "train"))
    way = schedule.reach(
        epochs=opt.epochs,
        batches=-(-images // opt.batch_size),
        batch_size=opt.batch_size,
        lr0=hyp["lr0"],
        lrf=hyp["lrf"],
        momentum=hyp["momentum"],
        warmup_epochs=hyp["warmup_epochs"],
        optimizer=opt.optimizer,
    )
    quantile = torch.quantile(start, opt.percent).item()
    text = f"{penalty.sr * way:.2g}" if opt.optimizer == "SGD" else f"{way:.2g}"
    training.LOGGER.info(
        f"sparsity: {len(penalty.names)} BatchNorms, {len(start)} channels, sr {penalty.sr:g}. "
        f"In this run the L1 alone moves a gamma by about {text}; the {opt.percent:.0%} quantile "
        f"of |gamma| is {quantile:.2g}."
    )
    if opt.optimizer == "SGD" and penalty.sr * way < quantile:
        training.LOGGER.warning(
            f"sparsity: too little to make {opt.percent:.0%} of the channels sparse; about --sr "
            f"{schedule.suggest(quantile, way):g} would"
        )
