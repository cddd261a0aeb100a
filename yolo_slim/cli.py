"""`yolo-slim <command>`, and what all scripts share: one line and exit code 2 on bad input."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.parsing import PAGE, Parser

GROUPS = {  # in the order of use
    "all in one": {
        "slim": "cut, recover and train on, in one command",
        "demo": "the four steps on a small data set of shapes",
    },
    "step by step": {
        "sparse": "before the cut: train until many channels are zero",
        "prune": "cut the channels that matter least",
        "finetune": "train the pruned model on",
        "export": "write ONNX and TorchScript, checked and timed",
    },
    "look before you cut": {
        "inspect": "what may be cut, what is tied or pinned, and why",
        "sensitivity": "mAP with each layer cut alone",
    },
    "compare": {
        "bench": "parameters, MACs, file size and latency, side by side",
        "val": "YOLOv5's val.py, for pruned models too",
        "detect": "YOLOv5's detect.py, for pruned models too",
    },
    "besides": {"finegrained": "set single weights to zero, and keep them there"},
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
USUAL = "yolo-slim slim --weights best.pt --data mydata.yaml --macs 0.5 --epochs 100"
TRAININGS = ("slim", "sparse", "finetune")
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


def admit_modules(argv: Sequence[str] | None) -> None:
    """Import the files of --modules: before the command, since all that it opens may need them.

    Raises:
        InputError: a file that does not import.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--modules", action="append")
    files = parser.parse_known_args(argv)[0].modules
    if files:
        from yolo_slim.extensions import admit

        for file in files:
            admit(file)


def run(command: str, argv: Sequence[str] | None = None) -> int:
    """Run a command as a script does.

    Returns:
        The exit code, see `guarded`.
    """

    def work() -> None:
        if command in TRAININGS:  # what is wrong at first sight is said before YOLOv5 is imported
            import_module(f"yolo_slim.commands.{command}_options").parse(argv)
        admit_modules(argv)
        import_module(f"yolo_slim.commands.{command}").main(argv)

    return guarded(work, " (a training goes on with --resume)" if command in TRAININGS else "")


def guarded(work: Callable[[], Any], advice: str = "") -> int:
    """Do what a script does, and say in one line why it ended.

    Args:
        work: what it does.
        advice: what an interrupted user is told besides.

    Returns:
        The exit code: 0, 2 for bad input, 1 where a result is not what it must be.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a letter shows its code
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        work()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except CheckFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted{advice}", file=sys.stderr)
        return 130
    return 0


def overview() -> str:
    """The commands in groups, for --help."""
    parts = []
    for title, group in GROUPS.items():
        lines = [f"{title}:", *(f"  {name:<13}{text}" for name, text in group.items())]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, f"for most people:\n  {USUAL}", PAGE])


def main() -> NoReturn:
    """Entry point of the console command `yolo-slim`."""
    parser = Parser(
        prog="yolo-slim",
        description="Make a YOLOv5 detector smaller and faster.",
        epilog=overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="one of those below")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="see `yolo-slim <command> --help`"
    )
    args = parser.parse_args()
    sys.exit(run(args.command, args.options))
