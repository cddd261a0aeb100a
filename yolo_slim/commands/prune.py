"""prune: cut the channels that matter least and rebuild the detector with what survives."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.errors import InputError
from yolo_slim.parsing import OneLineParser
from yolo_slim.runs import new_run, sparse_run

if TYPE_CHECKING:
    from yolo_slim.host.checkpoint import Checkpoint
    from yolo_slim.host.evaluate import Accuracy
    from yolo_slim.pruning.prune import Pruned
    from yolo_slim.pruning.recover.recover import Judge

TARGETS = ("percent", "macs", "params", "size_mb", "latency")
MACS = 0.5  # share that is left of a model that was not trained with --st
WHY = {  # of each that --criterion auto may take
    "bn": "trained with --st; the channels that it brought down",
    "thinet": "not trained with --st; what the next layers miss least on your images",
    "obs": "not trained with --st, a small cut; what other channels can best stand in for",
    "l2": "not trained with --st, and no --data: the smallest filters; --data keeps far more mAP",
}
LEAST = {
    "min_channels": 1,
    "batch_size": 1,
    "workers": 0,
    "round_to": 1,
    "calib_images": 1,
    "steps": 1,
    "threads": 1,
}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog="prune.py",
        description="Cut the channels that matter least and rebuild the detector: of a sparse "
        "training those that it brought to zero, of any other model those that its next layers "
        "miss least. A model of other classes than the data's gets a new head for them.",
    )
    add = parser.add_argument
    add("--weights", help="checkpoint (default: of the newest sparse training in runs/)")
    group = parser.add_argument_group("how much (one of them)").add_mutually_exclusive_group()
    text = "share of the prunable channels to cut, [0, 1) (default after a sparse training: what "
    text += "that aimed at, or 0.6)"
    group.add_argument("--percent", type=float, help=text)
    text = f"share of the MACs that is left, (0, 1] (default of any other model: {MACS:g})"
    group.add_argument("--macs", type=float, help=text)
    group.add_argument("--params", type=float, help="share of the parameters that is left, (0, 1]")
    group.add_argument("--size-mb", type=float, help="size of pruned.pt, 10^6 bytes")
    text = "share of the ONNX Runtime latency that is left on this machine, (0, 1] (measured)"
    group.add_argument("--latency", type=float, help=text)
    text = "how channels are scored: auto (default: bn after train_sparse.py --st; of any other "
    text += "model thinet with data, for a small cut obs, without data l2), bn (|gamma|), l1, l2 "
    text += "(of the filter), next-l2 (of what reads it), taylor, thinet, obs (these need --data), "
    text += "random, first, or one of "
    add("--criterion", default="auto", help=text + "--modules")
    text = "how the cut spreads over the layers: global (default), uniform (with thinet, obs), "
    text += (
        "per-mac (most MACs for the least score; with taylor), a yaml of shares by layer, or the "
    )
    text += "sensitivity.csv of `yolo-slim sensitivity`"
    add("--budget", metavar="NAME|FILE", help=text)
    text = "cut little by little: recover after each of N steps, and score anew (default 1)"
    add("--steps", type=int, metavar="N", default=1, help=text)
    text = "kept channels are multiples of N where a layer is wide enough (1: any; default: as in "
    add("--round-to", type=int, metavar="N", help=text + "the sparse training, else 32)")
    text = "what is done after the cut, with commas: constants (what cut channels still send), "
    text += "weights (least squares on images), statistics (of BatchNorm, on images), all (those "
    text += "three), distill (learns from the model before the cut, on images, minutes), none; "
    text += "default constants, with taylor, thinet, obs constants,weights, with auto and data of "
    text += "the model's classes all"
    add("--recover", metavar="PARTS", help=text)
    add("--calib-images", type=int, default=128, help="images of the training split to look at")
    add("--seed", type=int, default=0, help="of the calibration images, and of --criterion random")
    add("--threads", type=int, default=2, help="of ONNX Runtime, for --latency")
    add("--min-channels", type=int, default=1, help="each layer keeps at least so many")
    text = "what may be cut around residual adds: nothing, inner channels, all tied together"
    text += " (default: as in the sparse training; else skip, inner with taylor, thinet and obs)"
    add("--residual", choices=["skip", "inner", "group"], help=text)
    text = 'layers never to cut, such as "model.2" or "model.*.cv1.bn" (repeatable)'
    add("--keep", action="append", default=[], metavar="GLOB", help=text)
    text = "cut this share of these layers; the others make up the rest of --percent (repeatable)"
    add("--ratio", action="append", default=[], metavar="GLOB=SHARE", help=text)
    add("--dry-run", action="store_true", help="print the plan, write nothing")
    text = "data yaml: validate the model before, after the cut and as recovered (default, for a "
    text += "model that was not trained with --st: that of its training, where it is here)"
    add("--data", help=text)
    add("--imgsz", "--img", type=int, help="image size, px (default: that of the training, or 640)")
    add("--batch-size", type=int, default=32, help="of the validation")
    add("--workers", type=int, default=2, help="data loaders of the validation")
    add("--device", default="", help="of the validation: 0, cpu")
    add("--project", default="runs/prune", help="save to project/name")
    add("--name", default="exp", help="save to project/name")
    add("--exist-ok", action="store_true", help="an existing project/name is written to")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Prune; returns the run's folder, None with --dry-run."""
    opt = parse(argv)
    for name, least in LEAST.items():
        value = getattr(opt, name)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')}", value, f"{least} or more")
    weights = (
        Path(opt.weights)
        if opt.weights
        else sparse_run(where="--weights", made_by="train_sparse.py")
    )

    from dataclasses import replace

    from yolo_slim.channels.rules import channel_graph
    from yolo_slim.host.calibration import calibrate
    from yolo_slim.host.checkpoint import load
    from yolo_slim.host.data import check_data, labelled
    from yolo_slim.host.evaluate import check_device, check_imgsz
    from yolo_slim.host.head import same_classes, with_classes
    from yolo_slim.pruning.budget.globs import parse_ratio, select
    from yolo_slim.pruning.criteria.automatic import criterion_for
    from yolo_slim.pruning.criteria.table import find
    from yolo_slim.pruning.prune import check_reach, prune, wished
    from yolo_slim.pruning.recover.recover import ALL, NEED_DATA
    from yolo_slim.report.cut_files import write_cut
    from yolo_slim.sparsify.trained import as_trained_, cost

    wished(*(getattr(opt, name) for name in TARGETS))
    if opt.criterion.lower() == "auto":
        opt.criterion = "auto"
    else:
        find(opt.criterion)
    budget, by_layer = read_budget(opt)
    ratios = by_layer | dict(parse_ratio(text) for text in opt.ratio)
    check_device(opt.device)
    parts_of(opt.recover, ())
    source = load(weights)
    chosen = resolve_criterion_(opt, source)
    how = find(opt.criterion)
    recover = parts_of(opt.recover, how.recover)
    fits = [part for part in recover if part in NEED_DATA]
    looks = how.data or bool(fits)
    if looks and not opt.data:
        asked = f"--criterion {opt.criterion}" if how.data else f"--recover {fits[0]}"
        raise InputError(asked, "no calibration images", "--data, whose training split has some")
    stride = max(int(source.model.stride.max()), 32)
    trained = source.train.get("imgsz", 640)
    imgsz = check_imgsz(trained if opt.imgsz is None else opt.imgsz, stride)
    splits = ("train",) * looks + ("val",) * (not opt.dry_run)
    if by_layer:
        graph = channel_graph(source.model)
        for glob in by_layer:
            select(graph, glob, f"--budget {opt.budget}")
    labels = how.labels or source.train.get("st")  # what a sparse training made is of its classes
    classes = source.model.nc if labels else None
    data = check_data(opt.data, classes, splits) if opt.data and splits else None
    single = source.train.get("single_cls") and source.model.nc == 1  # all classes are one to it
    renewed = False
    if data is not None and not single and not same_classes(source.model, data["names"]):
        renewed, names = True, data["names"]
        model = with_classes(source.model, names, seed=opt.seed)
        source = replace(source, model=model, names=names)

    if chosen and how.data and data is not None and not renewed:
        known, wish = not single and labelled(data), wished(*(getattr(opt, n) for n in TARGETS))
        opt.criterion = criterion_for(source.model, wish, known)
        how = find(opt.criterion)
        if opt.recover is None and not opt.dry_run:
            recover = ALL  # mAP is measured after each part, and says what helps
    if opt.dry_run:
        recover = tuple(part for part in recover if part != "distill")

    as_trained_(opt, source, ratios)
    target = {name: getattr(opt, name) for name in TARGETS}
    if looks:  # what is out of reach is refused before images are looked at
        check_reach(
            source.model,
            wished(*target.values()),
            residual=opt.residual or how.residual,
            round_to=opt.round_to,
            min_channels=opt.min_channels,
            keep=opt.keep,
            ratios=ratios,
            imgsz=imgsz,
        )

    def cut(judge: Judge | None = None) -> Pruned:
        calibration = None
        if looks and data is not None:
            calibration = calibrate(
                data,
                source.model,
                imgsz=imgsz,
                images=opt.calib_images,
                batch_size=how.batch,
                seed=opt.seed,
                labels=how.labels and not renewed and not single,
            )
        return prune(
            source.model,
            **target,
            criterion=opt.criterion,
            calibration=calibration,
            budget=budget,
            round_to=opt.round_to,
            min_channels=opt.min_channels,
            residual=opt.residual,
            keep=opt.keep,
            ratios=ratios,
            steps=opt.steps,
            recover=recover,
            judge=judge,
            imgsz=imgsz,
            threads=opt.threads,
            seed=opt.seed,
        )

    print(f"Pruning {source}")
    if chosen:
        print(f"--criterion {opt.criterion}: {WHY[opt.criterion]}")
    elif opt.criterion == "bn" and not source.train.get("st"):
        print("Not trained with --st: its gammas say little; try --criterion auto --data D.")
    if renewed:
        text = ", ".join(source.model.names.values())
        print(f"A new head for {text}: it keeps its boxes, and knows no class until it is trained.")
    if opt.dry_run:
        planned = cut()
        print(planned.report)
        if opt.criterion == "bn" and (text := cost(source, planned.masks)):
            print(text)
        print("Nothing was written or validated (--dry-run).")
        return None
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    try:
        judge = judge_of(data, opt, imgsz) if data and not renewed else None
        pruned = cut(judge)
        accuracy = measured(source, pruned, judge) if judge else {}
        report = write_cut(folder, source, pruned, accuracy, opt, imgsz)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    print(pruned.report.layer_table())
    print(report["text"])
    if opt.criterion == "bn" and (text := cost(source, pruned.masks)):
        print(text)
    print(f"{folder / 'pruned.pt'}, pruned.yaml, masks.pt, report.json, channels.png")
    more = "" if opt.data or source.train.get("data") else " --data mydata.yaml"
    print(f"Next: python finetune_pruned.py --weights {folder / 'pruned.pt'}{more}")
    return folder


def resolve_criterion_(opt: argparse.Namespace, source: Checkpoint) -> bool:
    """Fill in what is not given of criterion, data and target, by how a model was trained.

    Returns:
        Whether the criterion was chosen here.
    """
    sparse = bool(source.train.get("st"))
    if opt.data is None and opt.criterion in ("auto", "thinet") and not sparse:
        known = source.train.get("data")  # of another machine, often
        opt.data = str(known) if known and Path(str(known)).is_file() else None
    if opt.criterion != "auto":
        return False
    opt.criterion = "bn" if sparse else "thinet" if opt.data else "l2"
    targets = (opt.percent, opt.params, opt.size_mb, opt.latency, opt.budget)
    if not sparse and not opt.ratio and all(given is None for given in targets):
        opt.macs = MACS if opt.macs is None else opt.macs
    return True


def read_budget(opt: argparse.Namespace) -> tuple[Any, dict[str, float]]:
    """How the cut spreads, and the shares of a --budget that is a yaml.

    Layers that such a yaml does not name stay whole, or make up the rest of the target if there is
    one.

    Raises:
        InputError: no such file, or it is neither shares by layer nor a scan.
    """
    from yolo_slim.pruning.budget.spread import BUDGETS

    if opt.budget in (None, *BUDGETS):
        return opt.budget, {}
    where, path = f"--budget {opt.budget}", Path(opt.budget)
    if not path.is_file():
        raise InputError(where, "no such file", f"{', '.join(BUDGETS)}, a yaml or a csv")
    if path.suffix == ".csv":
        from yolo_slim.sensitivity.run import read_scan

        return read_scan(path), {}
    from yolo_slim.pruning.budget.globs import read_ratios

    ratios = read_ratios(path, where)
    targets = (opt.percent, opt.macs, opt.params, opt.size_mb, opt.latency)
    rest = {"*": 0.0} if all(target is None for target in targets) else {}
    return None, rest | ratios


def parts_of(text: str | None, default: Sequence[str]) -> tuple[str, ...]:
    """The parts that --recover names.

    Raises:
        InputError: it names another one.
    """
    from yolo_slim.pruning.recover.recover import ALL, check_parts

    if text in (None, "none"):
        return check_parts(default if text is None else ())
    parts = [part.strip() for part in str(text).split(",")]
    return check_parts([*(ALL if "all" in parts else ()), *(p for p in parts if p != "all")])


def judge_of(data: dict, opt: argparse.Namespace, imgsz: int) -> Judge:
    """YOLOv5's validation of a model on the data."""
    from functools import partial

    from yolo_slim.host.evaluate import evaluate

    return partial(
        evaluate,
        data=data,
        imgsz=imgsz,
        batch_size=opt.batch_size,
        workers=opt.workers,
        device=opt.device,
    )


def measured(source: Checkpoint, pruned: Pruned, judge: Judge) -> dict[str, Accuracy]:
    """mAP of the dense model, as it was cut, and of what recovery made of it."""
    print("Validating the dense model")
    found = {"dense": judge(source.model), "masked": pruned.recovery.cut}
    found["pruned"] = pruned.recovery.accuracy
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}
