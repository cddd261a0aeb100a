"""The options of prune, and what can be known to be wrong with them without the model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.as_called import named
from yolo_slim.channels.residual import RESIDUAL
from yolo_slim.errors import InputError, check_count, check_imgsz, check_seed, option_of
from yolo_slim.files import CHECKPOINT, check_file
from yolo_slim.host.data_yaml import check_data_file
from yolo_slim.parsing import OneLineParser, add_no_page, add_place, add_validation
from yolo_slim.pruning.budget.ratios import parse_ratio, read_ratios
from yolo_slim.pruning.budget.target import MACS, PERCENT, Target, given_targets
from yolo_slim.pruning.criteria.table import (
    AUTO,
    BUDGETS,
    CRITERIA,
    FITTED,
    Criterion,
    check_depth,
    find,
    name_given,
)
from yolo_slim.pruning.recover.table import ALL, PARTS, parse_parts

TABLE = ".json"  # of what --device names
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
        prog=named("prune"),
        description="Cut the channels that matter least and rebuild the detector: of a sparse "
        "training those that it brought to zero, of any other model those that its next layers "
        "miss least. A model of other classes than the data's gets a new head for them.",
    )
    add = parser.add_argument_group("what is cut").add_argument
    add("--weights", help="checkpoint (default: of the newest sparse training in runs/)")
    text = 'layers never to cut, such as "model.2" or "model.*.cv1.bn" (repeatable)'
    add("--keep", action="append", default=[], metavar="GLOB", help=text)
    text = "cut this share of these layers; the others make up the rest (repeatable)"
    add("--ratio", action="append", default=[], metavar="GLOB=SHARE", help=text)
    text = "what may be cut around residual adds: nothing, inner channels, all tied together"
    text += f" (default: as in the sparse training; else skip, inner {rows_with(residual='inner')})"
    add("--residual", choices=RESIDUAL, help=text)
    text = "residual Bottlenecks may go as a whole too, the identity stays (with --residual inner "
    text += "or group; default then inner). By default they may for --latency alone"
    add("--depth", action=argparse.BooleanOptionalAction, help=text)
    text = "each layer keeps at least so many (default: 1)"
    add("--min-channels", type=int, default=1, help=text)
    text = "kept channels are multiples of N where a layer is wide enough; 1: any (default: as in "
    add("--round-to", type=int, metavar="N", help=text + "the sparse training, else 32)")
    amount = parser.add_argument_group("how much (one of the first five)")
    group = amount.add_mutually_exclusive_group()
    text = "share of the prunable channels to cut, [0, 1) (default after a sparse training: what "
    text += f"that aimed at, or {PERCENT:g})"
    group.add_argument("--percent", type=float, help=text)
    text = f"share of the MACs that is left, (0, 1] (default of any other model: {MACS:g})"
    group.add_argument("--macs", type=float, help=text)
    group.add_argument("--params", type=float, help="share of the parameters that is left, (0, 1]")
    group.add_argument("--size-mb", type=float, help="size of pruned.pt, 10^6 bytes")
    text = "share of the time that is left, (0, 1]: on a device with --device device.json, else on "
    text += "this machine in ONNX Runtime, whose table is measured first"
    group.add_argument("--latency", type=float, help=text)
    text = "of ONNX Runtime, for --latency without a table (default: 2)"
    amount.add_argument("--threads", type=int, help=text)
    add = parser.add_argument_group("how channels are chosen").add_argument
    text = f"how they are scored: auto (default: bn after {named('sparse')} --st; of any other "
    text += "model thinet with data, for a small cut obs, without data l2), "
    text += f"{', '.join(map(told, CRITERIA.values()))}, or one of --modules"
    add("--criterion", type=name_given, default=AUTO, metavar="NAME", help=text)
    text = "how the cut spreads over the layers: global (default), uniform "
    text += f"({rows_with(spread='uniform')}), per-mac (most MACs for the least score; "
    text += f"{rows_with(spread='per-mac')}), a yaml of shares by layer, or the "
    text += f"sensitivity.csv of `{named('sensitivity')}`"
    add("--budget", metavar="NAME|FILE", help=text)
    text = "cut little by little: recover after each of N steps, and score anew (default: 1)"
    add("--steps", type=int, metavar="N", default=1, help=text)
    text = "images of the training split to look at (default: 128)"
    add("--calib-images", type=int, default=128, help=text)
    text = "of the calibration images, and of --criterion random (default: 0)"
    add("--seed", type=int, default=0, help=text)
    add = parser.add_argument_group("after the cut").add_argument
    text = "what is done, with commas: "
    text += ", ".join(f"{part.name} ({part.help})" for part in PARTS.values())
    text += f", all ({', '.join(ALL)}), none; default constants, {rows_with(recover=FITTED)} "
    text += f"{','.join(FITTED)}, with auto and data of the model's classes all"
    add("--recover", metavar="PARTS", help=text)
    text = "data yaml: validate the model before, after the cut and as recovered (default, for a "
    text += "model that was not trained with --st: that of its training, where it is here)"
    device = "; of --latency: device.json, the table of a device"
    add_validation(parser.add_argument_group("measured on"), text, device)
    shown = parser.add_argument_group("shown and written")
    add = shown.add_argument
    add("--dry-run", action="store_true", help="print the plan, write nothing")
    text = "print each BatchNorm (they are in report.json and channels.png too)"
    add("--layers", action="store_true", help=text)
    add_no_page(shown)
    add_place(shown, "runs/prune")
    opt = parser.parse_args(argv)
    split_device_(opt)
    return opt


def split_device_(opt: argparse.Namespace) -> None:
    """What --device names: a file is the table of a device, all else what a model is run on."""
    opt.table = None
    if opt.device.endswith(TABLE) or Path(opt.device).is_file():
        opt.table, opt.device = opt.device, ""


def check_table(opt: argparse.Namespace) -> None:
    """See that a table is there, that it is wanted, and that nothing is given which it decides.

    Raises:
        InputError: it is not.
    """
    if opt.latency is not None and opt.round_to is not None:
        raise InputError("--round-to", f"{opt.round_to}, with --latency", "none: the table decides")
    if opt.table is None:
        return
    if opt.latency is None:
        raise InputError("--device", f"{opt.table}, without --latency", "--latency S with it")
    check_file(f"--device {opt.table}", opt.table, f"a table that `{named('profile')}` wrote")
    if getattr(opt, "threads", None) is not None:  # slim has no such option
        got = f"{opt.threads}, with --device {opt.table}"
        raise InputError("--threads", got, "none: those of the table count")


def told(row: Criterion) -> str:
    """A criterion for --help."""
    notes = ", ".join(filter(None, [row.help, "needs --data" * row.data]))
    text = f"{row.name} ({notes})" if notes else row.name
    return text.replace("%", "%%")  # argparse formats a help text


def rows_with(**fields: Any) -> str:
    """The criteria that have such defaults, for --help."""
    rows = [r.name for r in CRITERIA.values() if all(getattr(r, k) == v for k, v in fields.items())]
    return f"with {', '.join(rows)}"


def check(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without the model; nothing heavy is imported.

    Raises:
        InputError: an option is out of range, names nothing, or excludes another one.
    """
    for name, least in LEAST.items():
        if getattr(opt, name) is not None:
            check_count(option_of(name), getattr(opt, name), least)
    wanted(opt)
    check_table(opt)
    if opt.latency is not None and opt.budget in BUDGETS:
        raise InputError("--budget", f"{opt.budget}, with --latency", "none: the table decides")
    check_seed("--seed", opt.seed)
    if opt.criterion != AUTO:
        find(opt.criterion, also=(AUTO,))
    read_shares(opt)
    if opt.budget not in (None, *BUDGETS):
        expected = f"{', '.join(BUDGETS)}, a yaml or a csv"
        check_file(f"--budget {opt.budget}", opt.budget, expected)
    scan = opt.budget not in (None, *BUDGETS) and Path(opt.budget).suffix == ".csv"
    check_depth(bool(opt.depth), opt.residual, named=not scan)
    parse_parts(opt.recover)
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    if opt.weights:
        check_file(opt.weights, opt.weights, CHECKPOINT)
    if opt.data:
        check_data_file(opt.data)


def wanted(opt: argparse.Namespace) -> Target:
    """The target of the options.

    Raises:
        InputError: see `Target`.
    """
    return Target.of(
        percent=opt.percent,
        macs=opt.macs,
        params=opt.params,
        size_mb=opt.size_mb,
        latency=opt.latency,
    )


def read_shares(opt: argparse.Namespace) -> dict[str, float]:
    """The shares by layer of a --budget that is a yaml, and of --ratio.

    Layers that such a yaml does not name stay whole, or make up the rest of the target if there is
    one.

    Raises:
        InputError: they are no shares.
    """
    shares: dict[str, float] = {}
    if opt.budget not in (None, *BUDGETS) and Path(opt.budget).suffix != ".csv":
        where = f"--budget {opt.budget}"
        check_file(where, opt.budget, f"{', '.join(BUDGETS)}, a yaml or a csv")
        shares = {} if given_targets(vars(opt)) else {"*": 0.0}
        shares |= read_ratios(opt.budget, where)
    return shares | dict(parse_ratio(text) for text in opt.ratio)
