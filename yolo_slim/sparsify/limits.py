"""What a penalty can do in a run, known before the run starts."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping

from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping
from yolo_slim.host import data
from yolo_slim.pruning.budget.choose import achieved
from yolo_slim.sparsify.penalty import SparsityPenalty
from yolo_slim.sparsify.schedule import gain, learning_rates, reach
from yolo_slim.sparsify.strategy import Fixed
from yolo_slim.sparsify.thinning import Thinning
from yolo_slim.sparsify.verdict import SLACK

BETA_STEP = 0.1  # a step that moves beta by more than this is warned of


def check_strength(penalty: SparsityPenalty, opt: argparse.Namespace) -> None:
    """See that the penalty can do in this run what it is there for, and leaves a model.

    Args:
        penalty: of the model as it will be trained: frozen layers need no gradient.
        opt: the options of the run.

    Raises:
        InputError: all of its BNs are frozen; with "auto" a share that --keep and --freeze do not
            leave; or an sr that takes every gamma to zero and beyond.
    """
    norms = penalty.norms
    if not any(norms.trained):
        raise InputError("--freeze", "given with --st for all prunable layers", "some that train")
    strategy = penalty.strategy
    if isinstance(strategy, Thinning):
        check_reach(strategy)
    if not isinstance(strategy, Fixed) or not strategy.sr:
        return
    if strategy.method == "l1" and opt.optimizer != "SGD":
        return
    hyp = read_mapping(opt.hyp, "hyperparameters")
    size = opt.batch_size if opt.batch_size > 0 else 16
    images = len(data.images(data.read_data(opt.data), "train"))
    rates = learning_rates(
        hyp, epochs=opt.epochs, batches=-(-images // size), batch_size=size, cosine=opt.cos_lr
    )
    distance = reach(rates, gain(opt.optimizer, hyp["momentum"]))
    largest = norms.flat("weight").abs().max().item()
    most = largest / max(distance, 1e-12)
    if strategy.sr > most:
        text = f"at most {floor(most):g}: in this run more takes every gamma to zero"
        raise InputError("--sr", f"{strategy.sr:g}", text)


def check_reach(auto: Thinning) -> None:
    """See that so much can be cut.

    Raises:
        InputError: --keep, --freeze or the floor do not leave it.
    """
    try:
        most = achieved(auto.norms.graph, auto.masks(round_to=1))
    except InputError as error:
        if auto.target.name == "macs":
            raise
        raise too_much(auto, error.parts[2]) from error
    if auto.target.name == "percent" and most < auto.percent - SLACK:
        raise too_much(auto, f"at most {floor(most):g}")


def too_much(auto: Thinning, expected: str) -> InputError:
    """The error for a share that cannot be cut."""
    got = f"{auto.percent:g}, more than --keep, --freeze and one channel a layer leave"
    return InputError("--percent", got, expected)


def reach_of(strategy: Fixed, rates: Iterable[tuple[float, float]], factor: float) -> float:
    """How far a penalty with a fixed sr moves a gamma in a run, if nothing else does.

    Under Adam the L1's subgradient moves it by a learning rate a step, whatever sr is.

    Args:
        strategy: of the penalty.
        rates: of the run, see `learning_rates`.
        factor: see `gain`.
    """
    distance = reach(rates, factor)
    return distance if strategy.method == "l1" and factor == 1 else strategy.sr * distance


def floor(value: float, digits: int = 2) -> float:
    """A number above 0, down to so many digits."""
    step = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return math.floor(value / step) * step


def beta_step(strategy: Fixed, hyp: Mapping[str, float]) -> float:
    """How far a penalty with a fixed sr moves a beta in one step of the warm-up."""
    return strategy.bias_strength * max(hyp["warmup_bias_lr"], hyp["lr0"])
