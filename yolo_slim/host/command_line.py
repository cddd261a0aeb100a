"""The command lines of YOLOv5's loops, with our options: parsed without importing YOLOv5."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError, check_count, check_imgsz, check_seed
from yolo_slim.files import CHECKPOINT, check_file, read_mapping
from yolo_slim.host.option_groups import adder
from yolo_slim.host.sources import check_data_file, declared_options, root
from yolo_slim.parsing import OneLineParser

SEGMENT = {"val": "segment/val.py", "detect": "segment/predict.py"}
SCRIPTS = {"detection": "train.py", "segmentation": "segment/train.py"}  # by the kind of model


def default_hyp() -> Path:
    """The host's hyperparameters for a training from little."""
    return root() / "data" / "hyps" / "hyp.scratch-low.yaml"


def parse_options(
    argv: Sequence[str] | None,
    *,
    add: Callable[[argparse.ArgumentParser], None],
    prog: str,
    description: str,
    **defaults: Any,
) -> argparse.Namespace:
    """YOLOv5's training options, those of both loops, and ours.

    Args:
        argv: the command line, None for sys.argv.
        add: adds our options to the host's parser.
        prog: name of the script, for --help.
        description: what it does, for --help.
        defaults: defaults that differ from the host's.
    """
    parser = OneLineParser(prog=prog, description=description)
    add(parser)  # ours come first in --help
    add_host = adder(parser)
    detection, segmentation = (declared_options(script) for script in SCRIPTS.values())
    for name, (flags, kwargs) in {**segmentation, **detection}.items():
        only = "detection" if name not in segmentation else "segmentation"
        if name not in detection or name not in segmentation:
            kwargs = {**kwargs, "help": f"{kwargs.get('help', '')} ({only} models)"}
        add_host(name, *flags, **kwargs)
    parser.set_defaults(hyp=str(default_hyp()), **defaults)
    opt = parser.parse_args(argv)
    opt.modules = [str(Path(file).absolute()) for file in opt.modules or []]
    return opt


def check_training(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong with the host's options, without the model.

    Raises:
        InputError: a number is out of range, or a file is not there.
    """
    check_count("--workers", opt.workers, 0)
    if opt.imgsz is not None:
        check_imgsz(opt.imgsz)
    check_count("--epochs", opt.epochs)
    check_seed("--seed", opt.seed)
    if opt.batch_size == 0 or opt.batch_size < -1:
        raise InputError("--batch-size", opt.batch_size, "1 or more, or -1 for autobatch")
    if opt.data is not None:
        check_data_file(opt.data)
    if opt.weights:
        check_file(opt.weights, opt.weights, CHECKPOINT)
    for option, value in (("--cfg", opt.cfg), ("--hyp", opt.hyp)):
        if value and not Path(value).is_file() and not shipped_with_host(value):
            raise InputError(f"{option} {value}", "no such file", "a yaml file")
    check_hyp(opt.hyp if Path(opt.hyp).is_file() else str(shipped_with_host(opt.hyp)[0]))


def check_resume(last: str | bool, given: Sequence[str]) -> None:
    """See that a training that goes on is there, and is not asked for something else.

    Args:
        last: of --resume: its last.pt, or True for the newest.
        given: options of ours besides.

    Raises:
        InputError: it is not there, or there are such options.
    """
    refuse_given(given)
    if isinstance(last, str) and not (Path(last).parent.parent / "opt.yaml").is_file():
        check_file(last, last, CHECKPOINT)


def refuse_given(given: Sequence[str]) -> None:
    """Refuse options of ours beside --resume.

    Raises:
        InputError: there is one.
    """
    for name in given:
        raise InputError(name, "given with --resume", "the options of the run that goes on")


def shipped_with_host(name: str) -> list[Path]:
    """The files of YOLOv5 of a name."""
    return [file for file in root().rglob("*.yaml") if file.name == Path(name).name]


def check_hyp(path: str) -> None:
    """Check that a hyp yaml has all that the host looks up in it.

    Raises:
        InputError: it is no yaml, or an entry is missing.
    """
    hyp, least = read_mapping(path, "hyperparameters"), read_mapping(default_hyp(), "")
    missing = [key for key in least if not isinstance(hyp.get(key), int | float)]
    if missing:
        raise InputError(
            f"--hyp {path}", f"no number {', '.join(missing)}", f"all of {default_hyp().name}"
        )


def check_script(name: str, argv: Sequence[str] | None) -> None:
    """Everything that can be known to be wrong with the command line of YOLOv5's val or detect.

    Args:
        name: val or detect.
        argv: the command line, None for sys.argv.

    Raises:
        InputError: weights or data are not there.
    """
    parser = OneLineParser(prog=f"yolo-slim {name}")
    both = {**declared_options(SEGMENT[name]), **declared_options(f"{name}.py")}
    for flags, kwargs in both.values():
        parser.add_argument(*flags, **kwargs)
    parser.set_defaults(weights=[], data=None)
    opt = parser.parse_args(argv)
    for file in opt.weights if isinstance(opt.weights, list) else [opt.weights]:
        if Path(file).suffix == ".pt":
            check_file(file, file, CHECKPOINT)
    if opt.data is not None:
        check_data_file(opt.data)


def names_given(
    opt: argparse.Namespace, add: Callable[[argparse.ArgumentParser], None]
) -> list[str]:
    """The options of ours that were given, as the command line calls them.

    Args:
        opt: what was parsed.
        add: adds our options to a parser.
    """
    parser = argparse.ArgumentParser()
    add(parser)
    ours = vars(parser.parse_args([]))
    return [f"--{n.replace('_', '-')}" for n, unset in ours.items() if getattr(opt, n) != unset]
