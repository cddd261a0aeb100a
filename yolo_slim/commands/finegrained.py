"""finegrained: set single weights to zero, and keep the masks that hold them there."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.as_called import as_called, named
from yolo_slim.errors import (
    InputError,
    check_count,
    check_imgsz,
    check_seed,
    check_share,
    option_of,
)
from yolo_slim.files import CHECKPOINT, check_file, read_mapping
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.packages import TIMED, check_imports
from yolo_slim.parsing import OneLineParser, add_place, add_validation
from yolo_slim.pruning.budget.ratios import parse_ratio
from yolo_slim.runs import new_run, removed_if_empty
from yolo_slim.text import counted, say

if TYPE_CHECKING:
    from torch import nn

    from yolo_slim.host.evaluate import Accuracy
    from yolo_slim.measure.latency import Latency


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("finegrained"),
        description="Set single weights of convs to zero (torch.nn.utils.prune) and write a "
        f"checkpoint with the masks, which {named('finetune')} holds. The shapes stay as they are.",
    )
    text = "checkpoint (.pt); masks that it has stay, and count"
    parser.add_argument("weights", help=text)
    add = parser.add_argument_group("how much").add_argument
    text = "share of the weights to be zero, [0, 1) (default: 0.5, or 0 with ratios)"
    add("--sparsity", type=float, help=text)
    add("--ratios", metavar="FILE", help="yaml: shares by layer, such as model.2: 0.3")
    text = "this share of these layers, after --ratios; the last that matches decides (repeatable)"
    add("--ratio", action="append", default=[], metavar="GLOB=SHARE", help=text)
    add = parser.add_argument_group("how weights are chosen").add_argument
    text = "global (default): the smallest |w| of all layers that have no ratio; l1: of each "
    text += "layer; l2: whole filters by their norm; random"
    add("--method", choices=["l1", "l2", "random", "global"], default="global", help=text)
    add("--seed", type=int, default=0, help="of the random method (default: 0)")
    group = parser.add_argument_group("measured on")
    add_validation(group, "data yaml: validate before and after")
    add = group.add_argument
    add("--threads", type=int, default=2, help="of ONNX Runtime, for the timing (default: 2)")
    text = "timed rounds, 2 or more (default: 60); 0: no timing"
    add("--repeats", type=int, default=60, help=text)
    group = parser.add_argument_group("shown and written")
    add = group.add_argument
    add("--layers", action="store_true", help="print each layer (they are in report.json too)")
    add_place(group, "runs/finegrained")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Path:
    """Set weights to zero; returns the run's folder."""
    opt = parse(argv)
    for name, least in (("batch_size", 1), ("workers", 0), ("threads", 1), ("repeats", 0)):
        check_count(option_of(name), getattr(opt, name), least)
    if opt.repeats == 1:
        raise InputError("--repeats", 1, "2 or more, or 0 for no timing")
    check_seed("--seed", opt.seed)
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    if opt.sparsity is not None:
        check_share("--sparsity", opt.sparsity, one=False)
    ratios = read_ratios(opt)
    check_file(opt.weights, opt.weights, CHECKPOINT)
    if opt.data:
        check_data_file(opt.data)
    if opt.repeats:
        check_imports(named("finegrained"), TIMED)

    from yolo_slim.files import write_aside
    from yolo_slim.finegrained.weights import sparsify_
    from yolo_slim.host.checkpoint import save_model
    from yolo_slim.host.data import check_data
    from yolo_slim.host.evaluate import check_device
    from yolo_slim.host.image import check_rgb
    from yolo_slim.host.trained_with import classes_of, imgsz_of
    from yolo_slim.models import load
    from yolo_slim.report.tables import accuracy_table
    from yolo_slim.report.timing import timing_text

    check_device(opt.device)
    source = load(opt.weights)
    check_rgb(source.model, opt.weights)
    imgsz = imgsz_of(source, opt.imgsz)
    data = check_data(opt.data, classes_of(source)) if opt.data else None
    sparse = deepcopy(source.model)
    report = sparsify_(sparse, opt.sparsity, ratios=ratios, method=opt.method, seed=opt.seed)
    models = {"before": source.model, "after": sparse}
    folder = new_run(opt.project, opt.name, opt.exist_ok)
    with removed_if_empty(folder):
        accuracy = validate(models, data, opt, imgsz) if data else {}
        times = time_both(models, opt, imgsz) if opt.repeats else {}
        file = save_model(sparse, folder / "sparse.pt", opt=source.train or None)
    latency: dict[str, Any] = {name: asdict(value) for name, value in times.items()}
    if times:
        latency["ratio"] = times["after"].median / times["before"].median
    content = {
        "weights": str(source.path.absolute()),
        "options": {k: v for k, v in vars(opt).items() if v is not None},
        **report.as_dict(),
        "accuracy": {name: asdict(value) for name, value in accuracy.items()},
        "latency": latency,
        "bytes": file.stat().st_size,
    }
    write_aside(folder / "report.json", json.dumps(content, indent=2).encode())
    if opt.layers:
        print(report)
    if accuracy:
        print(accuracy_table(accuracy, "mAP on the validation images"))
    if times:
        sizes = {"threads": opt.threads, "batch": 1, "imgsz": imgsz, "repeats": opt.repeats}
        print(timing_text(times, **sizes))
    text = (
        f"{report.sparsity:.1%} of the weights are zero, in {counted(len(report.layers), 'layer')}"
    )
    say(text + ("." if opt.layers else " (each layer: --layers, report.json)."))
    say(
        "Zeros alone do not make a dense runtime faster: it multiplies by them as by any other "
        f"number. {named('prune')}, which cuts whole channels, does."
    )
    say(f"{file}, report.json")
    print(f"Next: {as_called('finetune', '--weights', file, opt=opt)}")
    return folder


def read_ratios(opt: argparse.Namespace) -> dict[str, float]:
    """Glob to share: of --ratios, then of --ratio, which beats it.

    Raises:
        InputError: no such file, or not a yaml of globs and shares.
    """
    ratios: dict[str, Any] = {}
    if opt.ratios:
        if not Path(opt.ratios).is_file():
            raise InputError(f"--ratios {opt.ratios}", "no such file", "a yaml")
        expected = "globs with shares, such as model.2: 0.3"
        ratios = {str(k): v for k, v in read_mapping(opt.ratios, expected).items()}
        for glob, share in ratios.items():
            check_share(f"--ratios {opt.ratios}, {glob}", share, one=False)
    for glob, share in map(parse_ratio, opt.ratio):
        ratios.pop(glob, None)  # what is given later comes later
        ratios[glob] = share
    return ratios


def validate(
    models: dict[str, nn.Module], data: dict[str, Any], opt: argparse.Namespace, imgsz: int
) -> dict[str, Accuracy]:
    """mAP before and after."""
    from yolo_slim.host.evaluate import evaluate, titled

    accuracy = {}
    for name, model in models.items():
        with titled(f"validating, {name}"):
            accuracy[name] = evaluate(
                model,
                data,
                imgsz=imgsz,
                batch_size=opt.batch_size,
                workers=opt.workers,
                device=opt.device,
            )
    return accuracy


def time_both(
    models: dict[str, nn.Module], opt: argparse.Namespace, imgsz: int
) -> dict[str, Latency]:
    """Latency of both in ONNX Runtime, in turns."""
    from yolo_slim.deploy.export import to_onnx
    from yolo_slim.measure.latency import onnx_latency

    files = {name: to_onnx(model, imgsz=imgsz) for name, model in models.items()}
    return onnx_latency(files, imgsz=imgsz, threads=opt.threads, repeats=opt.repeats)
