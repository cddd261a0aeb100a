"""`yolo-slim <command>`, and what all scripts share: one line and exit code 2 on bad input."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from yolo_slim.errors import CheckFailed, InputError

COMMANDS = {
    "sparse": "train with channel sparsity (YOLOv5's training and an L1 on BatchNorm)",
    "prune": "cut the channels with small gamma",
    "finetune": "train the pruned model (YOLOv5's training)",
    "export": "write ONNX and TorchScript, checked against PyTorch and measured",
    "val": "YOLOv5's val.py, on pruned models too",
    "detect": "YOLOv5's detect.py, on pruned models too",
    "demo": "all four steps on a small data set of shapes",
}

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def run(command: str, argv: Sequence[str] | None = None) -> int:
    """Run a command as a script does.

    Returns:
        The exit code: 0, 2 for bad input, 1 where a result is not what it must be.
    """
    try:
        import_module(f"yolo_slim.commands.{command}").main(argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except CheckFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted (a training goes on with --resume)", file=sys.stderr)
        return 130
    return 0


def main() -> NoReturn:
    """Entry point of the console command `yolo-slim`."""
    parser = OneLineParser(
        prog="yolo-slim",
        description="Make a YOLOv5 detector smaller and faster.",
        epilog="\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="see `yolo-slim <command> --help`"
    )
    args = parser.parse_args()
    sys.exit(run(args.command, args.options))
