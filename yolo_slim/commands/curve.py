"""curve: how much could be cut, and is it worth it? Measured in minutes, without a training."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.as_called import as_called, named
from yolo_slim.commands.curve_options import SHARES, check, parse, processes_of
from yolo_slim.commands.prune import residual_of, settle
from yolo_slim.commands.prune_options import parse as parse_prune
from yolo_slim.errors import InputError
from yolo_slim.packages import TIMED, check_imports
from yolo_slim.pruning.budget.target import MACS, Target
from yolo_slim.pruning.recover.table import ALL
from yolo_slim.runs import CURVE, CURVE_POINTS, new_run, record_call, removed_if_empty
from yolo_slim.text import counted, fold, say

if TYPE_CHECKING:
    from yolo_slim.curve.job import Task
    from yolo_slim.curve.points import Curve
    from yolo_slim.curve.run import Plan
    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.pruning.options import CutOptions

NONE = "-"  # a setting that was not given


def main(argv: Sequence[str] | None = None) -> Path:
    """Measure a curve; returns the run's folder."""
    opt = parse(argv)
    check(opt)
    check_imports(named("curve"), TIMED)
    start = prepare(opt)
    plan = make_plan(opt, start)

    from yolo_slim.curve.points import CUT
    from yolo_slim.curve.run import run_curve
    from yolo_slim.host.evaluate import device_name

    cuts = sum(task.family == CUT for task in plan.tasks)
    text = f"{counted(cuts, 'cut')}, {counted(len(plan.tasks) - cuts - 1, 'rival')}, each on "
    text += f"{counted(int(plan.settings['images']), 'validation image')} of {opt.data}"
    say(f"{text}, on {device_name(opt.device)}")
    folder = opt.resume or new_run(opt.project, opt.name)
    with removed_if_empty(folder):
        try:
            curve, rough = run_curve(plan, folder, processes_of(opt))
            record_call(folder)
            tell(opt, curve, rough, start)
        except KeyboardInterrupt:
            if any(folder.iterdir()):
                print(f"The same command with --resume {shlex.quote(str(folder))} goes on.")
            raise
    return folder


@dataclass(frozen=True)
class Start:
    """What all points of a curve begin with.

    Attributes:
        source: the checkpoint.
        data: what it is cut and validated with.
        options: of a cut, as `prune` settles them; all but the share and what depends on it.
        cuts: share to the options of the cut, by falling share; those that can be reached.
    """

    source: Checkpoint
    data: dict[str, Any]
    options: CutOptions
    cuts: dict[float, CutOptions]


def prepare(opt: argparse.Namespace) -> Start:
    """Load the model, and see that it, the data and the shares fit together.

    Raises:
        InputError: they do not.
    """
    from yolo_slim.host.data import check_data, check_labels, labelled
    from yolo_slim.host.evaluate import check_device
    from yolo_slim.host.tasks import SEGMENTATION, task_of_model
    from yolo_slim.host.trained_with import classes_of
    from yolo_slim.models import load

    check_device(opt.device)
    source, splits = load(opt.weights), ("train", "val")
    data = check_data(opt.data, classes_of(source), splits)
    single, outlines = classes_of(source) is None, task_of_model(source.model) is SEGMENTATION
    check_labels(data, splits, single_cls=single, outlines=outlines, needed=("val",))
    shares = sorted({float(f"{share:g}") for share in opt.shares or SHARES}, reverse=True)
    by = "latency" if opt.table else "macs"
    argv = ["--weights", opt.weights, "--data", opt.data, f"--{by}", shares[0]]
    argv += ["--imgsz", opt.imgsz] if opt.imgsz else []
    argv += ["--device", opt.table] if opt.table else []
    asked = parse_prune([str(word) for word in argv])
    plan = settle(asked, Path(opt.weights))
    start = Start(plan.source, data, plan.options, {})
    residual, labels = residual_of(asked, plan.source), labelled(data)
    cuts = {share: cut_to(start, share, by, residual, labels) for share in shares}
    return replace(start, cuts=within_reach(cuts, plan.source, given=bool(opt.shares)))


def cut_to(start: Start, share: float, by: Any, residual: Any, labels: bool) -> CutOptions:
    """The options of a cut as `prune --criterion auto --recover all` has them, by a table alone.

    Args:
        start: what all cuts have in common.
        share: that is left.
        by: macs or latency.
        residual: as it was trained; None: as suits the criterion.
        labels: the training images have some.
    """
    from yolo_slim.pruning.automatic import criterion_for

    target, criterion = Target(by, share), start.options.criterion
    if criterion != "bn":
        criterion = criterion_for(start.source.model, target, labels)
    return replace(
        start.options,
        target=target,
        criterion=criterion,
        budget=None,
        residual=residual,
        depth=None,
        recover=ALL,
        measure=False,
    )


def within_reach(
    cuts: dict[float, CutOptions], source: Checkpoint, given: bool
) -> dict[float, CutOptions]:
    """The cuts that can be reached; what is left out is said.

    Args:
        cuts: share to options, by falling share.
        source: that is cut.
        given: the user named the shares; then all have to be in reach.

    Raises:
        InputError: one that was named, or all, are out of reach.
    """
    from yolo_slim.pruning.prune import check_reach

    lost: list[str] = []
    for share in reversed(cuts):
        try:
            check_reach(cuts[share], source.model)
            break
        except InputError:
            if given or len(lost) == len(cuts) - 1:
                raise
            lost.append(f"{share:g}")
    if lost:
        say(f"Out of reach, and left out: {', '.join(lost)}.")
    return {share: options for share, options in cuts.items() if f"{share:g}" not in lost}


def make_plan(opt: argparse.Namespace, start: Start) -> Plan:
    """The points that are to be measured.

    Raises:
        InputError: a size is none, or a run does not fit.
    """
    from yolo_slim.curve.job import Job, Task
    from yolo_slim.curve.points import CUT, DENSE, SIZE
    from yolo_slim.curve.run import Plan
    from yolo_slim.device.table import DeviceTable
    from yolo_slim.host.data import images
    from yolo_slim.numerics import digest

    table, imgsz = start.options.device, start.options.imgsz
    assert table is None or isinstance(table, DeviceTable)
    sizes, runs = sizes_of(opt, start), trained_tasks(opt, start)
    tasks = [Task(DENSE, DENSE, imgsz)]
    tasks += [Task(CUT, f"{s:g}", imgsz, start.cuts[s]) for s in from_both_ends(start.cuts)]
    tasks += [Task(SIZE, f"{size} px", size) for size in sizes]
    tasks += runs
    device = f"{table.runtime} {table.version}, {table.processor}" if table else NONE
    settings = {
        "weights": start.source.path.absolute(),
        "digest": digest(start.source.model),
        "data": Path(opt.data).absolute(),
        "imgsz": imgsz,
        "images": min(opt.images, len(images(start.data))),
        "calibration": opt.calib_images,
        "by": "latency" if table else "macs",
        "shares": " ".join(f"{share:g}" for share in start.cuts),
        "sizes": " ".join(map(str, sizes)) or NONE,
        "trained": shlex.join(task.label for task in runs) or NONE,
        "device": device,
        "threads": table.threads if table else start.options.threads,
    }
    job = Job(
        start.source.path.absolute(),
        start.data,
        imgsz,
        opt.images,
        calib_images=opt.calib_images,
        table=table,
        device=opt.device,
        modules=tuple(opt.modules or ()),
        cfg=opt.cfg,
    )
    plain = {key: " ".join(str(value).split()) for key, value in settings.items()}
    return Plan(tasks, plain, job, int(plain["threads"]))


def from_both_ends(shares: Iterable[float]) -> list[float]:
    """The first, the last, the second, the last but one ...

    Small cuts go by another criterion than large ones, so that two workers score by one each.
    """
    rest = list(shares)
    return [rest.pop(-(index % 2)) for index in range(len(rest))]


def sizes_of(opt: argparse.Namespace, start: Start) -> list[int]:
    """The smaller image sizes, px, by falling size: as given, or those nearest to the shares.

    Raises:
        InputError: one is no multiple of the stride, or not smaller.
    """
    from yolo_slim.curve.sizes import nearest_sizes
    from yolo_slim.host.trained_with import stride_of

    imgsz, stride = start.options.imgsz, stride_of(start.source.model)
    if not opt.sizes:
        return nearest_sizes(imgsz, stride, list(start.cuts))
    for size in opt.sizes:
        if size >= imgsz or size % stride:
            expected = f"multiples of {stride} below the {imgsz} px of the model as it is"
            raise InputError("--sizes", size, expected)
    return sorted(set(opt.sizes), reverse=True)


def trained_tasks(opt: argparse.Namespace, start: Start) -> list[Task]:
    """The results of finished runs, each at the image size of its run.

    Raises:
        InputError: a run is not finished, has no model, or is of other data.
    """
    from yolo_slim.curve.runs import task_of_run
    from yolo_slim.finished import finished_run

    tasks: dict[Path, Task] = {}
    for place in opt.trained:
        run = finished_run(place)
        tasks[run.folder.absolute()] = task_of_run(run, opt.data, start.data, start.options.imgsz)
    return list(tasks.values())


def tell(opt: argparse.Namespace, curve: Curve, rough: str, start: Start) -> None:
    """Write the picture and, last, curve.json; print the table, the words and what comes next."""
    from yolo_slim.curve.plot import PICTURE, plot_curve
    from yolo_slim.curve.result import better_size, choice, write_result
    from yolo_slim.curve.words import bend_of, paragraph
    from yolo_slim.page import write as page

    folder, bend = curve.path.parent, bend_of(curve)
    same = start.data.get("train") == start.data["val"]
    text = " ".join(filter(None, [paragraph(curve, same_images=same), rough]))
    plot_curve(curve, folder / PICTURE, bend)
    chosen = choice(curve)
    commands = {
        "prune": prune_command(opt, chosen.label, start),
        "slim": called(opt, "slim", f"{min(MACS, float(chosen.label)):g}"),
    }
    write_result(folder / CURVE, curve, bend, text, commands)
    print(curve)
    print(fold(text))
    say(f"{folder / PICTURE}, {CURVE_POINTS}, {CURVE}")
    if not opt.no_page:
        page.leave_page(folder, device=opt.device, repeats=0)  # all times are in the curve
    if size := better_size(curve, chosen):
        smaller = as_called("export", "--weights", opt.weights, "--imgsz", size.imgsz, opt=opt)
        print(f"Next: {smaller}  # the smaller image: {size.map:.3f}")
    else:
        print(f"Next: {commands['prune']}  # the cut to {chosen.label}: {chosen.map:.3f}")
    print(f"Next: {commands['slim']}  # cut and trained")


def prune_command(opt: argparse.Namespace, share: str, start: Start) -> str:
    """The command that makes a cut of the curve."""
    recover = ["--recover", "all"] if start.options.criterion == "bn" else []
    images = ["--calib-images", opt.calib_images] if opt.calib_images != 128 else []
    return called(opt, "prune", share, *images, *recover)


def called(opt: argparse.Namespace, command: str, share: str, *more: object) -> str:
    """A command that leaves a share."""
    options: list[object] = ["--weights", opt.weights, "--data", opt.data]
    options += ["--latency", share, "--device", opt.table] if opt.table else ["--macs", share]
    options += ["--imgsz", opt.imgsz] if opt.imgsz else []
    options += ["--cfg", opt.cfg] if opt.cfg else []
    return as_called(command, *options, *more, opt=opt)
