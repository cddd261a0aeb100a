"""train_sparse: YOLOv5's training with a penalty on BatchNorm that makes channels dispensable."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from yolo_slim.channels.residual import RESIDUAL, Residual
from yolo_slim.errors import InputError, check_count
from yolo_slim.files import read_mapping, shipped
from yolo_slim.host import data, options, training
from yolo_slim.host.options import task_of
from yolo_slim.host.tasks import DETECTION, SEGMENTATION
from yolo_slim.models import load
from yolo_slim.models.model import build_heir, build_model
from yolo_slim.pruning.budget.target import PERCENT, ROUND_TO, Target
from yolo_slim.resume import resolve_resume_
from yolo_slim.runs import to_cut
from yolo_slim.sparsify import limits
from yolo_slim.sparsify.monitor import CSV, PICTURE
from yolo_slim.sparsify.penalty import AUTO, METHODS, SparsityPenalty, check_strengths
from yolo_slim.sparsify.probe import Probe
from yolo_slim.sparsify.schedule import REACHED, gain
from yolo_slim.sparsify.session import SparseSession, rates_of
from yolo_slim.sparsify.strategy import Fixed
from yolo_slim.sparsify.thinning import Thinning
from yolo_slim.sparsify.verdict import ready
from yolo_slim.weight_masks import hold_masks

DEMO_CFG, DEMO_IMGSZ = "cfg/yolov5n.yaml", 160
DEMO_DATA = {DETECTION: "data/shapes.yaml", SEGMENTATION: "data/shapes-seg.yaml"}
OURS = ("sr", "percent", "macs", "penalty", "bias_sr", "residual", "keep", "round_to", "no_probe")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What train_sparse adds to YOLOv5's options."""
    add = parser.add_argument_group("sparse training").add_argument
    add("--st", action="store_true", help="train with sparsity: a penalty on BatchNorm")
    text = "auto (default): as strong as it takes to have --percent of the channels at zero by "
    text += "three quarters of the run; or a number: strength of the L1 on gamma"
    add("--sr", type=strength, metavar="SR", help=text)
    add("--percent", type=float, help=f"share that is to be cut (default {PERCENT:g})")
    text = "share of the MACs that is to be left, in place of a percent; for --sr auto with prox"
    add("--macs", type=float, help=text)
    text = "prox: soft thresholding after the step (default with --sr auto); l1: its gradient "
    text += "before the step, decaying (default with a number)"
    add("--penalty", choices=METHODS, help=text)
    text = "strength on beta; 0: beta is left alone (default: l1 10 * sr, prox falls with gamma)"
    add("--bias-sr", type=float, help=text)
    text = "what may be cut around residual adds (group: a group penalty on what is tied); default "
    text += "as in the last cut of a pruned model, or skip"
    add("--residual", choices=RESIDUAL, help=text)
    text = "layers that are not penalised, such as model.2 (repeatable)"
    add("--keep", action="append", default=[], metavar="GLOB", help=text)
    text = f"as of prune.py, for --sr auto with prox (default {ROUND_TO})"
    add("--round-to", type=int, metavar="N", help=text)
    text = "no quick cuts on validation images (they take up to 3%% of the time)"
    add("--no-probe", action="store_true", help=text)


def strength(text: str) -> float | str:
    """A number, or auto."""
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number or auto") from error


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
        for name in given(opt):
            raise InputError(name, "given with --resume", "the options of the run that goes on")
        beside = CSV if opt.resume is True else "opt.yaml"
        resolve_resume_(opt, beside=beside, made_by="train_sparse.py")
        opt.st = was_sparse(opt.resume)
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
    if "st" not in saved:
        raise InputError(f"--resume {last}", "no --st in its opt.yaml", "a run of train_sparse.py")
    if saved["st"] and not (folder / CSV).is_file():
        raise InputError(f"--resume {last}", f"no {CSV} in its run", "a run of train_sparse.py")
    return bool(saved["st"])


def given(opt: argparse.Namespace) -> list[str]:
    """Those of our options that were given."""
    values = {name: getattr(opt, name) for name in OURS}
    unset = [n for n, v in values.items() if v is None or v is False or v == []]
    return [f"--{name.replace('_', '-')}" for name in OURS if name not in unset]


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
    check_strengths(opt.sr, opt.bias_sr, "--")
    for name in () if opt.st else given(opt):
        raise InputError(name, "given without --st", "--st, which turns the penalty on")
    if opt.macs is None:
        opt.percent = Target.of(percent=opt.percent).value
    if opt.st and opt.evolve:
        why = "one of the two: evolution compares runs by an mAP that sparsity holds down"
        raise InputError("--evolve", "given with --st", why)
    if opt.round_to is not None:
        check_count("--round-to", opt.round_to)
    options.check_common(opt)
    model = load(opt.weights).model if opt.weights else None
    if opt.cfg:
        model = options.check_cfg(opt.cfg, build_model)
    opt.sr = AUTO if opt.sr is None else opt.sr
    opt.round_to = opt.round_to or ROUND_TO
    cuts = getattr(model, "ancestry", None) or [{}]
    opt.residual = opt.residual or cuts[-1].get("residual", "skip")
    if opt.st and model is not None:
        freeze_(model, opt.freeze)
        limits.check_strength(penalty_of(model, opt), opt)


def freeze_(model: nn.Module, layers: Sequence[int]) -> None:
    """Freeze layers as the host's --freeze does: one number those before it, several these."""
    chosen = layers if len(layers) > 1 else range(layers[0])
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(name.startswith(f"model.{i}.") for i in chosen)


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
    if getattr(run.opt, "no_probe", False) or run.opt.single_cls:  # its labels are the data's
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
    """A training without --st."""

    def on_optimizer(
        self, run: training.Run, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        hold_masks(model, optimizer)


def run(opt: argparse.Namespace) -> Path:
    """Train with the options that `parse_options` returned."""
    return train(opt, sparse_session(conclude) if opt.st else Plain())


def sparse_session(
    conclude: Callable[[training.Run, SparseSession, str], None],
) -> SparseSession:
    """The hooks of a training with the penalty that its options ask for."""
    return SparseSession(penalty_of, probe_of, announce, conclude)


def tell_verdict(run: training.Run, session: SparseSession, verdict: str) -> None:
    """Say how sparse the model has become, and where its picture is."""
    print(f"\n{verdict}")
    print(f"The distribution of |gamma| over the epochs: {run.folder / PICTURE}")


def conclude(run: training.Run, session: SparseSession, verdict: str) -> None:
    """The last words of train_sparse.py: the verdict, and the step that follows."""
    tell_verdict(run, session, verdict)
    step = next_step(session, run.folder)
    print(f"Next: {step}" if step else "A cut of this model is not worth while yet.")


def train(opt: argparse.Namespace, hooks: training.Hooks) -> Path:
    """Train a model as its checkpoint, or --cfg, has it; returns the run's folder.

    Without --st, and with a strength by number, the training is YOLOv5's, or the published one.
    """
    weights = opt.resume or opt.weights
    source = load(weights).model if weights else None
    boxes = bool(opt.st) and getattr(opt, "sr", None) == AUTO
    return training.train(opt, hooks, build=build_heir(source, boxes=boxes))


def next_step(session: SparseSession, folder: Path) -> str:
    """The cut that the training was for, or as much of it as costs little; empty for none."""
    assert session.penalty is not None and session.monitor is not None
    share = ready(session.monitor.history, session.penalty.target)
    if not share:
        return ""
    weights = to_cut(folder)
    text = f"python prune.py --weights {weights} --percent {share:.3g}"
    text += f" --data {load(weights).train['data']}"
    residual = session.penalty.norms.graph.residual
    return text if residual == "skip" else f"{text} --residual {residual}"


def announce(run: training.Run, penalty: SparsityPenalty) -> None:
    """Say before the first epoch what this penalty will do in this run."""
    channels, strategy = sum(penalty.norms.sizes), penalty.strategy
    text = f"\nsparsity: {len(penalty.names)} BatchNorms, {channels} channels, "
    if isinstance(strategy, Fixed):
        announce_fixed(run, penalty, strategy, text)
        return
    if isinstance(strategy, Thinning) and strategy.macs is not None:
        text += f"as many of them at zero as leave {strategy.macs:.0%} of the MACs"
    else:
        text += f"{penalty.target:.0%} of them at zero"
    text += f" by epoch {math.ceil(REACHED * run.epochs)} of {run.epochs}, then held"
    training.LOGGER.info(f"{text} (sr auto, {strategy.method})")


def announce_fixed(run: training.Run, penalty: SparsityPenalty, strategy: Fixed, text: str) -> None:
    """Say what a strength that is a number will do, and warn if it is too small or too large."""
    factor = gain(run.opt.optimizer, run.hyp["momentum"])
    way = limits.reach_of(strategy, rates_of(run), factor)
    quantile = penalty.norms.flat("weight").abs().quantile(strategy.percent).item()
    training.LOGGER.info(
        f"{text}sr {strategy.sr:g} ({strategy.method}). In this run it alone moves a gamma by about "
        f"{way:.2g}; the {strategy.percent:.0%} quantile of |gamma| is {quantile:.2g}."
    )
    if way < quantile:
        training.LOGGER.warning(
            f"sparsity: too little to make {strategy.percent:.0%} of the channels sparse; --sr auto "
            f"finds a strength that does"
        )
    step = limits.beta_step(strategy, run.hyp)
    if step > limits.BETA_STEP:
        training.LOGGER.warning(
            f"sparsity: a step of the warm-up moves beta by up to {step:.2g}, which may break the "
            f"model; --bias-sr sets the strength on beta, 0 leaves it alone"
        )
