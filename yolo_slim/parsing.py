"""The parsers of all commands: what is wrong is told in one line, with what was probably meant."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from yolo_slim.errors import check_place

PAGE = "Which option for which wish: docs/options.md"  # the last line of each help
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212"  # texts from the web have others than "-"
BY_SUFFIX = {".pt": "--weights", ".yaml": "--data", ".yml": "--data"}  # of a file without option
NEAR = 0.6  # of difflib: how alike a word and its correction are, at least


class Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one line, with the option or value that comes nearest."""

    _words: Sequence[str] = ()  # what is parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        options, rest = super().parse_known_args(self._words, namespace)
        for name, value in vars(options).items():
            setattr(options, name, at_home(value))
        return options, rest

    def error(self, message: str) -> NoReturn:
        if number := re.match(r"argument (\S+): invalid (int|float) value: '(.*)'", message):
            kind = "a whole number" if number[2] == "int" else "a number, such as 0.5"
            message = f"{number[1].split('/')[0]}: {number[3]!r}, expected {kind}"
        advice = self._advice(message)
        text = f"{message}; {advice}" if advice else message
        self.exit(2, f"error: {text} (see --help)\n")

    def _advice(self, message: str) -> str:
        """What was probably meant; "" if nothing comes near."""
        if unknown := re.match(r"unrecognized arguments: (.*)", message):
            return self._about_words(unknown[1].split(" "))
        if message.startswith("the following arguments are required"):  # a misspelt one, perhaps
            known = tuple(name for a in self._actions for name in a.option_strings)
            options = [word for word in self._words if word[:2] == "--"]
            return self._about_words([w for w in options if w.partition("=")[0] not in known])
        if wrong := re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            return did_you_mean(wrong[1].lower(), re.findall(r"[^\s,']+", wrong[2]))
        return ""

    def _shown(self) -> list[argparse.Action]:
        """The options that --help shows."""
        return [action for action in self._actions if action.help != argparse.SUPPRESS]

    def _about_words(self, words: Sequence[str]) -> str:
        """About words that are no options, and values of none."""
        known = {name.lstrip("-"): name for a in self._shown() for name in a.option_strings}
        for word in words:
            bare = word.partition("=")[0]
            if bare[:1] and bare[0] in DASHES:
                return did_you_mean(bare.lstrip(DASHES).lower().replace("_", "-"), known)
            for suffix, option in BY_SUFFIX.items():
                if bare.endswith(suffix) and option in known.values():
                    return f"did you mean {option} {bare}?"
        if not words:
            return ""
        before = self._words[: self._words.index(words[0])] if words[0] in self._words else []
        options = [word for word in before if word[:1] == "-"]
        if options and words[0].isdigit() and options[-1] in ("--imgsz", "--img", "--img-size"):
            return f"{options[-1]} takes one number: images are letterboxed into a square"
        return ""


def did_you_mean(word: str, known: Mapping[str, str] | Iterable[str]) -> str:
    """A question with what is nearest to a word; "" if nothing is near.

    Args:
        word: as it was typed.
        known: what it may be; of a mapping the key is compared and the value is told.

    Example:
        >>> did_you_mean("perzent", {"percent": "--percent", "params": "--params"})
        'did you mean --percent?'
        >>> did_you_mean("gamma", ["taylor"])
        ''
    """
    names = known if isinstance(known, Mapping) else {name: name for name in known}
    near = get_close_matches(word, names, n=1, cutoff=NEAR)
    return f"did you mean {names[near[0]]}?" if near else ""


class Formatter(argparse.HelpFormatter):
    """Help whose values are called N and X, where they are numbers; no word is broken."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = self._split_lines(text, width - len(indent))
        return "\n".join(indent + line for line in lines)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if action.type in (int, float):
            return "N" if action.type is int else "X"
        return super()._get_default_metavar_for_optional(action)


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
    """The parser of a command: one line on an error, and a --help in groups.

    Its usage names what must be given; options that all commands have come last.

    Args:
        cfg: whether it has a --cfg for bare weights; YOLOv5's trainings have one of their own.

    Raises:
        InputError: --project and --name name no folder, when a command line is parsed.
    """

    def __init__(self, *args: Any, cfg: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **{"epilog": PAGE, "formatter_class": Formatter, **kwargs})
        self._optionals.title = "as in every command"
        self._positionals.title = "what is read"
        text = "Python file with module classes of your own, and rules for them (repeatable)"
        self.add_argument("--modules", action="append", metavar="FILE", help=text)
        text = "folder of a modified YOLOv5 clone, whose module classes the checkpoint names"
        self.add_argument("--clone", action="append", metavar="DIR", dest="modules", help=text)
        if cfg:
            text = "model yaml, by path or name (yolov5n.yaml), for weights without a model in them"
            self.add_argument("--cfg", metavar="YAML", help=text)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = super().parse_known_args(args, namespace)
        if hasattr(options, "project") and hasattr(options, "name"):
            check_place(str(options.project), options.name)
        return options, rest

    def format_help(self) -> str:
        words = []
        for action in self._actions:
            value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
            if not action.option_strings:
                words.append(value)
            elif action.required:
                words.append(f"{action.option_strings[0]} {value}")
        if self.usage is None:
            self.usage = " ".join(["%(prog)s", *words, "[options]"])
        self._action_groups.sort(key=lambda group: group is self._optionals)
        return super().format_help()


def add_place(group: argparse._ArgumentGroup, project: str, *, exist_ok: bool = True) -> None:
    """The options that say where results are written.

    Args:
        group: that gets them.
        project: the default of --project.
        exist_ok: with --exist-ok.
    """
    group.add_argument(
        "--project", default=project, help=f"save to project/name (default: {project})"
    )
    group.add_argument("--name", default="exp", help="save to project/name (default: exp)")
    if exist_ok:
        text = "an existing project/name is written to"
        group.add_argument("--exist-ok", action="store_true", help=text)


def add_validation(group: argparse._ArgumentGroup, data: str, device: str = "") -> None:
    """The options of a validation.

    Args:
        group: that gets them.
        data: the help of --data.
        device: what --device takes besides, for its help.
    """
    group.add_argument("--data", help=data)
    text = "image size, px (default: that of the training, or 640)"
    group.add_argument("--imgsz", "--img", type=int, help=text)
    text = "of the validation (default: 32)"
    group.add_argument("--batch-size", type=int, default=32, help=text)
    text = "data loaders of the validation (default: 2)"
    group.add_argument("--workers", type=int, default=2, help=text)
    text = "of the validation: 0, cpu (default: the first GPU, or the CPU)"
    group.add_argument("--device", default="", help=f"{text}{device}")


def add_no_page(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """The option that leaves no page in a run's folder."""
    text = "leave no report.html in the run's folder: it takes a validation and some exports"
    group.add_argument("--no-page", action="store_true", help=text)
