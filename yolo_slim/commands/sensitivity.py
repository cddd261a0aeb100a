"""sensitivity: mAP with each layer cut alone, at several shares."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.as_called import as_called, named
from yolo_slim.channels.residual import RESIDUAL
from yolo_slim.errors import InputError, check_count, check_imgsz, check_share
from yolo_slim.files import CHECKPOINT, check_file
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.parsing import OneLineParser, add_place
from yolo_slim.pruning.budget.target import MACS
from yolo_slim.pruning.criteria.table import find
from yolo_slim.runs import new_run, removed_if_empty
from yolo_slim.text import counted, say

if TYPE_CHECKING:
    from yolo_slim.sensitivity.run import Plan

AGAIN = 0.7  # share of the MACs that a further cut of a cut model leaves, as advice
SHARES = [n / 10 for n in range(1, 10)]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("sensitivity"),
        description="Measure mAP with each layer cut alone, at several shares: which layers can "
        "lose much, which little. Results are written as they come.",
    )
    parser.add_argument("weights", help="checkpoint (.pt)")
    add = parser.add_argument_group("what is cut").add_argument
    text = "what to cut: channels of BatchNorms, single weights of convs (default: both)"
    kinds = ["channels", "weights"]
    add("--kind", nargs="+", choices=kinds, default=kinds, help=text)
    text = "shares of a layer to cut, each in (0, 1) (default: 0.1 0.2 ... 0.9)"
    add("--shares", nargs="+", type=float, default=SHARES, metavar="SHARE", help=text)
    text = f"which channels of a layer go first, as for {named('prune')} (default: bn)"
    add("--criterion", default="bn", help=text)
    text = "what may be cut around residual adds: nothing, inner channels, all tied together"
    text += " (default: as in the sparse training, or that of the criterion)"
    add("--residual", choices=RESIDUAL, help=text)
    add = parser.add_argument_group("measured on").add_argument
    add("--data", required=True, help="data yaml, for validation")
    add("--imgsz", "--img", type=int, help="image size, px (default: that of the training, or 640)")
    text = "validate on so many images, evenly spread over the split (default: 500; they stay in "
    add("--images", type=int, default=500, help=text + "memory, about 1.2 MB each at 640 px)")
    text = "images to validate on (default: val)"
    add("--split", choices=["train", "val", "test"], default="val", help=text)
    add("--device", default="", help="0, cpu (default: the first GPU, or the CPU)")
    text = "processes that measure side by side; several have one thread each (default: 1)"
    add("--processes", type=int, default=1, help=text)
    group = parser.add_argument_group("where it is written")
    text = "go on with the interrupted scan in this folder; the other options as they were"
    group.add_argument("--resume", metavar="FOLDER", help=text)
    add_place(group, "runs/sensitivity", exist_ok=False)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Path:
    """Scan; returns the run's folder."""
    opt = parse(argv)
    opt.shares, opt.kind = sorted(set(opt.shares)), sorted(set(opt.kind))
    for share in opt.shares:
        check_share("--shares", share, "shares", zero=False, one=False)
    for name in ("images", "processes"):
        check_count(f"--{name}", getattr(opt, name))
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    if not opt.modules:  # whose files may have criteria of their own
        find(opt.criterion)
    check_file(opt.weights, opt.weights, CHECKPOINT)
    check_data_file(opt.data)
    if opt.resume and not (Path(opt.resume) / "sensitivity.csv").is_file():
        raise InputError("--resume", opt.resume, "the folder of a scan, with a sensitivity.csv")

    from yolo_slim.host.evaluate import device_name
    from yolo_slim.sensitivity.cuts import layers
    from yolo_slim.sensitivity.plot import plot_scan
    from yolo_slim.sensitivity.run import run_scan

    plan = make_plan(opt)
    cuts = len(plan.shares) * sum(len(layers(plan.model, plan.graph, kind)) for kind in opt.kind)
    count, device = plan.settings["images"], device_name(opt.device)
    images = f"{counted(int(count), 'image')} of {opt.data} ({opt.split})"
    say(f"{counted(cuts, 'cut')}, each measured on {images}, on {device}")
    folder = Path(opt.resume) if opt.resume else new_run(opt.project, opt.name)
    with removed_if_empty(folder):
        try:
            scan = run_scan(plan, folder / "sensitivity.csv", opt.processes)
            plot_scan(scan, folder / "sensitivity.png")
        except KeyboardInterrupt:
            if any(folder.iterdir()):
                print(f"The same command with --resume {shlex.quote(str(folder))} goes on.")
            raise
    print(scan)
    if any(row.map > scan.dense.map for row in scan.rows):
        number = counted(int(scan.settings["images"]), "image")
        say(f"Where mAP rises by a cut, that is chance: {number} cannot tell it better.")
    say(f"{scan.path}, sensitivity.png")
    if "channels" in opt.kind:
        options = ["--weights", opt.weights, "--budget", scan.path, "--data", opt.data]
        options += ["--residual", opt.residual] if opt.residual else []
        options += ["--criterion", opt.criterion] if opt.criterion != "bn" else []
        options += ["--imgsz", plan.settings["imgsz"]] if opt.imgsz else []
        left = AGAIN if getattr(plan.model, "ancestry", None) else MACS
        if left != MACS:
            text = f"--macs {left:g} leaves {left:.0%} of the MACs that it has now"
            say(f"This model was cut before: {text}.")
        print(f"Next: {as_called('prune', *options, '--macs', left, opt=opt)}")
    return folder


def make_plan(opt: argparse.Namespace) -> Plan:
    """Load what the options name, check it, score the channels.

    Raises:
        InputError: see the message.
    """
    from yolo_slim.channels.rules import channel_graph
    from yolo_slim.host.calibration import calibrate
    from yolo_slim.host.data import check_data, check_labels, images
    from yolo_slim.host.evaluate import check_device
    from yolo_slim.host.image import check_rgb
    from yolo_slim.host.tasks import SEGMENTATION, task_of_model
    from yolo_slim.host.trained_with import classes_of, imgsz_of
    from yolo_slim.models import load
    from yolo_slim.numerics import digest
    from yolo_slim.pruning.criteria.score import score
    from yolo_slim.sensitivity.job import Job
    from yolo_slim.sensitivity.run import Plan

    check_device(opt.device)
    how = find(opt.criterion)
    source = load(opt.weights)
    check_rgb(source.model, opt.weights)
    imgsz = imgsz_of(source, opt.imgsz)
    scored = "channels" in opt.kind
    splits = (opt.split, "train") if scored and how.data else (opt.split,)
    data = check_data(opt.data, classes_of(source), splits)
    single, outlines = classes_of(source) is None, task_of_model(source.model) is SEGMENTATION
    needed = ("train",) if how.labels and "train" in splits else ()
    check_labels(data, splits, single_cls=single, outlines=outlines, needed=needed)
    graph = channel_graph(
        source.model, opt.residual or source.train.get("residual") or how.residual
    )
    if scored and not graph.prunable:
        got = f"no BatchNorm that may be cut ({graph.pins() or 'it has none'})"
        raise InputError(opt.weights, got, "one; or --kind weights")
    calibration = calibrate(data, source.model, imgsz=imgsz) if len(splits) > 1 else None
    scores = score(source.model, graph, opt.criterion, calibration) if scored else {}
    settings = {
        "weights": source.path.absolute(),
        "digest": digest(source.model),
        "data": Path(opt.data).absolute(),
        "split": opt.split,
        "imgsz": imgsz,
        "images": min(opt.images, len(images(data, opt.split))),
        "kinds": " ".join(opt.kind),
        "shares": " ".join(map(str, opt.shares)),
        "criterion": opt.criterion,
        "residual": graph.residual,
    }
    return Plan(
        source.model,
        graph,
        scores,
        opt.kind,
        opt.shares,
        {key: " ".join(str(value).split()) for key, value in settings.items()},
        Job(
            source.path.absolute(),
            data,
            imgsz,
            opt.images,
            opt.device,
            opt.split,
            tuple(opt.modules or ()),
            opt.cfg,
        ),
    )
