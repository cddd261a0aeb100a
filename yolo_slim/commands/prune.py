"""prune: cut the channels that matter least and rebuild the detector with what survives."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.as_called import as_called, named
from yolo_slim.commands.prune_options import check, parse, read_shares, wanted
from yolo_slim.errors import InputError
from yolo_slim.packages import MAKERS, TIMED, check_imports
from yolo_slim.pruning.budget.ratios import parse_ratio
from yolo_slim.pruning.budget.target import MACS, ROUND_TO, Target
from yolo_slim.pruning.criteria.table import AUTO, BUDGETS, find
from yolo_slim.pruning.recover.table import ALL, PARTS, check_parts, parse_parts
from yolo_slim.runs import (
    new_run,
    newer_plain_run,
    record_call,
    removed_if_empty,
    sparse_run,
    tell_taken,
)
from yolo_slim.text import counted, say

if TYPE_CHECKING:
    from yolo_slim.channels.residual import Residual
    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.host.evaluate import Accuracy
    from yolo_slim.pruning.options import CutOptions
    from yolo_slim.pruning.prune import Pruned
    from yolo_slim.pruning.recover.recover import Judge

WHY = {  # of each that --criterion auto may take
    "bn": "trained with --st; the channels that it brought down",
    "thinet": "not trained with --st; what the next layers miss least on your images",
    "obs": "not trained with --st, a small cut; what other channels can best stand in for",
    "l2": "not trained with --st, and no --data: the smallest filters; --data keeps far more mAP",
}


def needs_of(opt: argparse.Namespace) -> tuple[str, ...]:
    """The packages that a cut is made with: by time, it is exported, and timed without a table."""
    if opt.latency is None:
        return ("onnx",)
    return MAKERS if opt.table else TIMED


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Prune; returns the run's folder, None with --dry-run."""
    opt = parse(argv)
    check(opt)
    check_imports(named("prune"), needs_of(opt))
    weights = opt.weights or sparse_run(where="--weights")
    if not opt.weights:
        tell_taken("of the newest training with --st", Path(weights))
    if not opt.weights and (newer := newer_plain_run(Path(weights))):
        advice = f"--weights {shlex.quote(str(newer))} cuts it"
        print(f"Skipped: {newer.parent.parent} is newer, but was trained without --st; {advice}.")
    plan = settle(opt, Path(weights))
    tell(plan)
    if opt.dry_run:
        tell_dry_run(plan, cut(opt, plan), layers=opt.layers)
        return None
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    with removed_if_empty(folder):
        judge = judge_of(opt, plan)
        dense = measured(opt, plan, judge) if judge else {}
        pruned = cut(opt, plan, judge)
        report = write(folder, opt, plan, pruned, dense | steps_of(pruned))
        record_call(folder)
    if opt.layers:
        print(pruned.report.layer_table())
    tell_result(folder, plan, pruned, report["text"])
    if not opt.no_page:
        from yolo_slim.page.write import leave_page

        leave_page(folder, device=opt.device)
    tell_next(folder, plan)
    return folder


@dataclass(frozen=True)
class Plan:
    """A cut, settled: all that follows from the options, the model and the data.

    Attributes:
        source: the checkpoint; its model has a head for the classes of the data.
        options: of the cut.
        chosen: the criterion was chosen here.
        data: what the model is validated on, and looked at; None: nothing.
        data_file: its yaml.
        renewed: the model had other classes than the data.
        labels: the labels of the images say what the model should.
        recorded: the options as they were settled, for report.json.
    """

    source: Checkpoint
    options: CutOptions
    chosen: bool
    data: dict[str, Any] | None
    data_file: str | None
    renewed: bool
    labels: bool
    recorded: Mapping[str, Any]


def settle(opt: argparse.Namespace, weights: Path) -> Plan:
    """Load the model, choose what was not given, and refuse what cannot be done.

    Raises:
        InputError: model, data and options do not fit together, or the target is out of reach.
    """
    from dataclasses import replace

    from yolo_slim.device.table import read_table
    from yolo_slim.host.data import check_data, check_labels, labelled
    from yolo_slim.host.evaluate import check_device
    from yolo_slim.host.head import with_classes
    from yolo_slim.host.image import check_rgb
    from yolo_slim.host.tasks import SEGMENTATION, task_of_model
    from yolo_slim.host.trained_with import classes_of, imgsz_of
    from yolo_slim.models import load
    from yolo_slim.pruning.automatic import criterion_for
    from yolo_slim.pruning.options import CutOptions
    from yolo_slim.pruning.prune import check_reach

    check_device(opt.device)
    source = load(weights)
    check_rgb(source.model, weights)
    sparse, ratios = bool(source.train.get("st")), read_shares(opt)
    data_file, criterion = opt.data or data_of(opt, source), opt.criterion
    chosen = criterion == AUTO
    if chosen:
        criterion = "bn" if sparse else "thinet" if data_file else "l2"
    row, parts = find(criterion), parse_parts(opt.recover)
    fits = [p for p in check_parts(row.recover if parts is None else parts) if PARTS[p].data]
    looks = row.data or bool(fits)
    if looks and not data_file:
        asked = f"--criterion {criterion}" if row.data else f"--recover {fits[0]}"
        raise InputError(asked, "no calibration images", "--data, whose training split has some")
    table = read_table(opt.table) if opt.table else None
    imgsz = imgsz_of(source, opt.imgsz or (table.imgsz if table else None))
    check_globs(opt, source, ratios)

    splits = ("train",) * looks + ("val",) * (not opt.dry_run)
    bound = row.labels or sparse  # what a sparse training made is of its classes
    classes = classes_of(source) if bound else None
    data = check_data(data_file, classes, splits) if data_file and splits else None
    if data is not None:
        single, outlines = classes_of(source) is None, task_of_model(source.model) is SEGMENTATION
        needed = ("train",) if row.labels and looks else ()
        check_labels(data, splits, single_cls=single, outlines=outlines, needed=needed)
        if looks and not needed and not labelled(data):
            text = f"no image in {data['train']} has a label: a cut by {criterion} needs none"
            say(f"train: {text}, a training does.")
    renewed = data is not None and classes_of(source) not in (None, len(data["names"]))
    if data is not None and renewed:
        model = with_classes(source.model, data["names"], seed=opt.seed)
        source = replace(source, model=model, names=data["names"])

    target = target_of(opt, source, criterion, chosen=chosen, by_layer=bool(ratios))
    if chosen and row.data and data is not None and not renewed:
        criterion = criterion_for(source.model, target, labelled(data))
        if parts is None and not opt.dry_run:
            parts = ALL  # mAP is measured after each part, and says what helps
    if opt.dry_run and parts is not None:
        parts = tuple(part for part in parts if part != "distill")
    options = CutOptions(
        target,
        criterion=criterion,
        budget=budget_of(opt),
        round_to=opt.round_to or trained_round_to(source) or ROUND_TO,
        min_channels=opt.min_channels,
        residual=residual_of(opt, source),
        depth=opt.depth,
        keep=opt.keep,
        ratios=ratios,
        steps=opt.steps,
        recover=parts,
        device=table,
        imgsz=imgsz,
        threads=opt.threads or CutOptions.threads,
        seed=opt.seed,
    )
    if looks or opt.table:  # what is out of reach is refused before images are looked at
        check_reach(options, source.model)
    settled = {"criterion": criterion, "data": data_file, "round_to": options.round_to}
    settled["residual"] = residual_of(opt, source)
    settled |= {} if target.implied else {target.name: target.value}
    recorded = {k: v for k, v in {**vars(opt), **settled}.items() if v is not None}
    return Plan(source, options, chosen, data, data_file, renewed, not renewed, recorded)


def data_of(opt: argparse.Namespace, source: Checkpoint) -> str | None:
    """The data of a model's training, where a criterion may want it and it is on this machine."""
    row = None if opt.criterion == AUTO else find(opt.criterion)
    if source.train.get("st") or (row and (not row.data or row.labels)):
        return None
    known = source.train.get("data")
    return str(known) if known and Path(str(known)).is_file() else None


def residual_of(opt: argparse.Namespace, source: Checkpoint) -> Residual | None:
    """What may be cut around residual adds: as given, or as in the training, if that lets
    Bottlenecks go where they may; None: as suits the criterion.
    """
    trained: Residual | None = source.train.get("residual") if source.train.get("st") else None
    return opt.residual or (None if opt.depth and trained == "skip" else trained)


def target_of(
    opt: argparse.Namespace,
    source: Checkpoint,
    criterion: str,
    *,
    chosen: bool,
    by_layer: bool,
) -> Target:
    """What is asked for, or else what suits the model: what a sparse training aimed at, or half of
    the MACs."""
    from yolo_slim.sparsify.trained import trained_percent

    target = wanted(opt)
    if not target.implied or by_layer:
        return target
    if criterion == "bn" and source.train.get("st"):
        percent = trained_percent(source)
        return target if percent is None else Target("percent", percent)
    return Target("macs", MACS) if chosen and opt.budget is None else target


def trained_round_to(source: Checkpoint) -> int | None:
    """What the layers' channels are multiples of after a sparse training."""
    # A training with --macs has chosen how many channels of each layer are zero, to the channel.
    return 1 if source.train.get("macs") is not None else source.train.get("round_to")


def budget_of(opt: argparse.Namespace) -> Any:
    """How the cut spreads: a name, a scan, or None.

    Raises:
        InputError: the csv is no scan.
    """
    if opt.budget in (None, *BUDGETS):
        return opt.budget
    if Path(opt.budget).suffix != ".csv":
        return None
    from yolo_slim.sensitivity.run import read_scan

    return read_scan(Path(opt.budget))


def check_globs(opt: argparse.Namespace, source: Checkpoint, ratios: Mapping[str, float]) -> None:
    """See that the globs of a --budget that is a yaml name layers.

    Raises:
        InputError: one matches nothing.
    """
    if opt.budget in (None, *BUDGETS) or Path(opt.budget).suffix == ".csv":
        return
    from yolo_slim.channels.rules import channel_graph
    from yolo_slim.pruning.budget.globs import select

    graph, own = channel_graph(source.model), {parse_ratio(text)[0] for text in opt.ratio}
    for glob in (glob for glob in ratios if glob not in own):
        select(graph, glob, f"--budget {opt.budget}")


def cut(opt: argparse.Namespace, plan: Plan, judge: Judge | None = None) -> Pruned:
    """Look at images, if the cut is by them, and cut."""
    from yolo_slim.host.calibration import calibrate
    from yolo_slim.pruning.prune import prune_by

    options, row, calibration = plan.options, plan.options.row, None
    looks = row.data or any(PARTS[part].data for part in options.recover or ())
    if looks and plan.data is not None:
        calibration = calibrate(
            plan.data,
            plan.source.model,
            imgsz=options.imgsz,
            images=opt.calib_images,
            batch_size=row.batch,
            seed=opt.seed,
            labels=row.labels and plan.labels,
        )
    return prune_by(options, plan.source.model, calibration, judge)


def judge_of(opt: argparse.Namespace, plan: Plan) -> Judge | None:
    """YOLOv5's validation of a model on the data; None where there is none of its classes."""
    if plan.data is None or plan.renewed:
        return None
    from functools import partial

    from yolo_slim.host.evaluate import evaluate

    return partial(
        evaluate,
        data=plan.data,
        imgsz=plan.options.imgsz,
        batch_size=opt.batch_size,
        workers=opt.workers,
        device=opt.device,
    )


def measured(opt: argparse.Namespace, plan: Plan, judge: Judge) -> dict[str, Accuracy]:
    """mAP of the model before the cut."""
    from yolo_slim.host.data import images
    from yolo_slim.host.evaluate import device_name, titled

    assert plan.data is not None
    count = len(images(plan.data))
    say(f"mAP is measured on {counted(count, 'validation image')}, on {device_name(opt.device)}.")
    with titled("validating, before the cut"):
        return {"dense": judge(plan.source.model)}


def steps_of(pruned: Pruned) -> dict[str, Accuracy]:
    """mAP of a model as it was cut, and of what recovery made of it; empty if nothing measured."""
    steps = {"masked": pruned.recovery.cut, "pruned": pruned.recovery.accuracy}
    return {name: accuracy for name, accuracy in steps.items() if accuracy is not None}


def write(
    folder: Path,
    opt: argparse.Namespace,
    plan: Plan,
    pruned: Pruned,
    accuracy: dict[str, Accuracy],
) -> dict[str, Any]:
    """The files of a run, see `write_cut`."""
    from yolo_slim.report.cut_files import write_cut

    return write_cut(
        folder,
        plan.source,
        pruned,
        accuracy,
        options=plan.recorded,
        data=plan.data_file,
        imgsz=plan.options.imgsz,
    )


def tell(plan: Plan) -> None:
    """Say what is about to be done, and why so."""
    criterion = plan.options.criterion
    say(f"Pruning {plan.source}")
    if plan.chosen:
        say(f"--criterion {criterion}: {WHY[criterion]}")
    elif criterion == "bn" and not plan.source.train.get("st"):
        say("Not trained with --st: its gammas say little; try --criterion auto --data D.")
    if plan.renewed:
        text = ", ".join(plan.source.model.names.values())
        say(f"A new head for {text}: it keeps its boxes, and knows no class until it is trained.")
        say("mAP is not measured before a training: no class is known yet.")
    elif plan.data is None and not plan.recorded.get("dry_run"):
        say("mAP is not measured: no --data.")


def tell_warning(plan: Plan, pruned: Pruned) -> None:
    """Say it if a sparse training did not bring down all that was cut."""
    from yolo_slim.sparsify.trained import warning_of

    text = warning_of(plan.source, pruned.masks) if plan.options.criterion == "bn" else ""
    if text:
        say(text)


def tell_dry_run(plan: Plan, pruned: Pruned, *, layers: bool) -> None:
    """Print the plan of --dry-run: layer by layer of the model, or BatchNorm by BatchNorm."""
    report = pruned.report
    print(report.layer_table() if layers else report.plan_table())
    say(report.held())
    print()
    print(report.summary())
    say(f"{report.gains()}.")
    tell_warning(plan, pruned)
    say("Nothing was written or validated (--dry-run).")


def tell_result(folder: Path, plan: Plan, pruned: Pruned, summary: str) -> None:
    """Print what came of it, and where it is."""
    say(f"{pruned.report.held()} (each of them: --layers, report.json, channels.png)")
    print()
    print(summary)
    tell_warning(plan, pruned)
    say(f"{folder / 'pruned.pt'}, pruned.yaml, masks.pt, report.json, channels.png")


def tell_next(folder: Path, plan: Plan) -> None:
    """Print the step that follows."""
    more = [] if plan.data_file or plan.source.train.get("data") else ["--data", "mydata.yaml"]
    modules = argparse.Namespace(modules=plan.recorded.get("modules"))
    step = as_called("finetune", "--weights", folder / "pruned.pt", *more, opt=modules)
    print(f"Next: {step}")
