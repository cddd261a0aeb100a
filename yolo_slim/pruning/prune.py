"""`prune`: the road from a model to a pruned one, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils.prune import is_pruned
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.residual import Residual
from yolo_slim.channels.rules import channel_graph, from_outside
from yolo_slim.device.table import DeviceTable
from yolo_slim.errors import InputError, ParityError, as_arguments
from yolo_slim.host import checkpoint
from yolo_slim.host.image import check_model, is_detector, smallest_image
from yolo_slim.host.soundness import check_finite, check_strides_fit
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.budget.choose import (
    Goal,
    achieved,
    check_cuttable,
    check_some_cut,
    choose_masks,
    masks_by_percent,
)
from yolo_slim.pruning.budget.globs import kept_by, shares
from yolo_slim.pruning.budget.goals import goal_of, step_goal, what_is_left
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.spread import Losses, spending, spread_out
from yolo_slim.pruning.budget.target import ROUND_TO, Target
from yolo_slim.pruning.budget.timed import timed_masks
from yolo_slim.pruning.criteria.blocks import block_scores
from yolo_slim.pruning.criteria.plain import loud_share
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.latency import LatencyCut
from yolo_slim.pruning.masks import Masks, Scores, removable, removed_blocks
from yolo_slim.pruning.options import CutOptions
from yolo_slim.pruning.profile import table_here
from yolo_slim.pruning.rebuild.parity import Parity, check_parity
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover.recover import Judge, Recovery, recover_
from yolo_slim.pruning.report import CutReport, Reached, layer_cuts
from yolo_slim.pruning.times import Times
from yolo_slim.weight_masks import baked

Worth = dict[str, float]  # of residual Bottlenecks, see `block_scores`
LOUD = 0.5  # share of the channels that are cut by gammas which say little, for a warning


@dataclass(frozen=True)
class Pruned:
    """What `prune` returns.

    Attributes:
        model: the smaller model: of a detector a ModelPruned, of another model one of its class.
        masks: BN name to bool (C,), True = kept; the prunable BNs. All False for both BNs of a
            residual Bottleneck that went as a whole.
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


@as_arguments()
def prune(
    model: nn.Module,
    percent: float | None = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    size_mb: float | None = None,
    latency: float | None = None,
    device: DeviceTable | str | Path | None = None,
    criterion: str = "bn",
    calibration: Calibration | None = None,
    budget: Literal["global", "uniform", "per-mac"] | Losses | None = None,
    round_to: int = ROUND_TO,
    min_channels: int = 1,
    residual: Residual | None = None,
    depth: bool | None = None,
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
        macs, params, latency: the share that is left, in (0, 1], in place of a percent.
        device: for `latency`, the table of a device, or its file (`yolo-slim profile`); None: one
            of this machine is measured first, with ONNX Runtime.
        size_mb: the size of the checkpoint that is left, 10^6 bytes.
        criterion: how channels are scored, see `criteria`. "bn" is for models that were trained
            sparsely; of others it warns.
        calibration: images for a criterion, or a recovery, that needs them (`calibrate`).
        budget: how the cut spreads over the layers: "global", "uniform", "per-mac" (global, by the
            score over the MACs that a channel takes) or by a sensitivity scan. None: what suits the
            criterion, "global" for most.
        round_to: what a layer keeps is a multiple of it where the layer has at least twice as many
            channels and the target can be met so; 1: no rounding. Runtimes work in such blocks.
        min_channels: each layer keeps at least so many.
        residual: see `channel_graph`; None: what suits the criterion, with `depth` inner or group.
        depth: residual Bottlenecks may go as a whole: the identity stays (see `removable`); None:
            for a latency.
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

    Example:
        >>> from yolo_slim import prune
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> pruned = prune(model.eval(), macs=0.5, criterion="l2", imgsz=64)
        >>> round(pruned.report.after.macs / pruned.report.before.macs, 1), pruned.parity.holds
        (0.5, True)
    """
    check_model(model)
    check_finite(model, "model")
    if calibration is not None and not isinstance(calibration, Calibration):
        got = f"a {type(calibration).__name__}"
        raise InputError("calibration", got, "a Calibration, as calibrate(...) makes it")
    if judge is not None and not callable(judge):
        raise InputError("judge", repr(judge)[:80], "a function of a model")
    target = Target.of(percent=percent, macs=macs, params=params, size_mb=size_mb, latency=latency)
    options = CutOptions(
        target,
        criterion=criterion,
        budget=budget,
        round_to=round_to,
        min_channels=min_channels,
        residual=residual,
        depth=depth,
        keep=keep,
        ratios=ratios or {},
        steps=steps,
        recover=recover,
        device=device,
        imgsz=imgsz,
        threads=threads,
        seed=seed,
    )
    pruned = prune_by(options, model, calibration, judge)
    if criterion == "bn" and (loud := loud_share(model, pruned.masks)) > LOUD:
        text = f"{loud:.0%} of the channels that were cut have gammas far from zero: without a "
        text += "sparse training these say little; criterion='thinet' with calibration images, or "
        warnings.warn(f"{text}'l2' without, keeps more", stacklevel=3)
    return pruned


def prune_by(
    options: CutOptions,
    model: nn.Module,
    calibration: Calibration | None = None,
    judge: Judge | None = None,
    worth: tuple[Scores, Worth] | None = None,
) -> Pruned:
    """`prune`, with its options as one value.

    Args:
        options: how much is cut, and how.
        model, calibration, judge: see `prune`.
        worth: what `Chooser.scored` gave for this model, criterion and images: it is the same for
            every target; None: the model is scored now.
    """
    model = baked(model) if is_pruned(model) else model
    chooser = Chooser(options, model)
    graph = chooser.graph
    scores, blocks = worth or chooser.scored(calibration)
    scores, blocks = step_by_step(options, model, chooser, scores, blocks, calibration)
    masks, times = chooser.choose(scores, blocks)
    if not chooser.excluded and not chooser.ratios:
        check_some_cut(graph, options.target, masks, options.min_channels)
    pruned, parity = cut_and_prove(model, graph, masks, try_own_rules(model, graph))
    recovery = recover_(
        pruned,
        model,
        graph,
        masks,
        options.recover or (),
        calibration,
        judge=judge,
        seed=options.seed,
    )
    looked = options.row.data or recovery.looked
    report = CutReport(
        target=chooser.reached(masks, times),
        achieved=achieved(graph, masks),
        layers=layer_cuts(graph, masks, options.min_channels, chooser.excluded, chooser.ratios),
        unknown=tuple(map(str, graph.unknown)),
        pinned=graph.pins(),
        residual=graph.residual,
        before=chooser.counted.dense,
        after=cost(pruned, chooser.imgsz),
        parity=parity.error,
        criterion=options.criterion,
        budget=chooser.budget_name,
        round_to=times.step if times else options.round_to,
        times=times,
        calibration=calibration.images if calibration and looked else 0,
        recovered=recovery.names,
        removed=removed_blocks(graph, masks),
        bottlenecks=len(graph.branches),
        depth=bool(options.depth),
    )
    if is_detector(model):
        pruned.ancestry.append(lineage(report, model))
    return Pruned(pruned, masks, getattr(pruned, "yaml", {}), parity, report, recovery)


class Chooser:
    """From the scores of a model's channels to masks that meet the target.

    Args:
        options: of the cut.
        model: that is cut; left untouched.

    Attributes:
        graph: its channel graph.
        imgsz: side of the image that costs are counted for, px.
        excluded: BNs that `keep` leaves out.
        ratios: BN name to the share that is to be cut of it.
        counted: what channels cost.
        removable: the residual Bottlenecks that may go as a whole.
    """

    def __init__(self, options: CutOptions, model: nn.Module) -> None:
        self.options, self.model = options, model
        self.graph = channel_graph(model, options.residual or options.row.residual)
        self.imgsz = options.imgsz if is_detector(model) else smallest_image(model)[1]
        check_cuttable(self.graph, options.target)
        self.excluded = kept_by(self.graph, options.keep)
        self.ratios = shares(self.graph, options.ratios)
        held = {*self.excluded, *self.ratios}
        self.removable = removable(self.graph, held) if options.depth else ()
        budget = options.budget
        assert budget is not None
        self.spread: Any = budget if isinstance(budget, str) else budget.losses(self.graph, model)
        self.counted = MaskCost(model, self.graph, self.imgsz)
        self.spent = spending(self.graph, self.counted) if self.spread == "per-mac" else {}

    def scored(self, calibration: Calibration | None) -> tuple[Scores, Worth]:
        """What the channels of the model are worth, and the Bottlenecks that may go."""
        options, model, graph = self.options, self.model, self.graph
        scores = score(model, graph, options.criterion, calibration, options.seed)
        return scores, self.worth_of(model, graph, scores, calibration)

    def worth_of(
        self, model: nn.Module, graph: ChannelGraph, scores: Scores, calibration: Any
    ) -> Worth:
        """What the Bottlenecks that may go are worth besides their channels, see `block_scores`.

        Args:
            model, graph: as it is cut so far; what is gone is worth 0.
            scores: of the channels of that graph.
            calibration: images.
        """
        here = [name for name in self.removable if name in graph.branches]
        options = self.options
        worth = block_scores(
            model,
            graph,
            options.criterion,
            calibration,
            names=here,
            scores=scores,
            seed=options.seed,
        )
        return dict.fromkeys(self.removable, 0.0) | worth

    def masks(self, scores: Scores, worth: Worth, goal: Goal, part: float = 1.0) -> Masks:
        """Masks that meet a goal; `part` is how far the shares of single layers have come."""
        by_score, options = self._how(scores, worth, part)
        return choose_masks(self.graph, by_score, goal, round_to=self.options.round_to, **options)

    def masks_by_time(self, scores: Scores, worth: Worth, share: float, part: float = 1.0) -> Masks:
        """Masks that leave a share of the time; `part` as in `masks`."""
        by_score, options = self._how(scores, worth, part)
        return timed_masks(by_score, self.latency.timed, self.counted, share, **options)

    def _how(self, scores: Scores, worth: Worth, part: float) -> tuple[Scores, dict[str, Any]]:
        """The scores that are compared, and how."""
        by_score = {name: value / self.spent.get(name, 1.0) for name, value in scores.items()}
        inner = {name: self.graph.branches[name].inner for name in worth}
        return by_score, {
            "min_channels": self.options.min_channels,
            "keep": self.excluded,
            "ratios": {name: part * share for name, share in self.ratios.items()},
            "spread": "global" if self.spread == "per-mac" else self.spread,
            "worth": {n: value / self.spent.get(inner[n], 1.0) for n, value in worth.items()},
        }

    @cached_property
    def latency(self) -> LatencyCut:
        """Cuts by time; without a table one of this machine is measured now."""
        options, model = self.options, self.model
        table = options.device
        if not isinstance(table, DeviceTable):
            table = table_here(model, self.imgsz, options.threads, options.table_file)
        return LatencyCut(model, self.graph, table, self.imgsz)

    def step(self, scores: Scores, worth: Worth, part: float) -> Masks:
        """Masks of a step that goes a part of the way, in (0, 1)."""
        options = self.options
        if options.target.name == "latency":
            return self.masks_by_time(scores, worth, options.target.part(part).value, part)
        goal = step_goal(options.target, part, self.graph, self.counted, options.round_to)
        return self.masks(scores, worth, goal, part)

    def choose(self, scores: Scores, worth: Worth | None = None) -> tuple[Masks, Times | None]:
        """Masks that meet the target, and the time if that is the target."""
        target = self.options.target
        worth = dict.fromkeys(self.removable, 0.0) if worth is None else worth
        if target.name != "latency":
            return self.masks(scores, worth, self.goal(target)), None
        if not self.options.measure:
            masks = self.masks_by_time(scores, worth, target.value)
            return masks, self.latency.times(masks)
        return self.latency.cut(partial(self.masks_by_time, scores, worth), target.value)

    def goal(self, target: Target) -> Goal:
        """What a target comes down to."""
        return goal_of(target, self.graph, self.counted, self.options.round_to)

    @property
    def by_layer(self) -> bool:
        """True if each layer has a share of its own, or is excluded."""
        names = (norm.name for norm in self.graph.prunable)
        return bool(self.ratios) and all(n in self.ratios or n in self.excluded for n in names)

    @property
    def budget_name(self) -> str:
        """How the cut spreads, for the report."""
        if self.by_layer:
            return "by layer"
        if self.options.target.name == "latency":
            return "device"
        budget = self.options.budget
        return budget if isinstance(budget, str) else "sensitivity"

    def reached(self, masks: Masks, times: Times | None) -> Reached:
        """The target, and what masks made of it."""
        target, cut = self.options.target, achieved(self.graph, masks)
        if target.name == "percent":
            return Reached(
                target.name, cut if target.implied and self.by_layer else target.value, cut
            )
        left = times.share if times else what_is_left(target, self.graph, self.counted, masks)
        return Reached(target.name, target.value, left)


def step_by_step(
    options: CutOptions,
    model: nn.Module,
    chooser: Chooser,
    scores: Scores,
    worth: Worth,
    calibration: Calibration | None,
) -> tuple[Scores, Worth]:
    """The scores before the last step: after each of the others the model recovers.

    What a step has cut, the next ones cut too; the rest is scored anew.
    """
    graph, steps = chooser.graph, options.steps
    quick = [part for part in options.recover or () if part != "distill"]
    for step in tqdm(range(1, steps), desc="little by little", unit="step", disable=steps == 1):
        masks = chooser.step(scores, worth, step / steps)
        now = rebuild(model, graph, masks)
        recover_(now, model, graph, masks, quick, calibration, seed=options.seed)
        rest = channel_graph(now, graph.residual)
        left = score(now, rest, options.criterion, calibration, options.seed)
        worth = chooser.worth_of(now, rest, left, calibration)
        none = torch.zeros(0)  # of a BatchNorm that is gone with its Bottleneck
        scores = {n.name: spread_out(left.get(n.name, none), masks[n.name]) for n in graph.prunable}
        for branch in (graph.branches[name] for name in removed_blocks(graph, masks)):
            if branch.outer in scores:  # tied to its stream, which stays
                value = torch.zeros(graph.channels, dtype=torch.float64)
                for norm in graph.prunable:
                    value[norm.ids] = scores[norm.name]
                scores[branch.outer] = value[branch.stream]
    return scores, worth


def check_reach(options: CutOptions, model: nn.Module) -> None:
    """See that `prune` can reach a target, whatever the scores are; nothing is cut or measured.

    A latency without a table is known once it is measured: any passes.

    Raises:
        InputError: see `prune`.
    """
    if options.target.name == "latency" and not options.device:
        return
    chooser = Chooser(replace(options, budget="uniform"), model)
    worth = dict.fromkeys(chooser.removable, 0.0)
    chooser.step(score(model, chooser.graph, "first"), worth, 1.0)


def lineage(report: CutReport, model: nn.Module) -> dict[str, Any]:
    """What a checkpoint remembers of a cut."""
    return {
        "percent": report.percent,
        "target": [report.target.name, report.target.requested, report.target.achieved],
        "criterion": report.criterion,
        "residual": report.residual,
        "achieved": report.achieved,
        "removed": list(report.removed),
        "params": [report.before.params, report.after.params],
        "macs": [report.before.macs, report.after.macs],
        "dense_yaml": dict(model.yaml),
    }


def try_own_rules(model: nn.Module, graph: ChannelGraph) -> Sequence[str]:
    """The module types of a model whose rules are a user's, after a trial cut that proves them.

    The cut itself may leave their channels alone, and would then prove nothing.

    Raises:
        ParityError: a rule is wrong.
    """
    types = sorted({type(m).__name__ for m in model.modules() if from_outside(type(m))})
    if types:
        trial = masks_by_percent(graph, score(model, graph, "random"), 0.5)
        cut_and_prove(model, graph, trial, types)
    return types


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
        if is_detector(model):
            check_strides_fit(model, "model")
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

    Example:
        >>> from yolo_slim import load, prune, save
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> file = save(prune(model.eval(), 0.3, criterion="l2", imgsz=64), "pruned.pt")
        >>> type(load(file).model).__name__
        'ModelPruned'
    """
    model = pruned.model if isinstance(pruned, Pruned) else pruned
    check_model(model)
    if not isinstance(path, str | PathLike):
        raise InputError("path", f"{path!r:.80}", "the path of a file to write")
    return checkpoint.save_model(model, path)
