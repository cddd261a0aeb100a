"""The command lines of YOLOv5's loops, with our options: parsed without importing YOLOv5."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.host.option_groups import adder
from yolo_slim.host.shown_defaults import DEVICE, show_defaults_
from yolo_slim.host.sources import declared_options, root
from yolo_slim.parsing import OneLineParser
from yolo_slim.runs import STATE

BESIDE_RESUME = ("--resume", "--modules", "--clone", "--local_rank")
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
    unset: Mapping[str, str] | None = None,
    usage: str | None = None,
    **defaults: Any,
) -> argparse.Namespace:
    """YOLOv5's training options, those of both loops, and ours.

    Args:
        argv: the command line, None for sys.argv.
        add: adds our options to the host's parser.
        prog: name of the script, for --help.
        description: what it does, for --help.
        unset: what is taken for an option of YOLOv5's that has no default, for --help.
        usage: for --help, where options have to be given; %(prog)s is the command.
        defaults: defaults that differ from the host's.
    """
    parser = training_parser(add, prog=prog, description=description, usage=usage)
    parser.set_defaults(hyp=str(default_hyp()), **defaults)
    hosts = {name for script in SCRIPTS.values() for name in declared_options(script)}
    actions = [action for action in parser._actions if action.dest in hosts]
    show_defaults_(actions, {"device": DEVICE, **(unset or {})})
    opt = parser.parse_args(argv)
    if opt.resume == "":
        expected = "a run's folder or its last.pt; nothing after it: the newest run"
        raise InputError("--resume", "an empty name", expected)
    opt.modules = [str(Path(file).absolute()) for file in opt.modules or []]
    opt.save_period = opt.save_period if opt.save_period > 0 else -1  # YOLOv5 divides by 0
    return opt


def training_parser(
    add: Callable[[argparse.ArgumentParser], None], **texts: str | None
) -> argparse.ArgumentParser:
    """A parser of YOLOv5's training options, those of both loops, and of ours."""
    parser = OneLineParser(cfg=False, **texts)
    add(parser)  # ours come first in --help
    add_host = adder(parser)
    detection, segmentation = (declared_options(script) for script in SCRIPTS.values())
    for name, (flags, kwargs) in {**segmentation, **detection}.items():
        only = "detection" if name not in segmentation else "segmentation"
        if name not in detection or name not in segmentation:
            kwargs = {**kwargs, "help": f"{kwargs.get('help', '')} ({only} models)"}
        add_host(name, *flags, **kwargs)
    return parser


def refuse_beside_resume(
    argv: Sequence[str] | None,
    add: Callable[[argparse.ArgumentParser], None],
    run_folder: Callable[[], Path],
    allowed: Sequence[str] = (),
) -> None:
    """Refuse all that a run which goes on would not listen to: it has options of its own.

    Args:
        argv: the command line, None for sys.argv.
        add: adds our options to a parser.
        run_folder: gives the folder of the run, or raises where there is none.
        allowed: of ours that may stand there.

    Raises:
        InputError: it has such an option; what `run_folder` raises.
    """
    ours, hosts = names_given(argv, add)
    refuse(name for name in ours if name not in allowed)
    if any((run_folder() / name).is_file() for name in ("opt.yaml", STATE)):
        refuse(name for name in hosts if name not in BESIDE_RESUME)


def refuse(names: Iterable[str]) -> None:
    """Refuse options beside --resume.

    Raises:
        InputError: there is one.
    """
    for name in names:
        raise InputError(name, "given with --resume", "the options of the run that goes on")


def names_given(
    argv: Sequence[str] | None, add: Callable[[argparse.ArgumentParser], None]
) -> tuple[list[str], list[str]]:
    """The options that a command line has, by their first names; those with a default as well.

    Returns:
        Ours, and YOLOv5's with those of all commands.
    """
    parser = training_parser(add, prog="")
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    given = parser.parse_args(argv)
    flags = {action.dest: action.option_strings[0] for action in parser._actions}
    own = argparse.ArgumentParser(add_help=False)
    add(own)
    ours = [flags[name] for name in vars(given) if name in vars(own.parse_args([]))]
    return ours, [flags[name] for name in vars(given) if flags[name] not in ours]
