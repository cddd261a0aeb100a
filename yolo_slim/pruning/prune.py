"""`prune`: the road from a model to a pruned one, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torch.nn.utils.prune import is_pruned
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.residual import Residual
from yolo_slim.channels.rules import channel_graph, from_outside
from yolo_slim.errors import InputError, ParityError
from yolo_slim.host import checkpoint
from yolo_slim.host.image import is_detector, smallest_image
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.budget.choose import (
    DEFAULT,
    ROUND_TO,
    Goal,
    achieved,
    check_percent,
    choose_masks,
)
from yolo_slim.pruning.budget.globs import kept_by, shares
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.spread import Losses, spending, spread_out
from yolo_slim.pruning.budget.targets import Target, check_target, goal_of, option
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.criteria.table import find
from yolo_slim.pruning.latency import search_latency
from yolo_slim.pruning.masks import Masks, Scores, keep_vector
from yolo_slim.pruning.rebuild.parity import Parity, check_parity
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover.recover import Judge, Recovery, check_parts, recover_
from yolo_slim.pruning.report import CutReport, layer_cuts
from yolo_slim.weight_masks import baked


@dataclass(frozen=True)
class Pruned:
    """What `prune` returns.

    Attributes:
        model: the smaller model: of a detector a ModelPruned, of another model one of its class.
        masks: BN name to bool (C,), True = kept; the prunable BNs.
        yaml: the yaml that builds it; empty for a model that is no YOLOv5.
        parity: the proof that it computes what the masked model computes; taken before recovery.
        report: what was asked and what came of it; prints itself as tables.
        recovery: what was done after the cut, and what each part of it brought.
    """

    model: Any
    masks: Masks
    yaml: dict[str, Any]
    parity: Parity
    report: CutReport
    recovery: Recovery = Recovery()


def prune(
    model: nn.Module,
    percent: float | None = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    size_mb: float | None = None,
    latency: float | None = None,
    criterion: str = "bn",
    calibration: Calibration | None = None,
    budget: Literal["global", "uniform", "per-mac"] | Losses | None = None,
    round_to: int = ROUND_TO,
    min_channels: int = 1,
    residual: Residual | None = None,
    keep: Sequence[str] = (),
    ratios: Mapping[str, float] | None = None,
    steps: int = 1,
    recover: Sequence[str] | None = None,
    judge: Judge | None = None,
    imgsz: int = 640,
    threads: int = 2,
    seed: int = 0,
) -> Pruned:
    """Cut the channels that matter least.

    Args:
        model: a YOLOv5 detector, as from `load(...).model`, or another model that has a rule (see
            `channel_graph`); left untouched.
        percent: share of the prunable BN channels to cut, in [0, 1). None: 0.6, or what `ratios`
            add up to where they name every layer, or another target.
        macs, params, latency: the share that is left, in (0, 1], in place of a percent; latency is
            measured with ONNX Runtime on this machine.
        size_mb: the size of the checkpoint that is left, 10^6 bytes.
        criterion: how channels are scored, see `criteria`.
        calibration: images for a criterion, or a recovery, that needs them (`calibrate`).
        budget: how the cut spreads over the layers: "global", "uniform", "per-mac" (global, by the
            score over the MACs that a channel takes) or by a sensitivity scan. None: what suits the
            criterion, "global" for most.
        round_to: what a layer keeps is a multiple of it where the layer has at least twice as many
            channels and the target can be met so; 1: no rounding. Runtimes work in such blocks.
        min_channels: each layer keeps at least so many.
        residual: see `channel_graph`; None: what suits the criterion.
        keep: globs over BN and module names ("model.2", "model.*.cv1.bn"): never cut.
        ratios: glob to the share that is cut of each BN that it matches.
        steps: the cut comes little by little: after each step the model recovers, and is scored
            anew.
        recover: what is done after the cut, see `recover_`: "constants" (what cut channels still
            send), "weights" (least squares of the convs that lost inputs), "statistics" (of the
            BNs). None: what belongs to the criterion, for most the constants, which need no images.
        judge: a model to its accuracy: measured after each part, which is undone where mAP falls.
        imgsz: side of the image, px, that MACs and latency are for.
        threads: of ONNX Runtime, for `latency`.
        seed: of a criterion that draws.

    Raises:
        InputError: an argument is out of range, a target cannot be reached, or calibration images
            are missing.
        ParityError: the result does not compute what it should: nothing is returned.
    """
    wish = wished(percent, macs, params, size_mb, latency)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError("--steps", steps, "1 or more")
    how = find(criterion)
    model = baked(model) if is_pruned(model) else model
    parts = check_parts(how.recover if recover is None else recover)
    graph = channel_graph(model, residual or how.residual)
    imgsz = imgsz if is_detector(model) else smallest_image(model)[1]
    held, own = kept_by(graph, keep), shares(graph, ratios or {})
    budget = how.spread if budget is None else budget
    spread = budget if isinstance(budget, str) else budget.losses(graph, model)
    counted = MaskCost(model, graph, imgsz)
    spent = spending(graph, counted) if spread == "per-mac" else {}

    def choose(scores: Scores, target: float | Goal | None, part: float = 1.0) -> Masks:
        return choose_masks(
            graph,
            {name: value / spent.get(name, 1.0) for name, value in scores.items()},
            target,
            min_channels=min_channels,
            keep=held,
            ratios={name: part * share for name, share in own.items()},
            round_to=round_to,
            spread="global" if spread == "per-mac" else spread,
        )

    scores = score(model, graph, criterion, calibration, seed)
    for step in tqdm(range(1, steps), desc="little by little", unit="step", disable=steps == 1):
        masks = choose(scores, on_the_way(wish, step / steps, counted), step / steps)
        now = rebuild(model, graph, masks)
        quick = [part for part in parts if part != "distill"]
        recover_(now, model, graph, masks, quick, calibration, seed=seed)
        left = score(now, channel_graph(now, graph.residual), criterion, calibration, seed)
        scores = {name: spread_out(left[name], mask) for name, mask in masks.items()}
    measured = None
    if wish is None or wish[0] == "percent":
        masks = choose(scores, percent)
    elif wish[0] == "latency":
        masks, measured = search_latency(
            model,
            graph,
            lambda share: choose(scores, goal_of("macs", share, counted)),
            wish[1],
            imgsz=imgsz,
            threads=threads,
        )
    else:
        masks = choose(scores, goal_of(*wish, counted))
    own_rules = sorted({type(m).__name__ for m in model.modules() if from_outside(type(m))})
    if own_rules:  # what this cut leaves alone proves nothing about them
        trial = choose_masks(graph, score(model, graph, "random"), 0.5)
        cut_and_prove(model, graph, trial, own_rules)
    pruned, parity = cut_and_prove(model, graph, masks, own_rules)
    recovery = recover_(pruned, model, graph, masks, parts, calibration, judge=judge, seed=seed)
    cut = achieved(graph, masks)
    named = bool(own) and all(n.name in own or n.name in held for n in graph.prunable)
    if wish is None:
        wish = "percent", cut if named else DEFAULT
    got = measured if measured is not None else reached(wish[0], counted, graph, masks)
    report = CutReport(
        target=Target(*wish, got),
        achieved=cut,
        layers=layer_cuts(graph, masks, min_channels, held, own),
        unknown=tuple(map(str, graph.unknown)),
        residual=graph.residual,
        before=cost(model, imgsz),
        after=cost(pruned, imgsz),
        parity=parity.error,
        criterion=criterion,
        budget="by layer" if named else budget if isinstance(budget, str) else "sensitivity",
        round_to=round_to,
        calibration=calibration.images if calibration and (how.data or recovery.looked) else 0,
        recovered=recovery.names,
    )
    if is_detector(model):
        pruned.ancestry.append(lineage(report, model))
    return Pruned(pruned, masks, getattr(pruned, "yaml", {}), parity, report, recovery)


def check_reach(
    model: nn.Module,
    wish: tuple[str, float] | None,
    *,
    residual: Residual,
    round_to: int = ROUND_TO,
    min_channels: int = 1,
    keep: Sequence[str] = (),
    ratios: Mapping[str, float] | None = None,
    imgsz: int = 640,
) -> None:
    """See that `prune` can reach a target, whatever the scores are; nothing is cut or measured.

    Args:
        wish: of `wished`. A latency is known once it is measured: any passes.
        model, residual, round_to, min_channels, keep, ratios, imgsz: see `prune`.

    Raises:
        InputError: see `prune`.
    """
    if wish is not None and wish[0] == "latency":
        return
    graph = channel_graph(model, residual)
    counted = MaskCost(model, graph, imgsz)
    choose_masks(
        graph,
        score(model, graph, "first"),
        on_the_way(wish, 1.0, counted),
        min_channels=min_channels,
        keep=kept_by(graph, keep),
        ratios=shares(graph, ratios or {}),
        round_to=round_to,
        spread="uniform",
    )


def on_the_way(
    wish: tuple[str, float] | None, part: float, counted: MaskCost
) -> float | Goal | None:
    """The target of a step: a part of the way to the wish, in [0, 1]; latency goes by MACs."""
    if wish is None or wish[0] == "percent":
        return None if wish is None else wish[1] * part
    if wish[0] == "size_mb":
        whole = counted.size(counted.everything) / 1e6
        return goal_of("size_mb", whole + (wish[1] - whole) * part, counted)
    name = "macs" if wish[0] == "latency" else wish[0]
    return goal_of(name, 1 - (1 - wish[1]) * part, counted)


def wished(
    percent: float | None, macs: Any, params: Any, size_mb: Any, latency: Any
) -> tuple[str, float] | None:
    """The one target that is given, checked; None if none is.

    Raises:
        InputError: it is out of range, or there are two.
    """
    targets = {"macs": macs, "params": params, "size_mb": size_mb, "latency": latency}
    given = {name: value for name, value in targets.items() if value is not None}
    if percent is not None:
        given = {"percent": percent, **given}
    if len(given) > 1:
        first, second, *_ = map(option, given)
        raise InputError(second, f"given besides {first}", "one target")
    for name, value in given.items():
        return name, check_percent(value) if name == "percent" else check_target(name, value)
    return None


def reached(name: str, counted: MaskCost, graph: ChannelGraph, masks: Masks) -> float:
    """What masks leave, in the unit of a target; of a percent what they cut."""
    if name == "percent":
        return achieved(graph, masks)
    goal = goal_of(name, 1.0, counted)
    return goal.left(keep_vector(graph, masks)) / goal.unit


def lineage(report: CutReport, model: nn.Module) -> dict[str, Any]:
    """What a checkpoint remembers of a cut."""
    return {
        "percent": report.percent,
        "target": [report.target.name, report.target.requested, report.target.achieved],
        "criterion": report.criterion,
        "residual": report.residual,
        "achieved": report.achieved,
        "params": [report.before.params, report.after.params],
        "macs": [report.before.macs, report.after.macs],
        "dense_yaml": dict(model.yaml),
    }


def cut_and_prove(
    model: nn.Module, graph: ChannelGraph, masks: Masks, own_rules: Sequence[str] = ()
) -> tuple[Any, Parity]:
    """Rebuild a model and compare it with the masked one.

    Args:
        model, graph, masks: see `rebuild`.
        own_rules: the types in it whose rules are a user's: to be named if it fails.

    Raises:
        ParityError: it does not compute what it should.
    """
    suspect = f"; is the rule of {' or '.join(own_rules)} right?" if own_rules else ""
    try:
        pruned = rebuild(model, graph, masks)
        parity = check_parity(model, pruned, graph, masks)
    except InputError:
        raise
    except Exception as error:  # a wrong rule may end in any
        if not own_rules:
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise ParityError(f"the pruned model cannot be run ({text}){suspect}") from error
    if not parity.holds:
        raise ParityError(f"the pruned model differs from the masked one: {parity}{suspect}")
    return pruned, parity


def save(pruned: Pruned | nn.Module, path: str | Path) -> Path:
    """Write a checkpoint that every command of yolo_slim, and the host within it, opens.

    The weights are stored in half precision where that loses nothing (a checkpoint that YOLOv5
    finished is half already), else in float32. The file is written aside and renamed.

    Args:
        pruned: what `prune` returned, or a model.
        path: the file.

    Raises:
        InputError: the file cannot be written; an old one stays whole.
    """
    model = pruned.model if isinstance(pruned, Pruned) else pruned
    return checkpoint.save_model(model, path)
