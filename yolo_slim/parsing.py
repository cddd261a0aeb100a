"""The parsers of all commands: what is wrong is said in one line."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        options, rest = super().parse_known_args(*args, **kwargs)
        for name, value in vars(options).items():
            setattr(options, name, at_home(value))
        return options, rest

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def at_home(value: Any) -> Any:
    """A value of an option, or a list of them, where `~` stands for the user's folder.

    The shell leaves it alone in `--weights=~/best.pt`, in quotes, and in a program's arguments.
    """
    if isinstance(value, list):
        return [at_home(item) for item in value]
    if isinstance(value, Path):
        return Path(at_home(str(value)))
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    with suppress(RuntimeError):  # a user who is not known here
        return str(Path(value).expanduser())
    return value


class OneLineParser(Parser):
    """The parser of a command: one line on an error, and how its checkpoints are opened.

    Args:
        cfg: whether it has a --cfg for bare weights; YOLOv5's trainings have one of their own.
    """

    def __init__(self, *args: Any, cfg: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        text = "Python file with module classes of your own, and rules for them (repeatable)"
        self.add_argument("--modules", action="append", metavar="FILE", help=text)
        text = "folder of a modified YOLOv5 clone, whose module classes the checkpoint names"
        self.add_argument("--clone", action="append", metavar="DIR", dest="modules", help=text)
        if cfg:
            text = "model yaml, by path or name (yolov5n.yaml), for weights without a model in them"
            self.add_argument("--cfg", metavar="YAML", help=text)
