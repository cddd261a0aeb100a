"""The parsers of all commands: what is wrong is said in one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


class OneLineParser(Parser):
    """The parser of a command: one line on an error, and --modules."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        text = "Python file with module classes of your own, and rules for them (repeatable)"
        self.add_argument("--modules", action="append", metavar="FILE", help=text)
