"""train_sparse: YOLOv5's training with a penalty on BatchNorm that makes channels dispensable."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from yolo_slim.as_called import as_called, named
from yolo_slim.channels.residual import Residual
from yolo_slim.commands.sparse_options import parse
from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping, shipped
from yolo_slim.host import data, options, training
from yolo_slim.host.checkpoint import Checkpoint
from yolo_slim.host.options import task_of
from yolo_slim.host.tasks import DETECTION, SEGMENTATION
from yolo_slim.models import load
from yolo_slim.models.model import build_heir, build_model
from yolo_slim.pruning.budget.target import ROUND_TO, Target
from yolo_slim.resume import refuse_finished, resolve_resume_
from yolo_slim.runs import FINETUNED, checkpoint_to_cut, trained_file
from yolo_slim.sparsify import limits
from yolo_slim.sparsify.ended import untold_verdict
from yolo_slim.sparsify.monitor import CSV, PICTURE
from yolo_slim.sparsify.penalty import SparsityPenalty
from yolo_slim.sparsify.probe import Probe
from yolo_slim.sparsify.readiness import Sparsity
from yolo_slim.sparsify.schedule import REACHED, gain
from yolo_slim.sparsify.session import SparseSession, rates_of
from yolo_slim.sparsify.strategy import Fixed
from yolo_slim.sparsify.strengths import AUTO
from yolo_slim.sparsify.table import read_sparsity
from yolo_slim.sparsify.thinning import Thinning
from yolo_slim.sparsify.trained import trained_percent
from yolo_slim.sparsify.verdict import share_worth_cutting
from yolo_slim.text import counted, fold, say
from yolo_slim.weight_masks import hold_masks

DEMO_CFG, DEMO_IMGSZ = "cfg/yolov5n.yaml", 160
DEMO_DATA = {DETECTION: "data/shapes.yaml", SEGMENTATION: "data/shapes-seg.yaml"}


def main(argv: Sequence[str] | None = None) -> Path:
    """Train; returns the run's folder."""
    opt = parse(argv)
    if opt.resume:
        saved = resolve_resume_(opt, beside="opt.yaml", made_by="sparse")
        if concluded_late(saved):
            return saved.path.parents[1]
        refuse_finished(saved, "sparse")
        asked, opt.st = opt.st, was_sparse(opt.resume)
        if asked and not opt.st:
            raise InputError("--st", "given for a run that began without it", "--resume alone")
    else:
        resolve_defaults_(opt)
        check_options_(opt)
    return run(opt)


def was_sparse(last: str) -> bool:
    """Whether a run that is resumed has a penalty.

    Raises:
        InputError: it is not of this command.
    """
    folder = Path(last).parent.parent
    saved = read_mapping(folder / "opt.yaml", "the options of a run")
    where, expected = f"--resume {last}", f"a run of {named('sparse')}"
    if "st" not in saved:
        raise InputError(where, "no --st in its opt.yaml", expected)
    if (folder / FINETUNED).is_file():
        made_by = f"{named('finetune')} or {named('slim')}, which goes on with it"
        raise InputError(where, f"a run of {made_by}", expected)
    if saved["st"] and not (folder / CSV).is_file():
        raise InputError(where, f"no {CSV} in its run", expected)
    return bool(saved["st"])


def resolve_defaults_(opt: argparse.Namespace) -> None:
    """The demo data and cfg/yolov5n.yaml where nothing else was given."""
    if opt.imgsz is None:
        opt.imgsz = DEMO_IMGSZ if opt.data is None else 640
    if not opt.cfg and not opt.weights:
        opt.cfg = str(shipped(DEMO_CFG))
    if opt.data is None:
        opt.data = str(shipped(DEMO_DATA[task_of(opt)]))


def check_options_(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong before the host starts; sets sr and residual.

    Raises:
        InputError: an option cannot be used.
    """
    if opt.macs is None:
        opt.percent = Target.of(percent=opt.percent).value
    model = options.load_weights_(opt).model if opt.weights else None
    options.check_common(opt, source=model)
    if opt.cfg:
        model = options.check_cfg(opt.cfg, build_model)
    if model is not None:
        options.check_fits(opt, model)
    opt.sr = AUTO if opt.sr is None else opt.sr
    opt.round_to = opt.round_to or ROUND_TO
    cuts = getattr(model, "ancestry", None) or [{}]
    opt.residual = opt.residual or cuts[-1].get("residual", "skip")
    if opt.st and model is not None:
        freeze_(model, opt.freeze)
        limits.check_strength(penalty_of(model, opt), opt)


def freeze_(model: nn.Module, layers: Sequence[int]) -> None:
    """Freeze layers as the host's --freeze does."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not options.is_frozen(name, layers)


def penalty_of(model: nn.Module, opt: argparse.Namespace) -> SparsityPenalty:
    """The penalty that the options ask for.

    Raises:
        InputError: see `SparsityPenalty`.
    """
    residual: Residual = getattr(opt, "residual", "skip")  # an older run has none
    return SparsityPenalty(
        model,
        opt.sr,
        penalty=getattr(opt, "penalty", None),
        percent=opt.percent,
        macs=getattr(opt, "macs", None),
        bias_sr=opt.bias_sr,
        residual=residual,
        keep=getattr(opt, "keep", []),
        round_to=getattr(opt, "round_to", ROUND_TO),
    )


def probe_of(penalty: SparsityPenalty, run: training.Run) -> Probe | None:
    """The quick cuts that the options ask for."""
    if getattr(run.opt, "no_probe", False):
        return None
    return Probe(
        data.read_data(run.opt.data),
        penalty.norms.graph,
        imgsz=run.opt.imgsz,
        percent=penalty.target,
        keep=penalty.norms.excluded,
        round_to=getattr(run.opt, "round_to", ROUND_TO),
    )


class Plain(training.Hooks):
    """A training without a penalty."""

    def on_optimizer(
        self, run: training.Run, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        hold_masks(model, optimizer)


class WithoutSt(Plain):
    """A training of train_sparse.py without --st, which a user may have forgotten: it is told."""

    def finish(self, run: training.Run) -> None:
        if not run.is_main:
            return
        model = ["--weights", trained_file(run.folder), "--data", run.opt.data]
        more = ["--img", run.opt.imgsz, "--epochs", run.opt.epochs]
        again = as_called("sparse", "--st", *model, *more, opt=run.opt)
        cut = as_called("prune", *model, opt=run.opt)
        print("\nTrained without --st: no channel is sparse. A cut looks at images instead, or the")
        print("model is made sparse first, which takes another training.")
        print(f"Next: {cut}\n  or: {again}")


def run(opt: argparse.Namespace) -> Path:
    """Train with the options that `parse_options` returned."""
    if opt.st:
        return train(opt, sparse_session(conclude))
    text = "Without --st this is YOLOv5's own training: it makes no channel sparse."
    training.LOGGER.warning(f"{text} For a sparse training end it (Ctrl-C) and add --st.\n")
    return train(opt, WithoutSt())


def sparse_session(
    conclude: Callable[[training.Run, SparseSession, str], None],
) -> SparseSession:
    """The hooks of a training with the penalty that its options ask for."""
    return SparseSession(penalty_of, probe_of, announce, conclude)


def tell_verdict(folder: Path, verdict: str) -> None:
    """Say how sparse the model of a run has become, and where its picture is."""
    say(f"\n{verdict}")
    say(f"The distribution of |gamma| over the epochs: {folder / PICTURE}")


def conclude(run: training.Run, session: SparseSession, verdict: str) -> None:
    """The last words of train_sparse.py: the verdict, and the step that follows."""
    assert session.penalty is not None and session.monitor is not None
    tell_verdict(run.folder, verdict)
    target, residual = session.penalty.target, session.penalty.norms.graph.residual
    tell_next(run.folder, session.monitor.history, target, residual, run.opt)


def concluded_late(saved: Checkpoint) -> bool:
    """`conclude` a training that is over but was killed before it was; False: it was concluded.

    Args:
        saved: its last.pt.
    """
    folder = saved.path.parents[1]
    verdict = untold_verdict(saved, folder) if saved.epoch < 0 else ""
    if verdict:
        tell_verdict(folder, verdict)
        opt = argparse.Namespace(**{"data": None, **saved.train})
        target, residual = trained_percent(saved), saved.train.get("residual", "skip")
        assert target is not None
        tell_next(folder, read_sparsity(folder / CSV), target, residual, opt)
    return bool(verdict)


def train(opt: argparse.Namespace, hooks: training.Hooks) -> Path:
    """Train a model as its checkpoint, or --cfg, has it; returns the run's folder.

    Without --st, and with a strength by number, the training is YOLOv5's, or the published one.
    """
    weights = opt.resume or opt.weights
    source = load(weights).model if weights else None
    boxes = bool(opt.st) and getattr(opt, "sr", None) == AUTO
    build = build_heir(source, boxes=boxes)
    return training.train(opt, hooks, command="sparse", build=build)


def tell_next(
    folder: Path,
    history: Sequence[Sparsity],
    target: float,
    residual: str,
    opt: argparse.Namespace,
) -> None:
    """Say which cut comes next: that which the training was for, or as much as costs little.

    Args:
        folder: of the training.
        history: epoch by epoch.
        target: the share that was to be cut.
        residual: what was penalised around residual adds.
        opt: the options of the training.
    """
    share = share_worth_cutting(history, target)
    if not share:
        print("A cut of this model is not worth while yet.")
        return
    options = ["--weights", checkpoint_to_cut(folder), "--percent", f"{share:.3g}"]
    options += ["--data", opt.data] if opt.data else []
    options += [] if residual == "skip" else ["--residual", residual]
    print(f"Next: {as_called('prune', *options, opt=opt)}")


def announce(run: training.Run, penalty: SparsityPenalty) -> None:
    """Say before the first epoch what this penalty will do in this run."""
    channels, strategy = sum(penalty.norms.sizes), penalty.strategy
    text = f"\nsparsity: {counted(len(penalty.names), 'BatchNorm')}, "
    text += f"{counted(channels, 'channel')}, "
    if isinstance(strategy, Fixed):
        announce_fixed(run, penalty, strategy, text)
        return
    if isinstance(strategy, Thinning) and strategy.target.name == "macs":
        text += f"as many of them at zero as leave {strategy.target.value:.0%} of the MACs"
    else:
        text += f"{penalty.target:.0%} of them at zero"
    text += f" by epoch {math.ceil(REACHED * run.epochs)} of {run.epochs}, then held"
    training.LOGGER.info(fold(f"{text} (sr auto, {strategy.method})"))


def announce_fixed(run: training.Run, penalty: SparsityPenalty, strategy: Fixed, text: str) -> None:
    """Say what a strength that is a number will do, and warn if it is too small or too large."""
    factor = gain(run.opt.optimizer, run.hyp["momentum"])
    distance = limits.reach_of(strategy, rates_of(run), factor)
    quantile = penalty.norms.flat("weight").abs().quantile(strategy.percent).item()
    text += f"sr {strategy.sr:g} ({strategy.method}). In this run it alone moves a gamma by about "
    text += f"{distance:.2g}; the {strategy.percent:.0%} quantile of |gamma| is {quantile:.2g}."
    training.LOGGER.info(fold(text))
    if distance < quantile:
        text = f"sparsity: too little to make {strategy.percent:.0%} of the channels sparse; "
        training.LOGGER.warning(fold(f"{text}--sr auto finds a strength that does"))
    step = limits.beta_step(strategy, run.hyp)
    if step > limits.BETA_STEP:
        text = f"sparsity: a step of the warm-up moves beta by up to {step:.2g}, which may break "
        text += "the model; --bias-sr sets the strength on beta, 0 leaves it alone"
        training.LOGGER.warning(fold(text))
