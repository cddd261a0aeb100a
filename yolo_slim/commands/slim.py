"""slim: the whole road in one command: train, cut, recover, train on, in rounds, and a report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.as_called import as_called
from yolo_slim.commands import finetune, sparse
from yolo_slim.commands.finetune_options import NONE, lr_times_of
from yolo_slim.commands.slim_options import (
    SPARSE,
    USUAL,
    check_epochs,
    parse,
    resumed,
    target_of,
)
from yolo_slim.device.table import DeviceTable, read_table
from yolo_slim.distill.teacher import check_teacher
from yolo_slim.errors import InputError
from yolo_slim.extensions import admit
from yolo_slim.files import write_aside
from yolo_slim.host import data, options, training
from yolo_slim.host.architecture import architecture, find_cfg
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.checkpoint import save_model
from yolo_slim.host.evaluate import evaluate
from yolo_slim.host.head import same_classes, with_classes
from yolo_slim.measure.cost import cost
from yolo_slim.models import load
from yolo_slim.models.model import build_model
from yolo_slim.moved import check_there, options_here, standing_in
from yolo_slim.page import write as page
from yolo_slim.pruning.automatic import criterion_for
from yolo_slim.pruning.budget.target import Target
from yolo_slim.pruning.criteria.table import find
from yolo_slim.pruning.options import CutOptions
from yolo_slim.pruning.profile import table_here
from yolo_slim.pruning.prune import check_reach
from yolo_slim.pruning.recover.table import ALL
from yolo_slim.pruning.report import blocks_removed
from yolo_slim.rounds.course import course
from yolo_slim.rounds.cut import RoundReport, cut_round
from yolo_slim.rounds.picture import PICTURE
from yolo_slim.rounds.plan import REPORT, Leg, cut_file, plan
from yolo_slim.rounds.report import write_report
from yolo_slim.runs import CALLED, STATE, checkpoint_to_cut, new_run, record_call
from yolo_slim.sparsify import limits
from yolo_slim.sparsify.ended import untold_verdict
from yolo_slim.sparsify.session import SparseSession
from yolo_slim.sparsify.strengths import AUTO
from yolo_slim.sparsify.trained import kept_of
from yolo_slim.text import counted, giga

OWN = (
    "rounds",
    "latency",
    "table",
    "criterion",
    "depth",
    "calib_images",
    "at_once",
    "same_classes",
    "opened_as",
    "no_page",
)
TABLE = "device.json"  # in the run's folder: of this machine, where none was given
GIVEN = "dense.pt"  # in the run's folder: the model that is cut at once


def main(argv: Sequence[str] | None = None) -> Path:
    """Slim; returns the run's folder."""
    opt = parse(argv)
    if opt.resume:
        folder = resumed(opt.resume)
        opt = options_of(folder)
        for file in opt.modules:
            admit(file)
        with standing_in(opt.begun_in), architecture(getattr(opt, "opened_as", None)):
            run(opt, Path(opt.save_dir))
        return folder
    cfg = opt.cfg
    model = check_options_(opt)
    if cfg and not opt.cfg:  # it was for weights without a model, which are opened once more
        opt.opened_as = str(find_cfg(cfg).absolute())
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    opt.save_dir, opt.begun_in = str(folder), str(Path.cwd())
    opt.table = opt.table and str(Path(opt.table).absolute())
    if opt.at_once:
        save_model(with_classes(model, class_names(opt), seed=opt.seed), folder / GIVEN)
    write_state(folder, opt, [])
    record_call(folder)
    return run(opt, folder)


def options_of(folder: Path) -> argparse.Namespace:
    """The options of an interrupted run, for where it now lies.

    Raises:
        InputError: its state cannot be read, or its data is gone.
    """
    folder = folder.absolute()
    try:
        options = dict(json.loads((folder / STATE).read_text())["options"])
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(folder / STATE, "damaged", "what slim wrote") from error
    options.setdefault("save_dir", str(Path(options["project"]) / folder.name))  # an older run
    here = options_here(options, folder)
    check_there(here, folder)
    return argparse.Namespace(**(options | here))


def check_options_(opt: argparse.Namespace) -> nn.Module:
    """Everything that can be known to be wrong before the host starts; fills in what was not given.

    Returns:
        The model of --cfg, or of --weights.

    Raises:
        InputError: an option cannot be used, or the target is out of reach.
    """
    target = target_of(opt)
    opt.imgsz = opt.imgsz or 640
    model = options.load_weights_(opt).model if opt.weights else None
    options.check_common(opt, source=model)
    opt.same_classes = model is not None and same_classes(model, class_names(opt))
    if opt.criterion == AUTO:
        opt.criterion = SPARSE if opt.st else USUAL
        plain = opt.same_classes and not (opt.st or opt.cfg)
        if plain and model is not None and data.labelled(data.read_data(opt.data)):
            opt.criterion = criterion_for(model, target, labels=True)
    if opt.depth is None:
        opt.depth = opt.latency is not None and opt.residual != "skip"
    opt.residual = opt.residual or find(opt.criterion).around_adds(opt.depth)
    opt.lr_times = lr_times_of(opt) if opt.lr_times is None else opt.lr_times
    opt.at_once = model is not None and not opt.cfg and not opt.st
    if find(opt.criterion).labels:  # which have to be of its classes
        opt.at_once = opt.at_once and opt.same_classes
    check_epochs(opt, at_once=opt.at_once)
    if opt.cfg:
        model = options.check_cfg(opt.cfg, build_model)
    assert model is not None
    options.check_fits(opt, model, keeps_head=opt.at_once)
    if opt.teacher:
        opt.teacher = str(Path(opt.teacher).absolute())
        classes = 1 if opt.single_cls else len(data.read_data(opt.data)["names"])
        where = f"--teacher {opt.teacher}"
        check_teacher(load(opt.teacher).model, model, where, classes=classes)
    if opt.st:
        own = deepcopy(opt)
        sparse_options_(own)
        own.macs = plan(opt.epochs, opt.rounds, target.value, sparse=True)[0].left
        sparse.freeze_(model, opt.freeze)
        limits.check_strength(sparse.penalty_of(model, own), own)
    check_reach(
        CutOptions(
            target,
            criterion=opt.criterion,
            residual=opt.residual,
            depth=opt.depth,
            round_to=opt.round_to,
            device=opt.table,
            imgsz=opt.imgsz,
        ),
        with_classes(model, class_names(opt), seed=opt.seed) if opt.table else model,
    )
    return model


def class_names(opt: argparse.Namespace) -> dict[int, str]:
    """Class index to class name, as the host trains them."""
    names: dict[int, str] = data.read_data(opt.data)["names"]
    return {0: "item"} if opt.single_cls and len(names) != 1 else names


def run(opt: argparse.Namespace, folder: Path) -> Path:
    """What is not done yet of a run; an interruption says how it goes on."""
    try:
        return go_on(opt, folder)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{as_called('slim', '--resume', folder)} goes on") from stop
    except InputError:
        clear(folder)
        raise


def clear(folder: Path) -> None:
    """Remove a run in which nothing was trained or cut yet: what was asked for cannot be done."""
    begun = {STATE, CALLED, GIVEN, TABLE, f"{TABLE}.part"}
    if {path.name for path in folder.iterdir()} <= begun:
        for name in begun:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def go_on(opt: argparse.Namespace, folder: Path) -> Path:
    """What is not done yet of a run."""
    at_once = getattr(opt, "at_once", False)  # an older run has no such option
    legs = plan(opt.epochs, opt.rounds, target_of(opt).value, sparse=opt.st, at_once=at_once)
    trainings = [folder / f"train{n + 1}" for n in range(sum(leg.epochs > 0 for leg in legs))]
    places = [None, *trainings] if at_once else trainings  # of each leg
    for number, (leg, place) in enumerate(zip(legs, places, strict=True)):
        done = json.loads((folder / STATE).read_text())["rounds"]
        if number < len(done):
            continue
        if place:
            source = source_of(folder, places[number - 1]) if number else None
            title = f"{place.name[5:]} of {len(trainings)}, {counted(leg.epochs, 'epoch')}"
            training.LOGGER.info(f"\nslim: training {title} ({place})")
            train(opt, folder, place, number, leg, source)
        if leg.left is not None:
            ended = trainings[: sum(each.epochs > 0 for each in legs[: number + 1])]
            epoch = sum(len(course(each)) for each in ended)
            training.LOGGER.info(
                f"\nslim: cut {number + 1} of {opt.rounds}, after {counted(epoch, 'epoch')}"
            )
            report = cut(opt, folder, source_of(folder, place), number, leg, epoch)
            training.LOGGER.info(round_line(report))
            write_state(folder, opt, [*done, report.as_dict()])
    rounds = json.loads((folder / STATE).read_text())["rounds"]
    print(write_report(folder, opt, rounds, dense_file(folder), trainings))
    print(f"{folder / 'best.pt'}, {REPORT}, {PICTURE}")
    if not getattr(opt, "no_page", False):  # an older run has no such option
        page.leave_page(folder, device=str(opt.device))
    print(f"Next: {as_called('export', '--weights', folder / 'best.pt', opt=opt)}")
    return folder


def source_of(folder: Path, place: Path | None) -> Path:
    """What a cut takes: of the training before it, or the given model where there is none."""
    return checkpoint_to_cut(place) if place else folder / GIVEN


def dense_file(folder: Path) -> Path:
    """The model before the first cut."""
    given = folder / GIVEN
    return given if given.is_file() else folder / "train1" / "weights" / "last.pt"


def train(
    opt: argparse.Namespace,
    folder: Path,
    place: Path,
    number: int,
    leg: Leg,
    source: Path | None,
) -> None:
    """Run one training of the plan, or resume it. A finished one is left alone.

    Args:
        opt: of the run.
        folder, place: of the run, and of this training.
        number: how many cuts came before it.
        leg: its epochs, and the cut after it.
        source: the model before the last cut.
    """
    own = deepcopy(opt)
    for name in OWN:
        own.__dict__.pop(name, None)
    own.epochs, own.project, own.name = leg.epochs, str(folder), place.name
    own.exist_ok, own.macs = True, None
    last = place / "weights" / "last.pt"
    if last.is_file():
        ended = load(last)
        if ended.epoch < 0:
            if verdict := untold_verdict(ended, place):
                sparse.tell_verdict(place, verdict)
            return
        own.resume = str(last.absolute())
    if number:
        own.cfg, own.weights = "", str(cut_file(folder, number))
    if opt.st and leg.left is not None:
        own.macs = leg.left
        if number:
            own.macs = share_of(folder, load(own.weights).model, leg.left, opt)
        sparse_options_(own)
        sparse.train(own, sparse.sparse_session(tell))
        return
    own.st = False
    if number:
        hints = getattr(opt, "hints", NONE)  # an older run has no such option
        own.hints = str(source.absolute()) if source and hints is None else NONE
        finetune.run(own, measures=False)
    else:
        sparse.train(own, sparse.Plain())


def tell(run: training.Run, session: SparseSession, verdict: str) -> None:
    """The last words of a sparse training before a cut."""
    sparse.tell_verdict(run.folder, verdict)


def sparse_options_(opt: argparse.Namespace) -> None:
    """What train_sparse.py adds to YOLOv5's options, by default."""
    opt.sr, opt.penalty, opt.percent, opt.bias_sr = AUTO, None, None, None
    opt.keep, opt.no_probe = [], False


def share_of(
    folder: Path, model: nn.Module, left: float, opt: argparse.Namespace, *, later: bool = True
) -> float:
    """A share of the MACs before the first cut as a share of those of a model, at most 1.

    Args:
        folder, opt: of the run.
        model: that is cut next.
        left: share of the first model's MACs.
        later: False: it is the first model.
    """
    first = load(dense_file(folder)).model if later else model
    return min(left * cost(first, opt.imgsz).macs / cost(model, opt.imgsz).macs, 1.0)


def cut(
    opt: argparse.Namespace, folder: Path, source: Path, number: int, leg: Leg, epoch: int
) -> RoundReport:
    """Cut a model down to a share of the first one's MACs.

    Args:
        opt, folder: of the run.
        source: what is cut.
        number: how many cuts came before it.
        leg: what is left by this one.
        epoch: epochs of all trainings before it.
    """
    assert leg.left is not None
    sets, saved = data.read_data(opt.data), load(source)
    model, how = saved.model, find(opt.criterion)
    if target_of(opt).name == "latency":  # each cut leaves the same share of what was there
        target = Target("latency", target_of(opt).value ** (1 / opt.rounds))
    else:
        target = Target("macs", share_of(folder, model, leg.left, opt, later=number > 0))
    round_to = opt.round_to
    if kept_of(saved, "penalty", "auto", "part") == 1:  # all that was to be zero is
        target = Target("percent", kept_of(saved, "penalty", "auto", "percent"))
        round_to = 1
    known = epoch > 0 or knows_classes(opt)
    images = calibrate(
        sets,
        model,
        imgsz=opt.imgsz,
        images=opt.calib_images,
        batch_size=how.batch,
        seed=opt.seed,
        labels=how.labels,
    )
    judge = partial(
        evaluate, data=sets, imgsz=opt.imgsz, workers=opt.workers, device=str(opt.device)
    )
    cutting = CutOptions(
        target,
        criterion=opt.criterion,
        round_to=round_to,
        residual=opt.residual,
        depth=getattr(opt, "depth", False),  # an older run has no such option
        recover=ALL if known else how.recover,
        device=table_for(opt, folder) if target.name == "latency" else None,
        imgsz=opt.imgsz,
        seed=opt.seed,
    )
    file = cut_file(folder, number + 1)
    return cut_round(cutting, saved, file, images, judge if known else None, epoch)


def table_for(opt: argparse.Namespace, folder: Path) -> DeviceTable:
    """The table of the device: the given one, or one of this machine, of the first model.

    A later round cuts a cut of it, which the table knows as well.
    """
    if opt.table:
        return read_table(opt.table)
    file = folder / TABLE
    if not file.is_file():
        training.LOGGER.info(f"slim: timing the layers of the model on this machine ({file})")
        return table_here(load(dense_file(folder)).model, opt.imgsz, file=file)
    return read_table(file)


def knows_classes(opt: argparse.Namespace) -> bool:
    """Whether the classes of --weights are those of the data; an older run did not note it."""
    if hasattr(opt, "same_classes"):
        return bool(opt.same_classes)
    return same_classes(load(opt.weights).model, class_names(opt))


def write_state(folder: Path, opt: argparse.Namespace, rounds: list[dict[str, Any]]) -> None:
    """What a run goes on from."""
    content = {"options": vars(opt), "rounds": rounds}
    write_aside(folder / STATE, json.dumps(content, indent=2).encode())


def round_line(report: RoundReport) -> str:
    """A round in a line."""
    left = report.macs[1] / report.macs[0]
    text = f"slim: MACs {giga(report.macs[0])} -> {giga(report.macs[1])} ({left:.1%})"
    target = report.cut.get("target", {})
    if target.get("name") == "latency":
        text += f", {target['achieved']:.1%} of the time, asked for {target['requested']:.1%}"
    if removed := report.cut.get("removed"):
        text += f", {blocks_removed(removed, report.cut['bottlenecks'])}"
    maps = ", ".join(f"{value[1]:.3f} {name}" for name, value in report.accuracy.items())
    return f"{text}, mAP50-95 {maps}" if maps else f"{text}; its classes are new: no mAP yet"
