"""`yolo-slim <command>`, and what all scripts share: one line and exit code 2 on bad input."""

from __future__ import annotations

import argparse
import codecs
import errno
import io
import locale
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from typing import Any, NoReturn

from yolo_slim.as_called import calling, named
from yolo_slim.errors import CheckFailed, InputError, as_options
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
        "curve": "how much could be cut, beside smaller images: one picture",
        "sensitivity": "mAP with each layer cut alone",
        "profile": "the time of each layer on a device, for cuts by time",
    },
    "compare": {
        "bench": "size, MACs, latency and memory of files, side by side",
        "val": "YOLOv5's val.py, for pruned models too",
        "detect": "YOLOv5's detect.py, for pruned models too",
        "report": "one page from finished runs: before and after, in pictures",
    },
    "besides": {"finegrained": "set single weights to zero, and keep them there"},
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
SLOW = 3.0  # seconds without a word
USUAL = "--weights best.pt --data mydata.yaml --macs 0.5"
TRAININGS = ("slim", "sparse", "finetune")
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}
NO_ROOM |= {errno.ENAMETOOLONG, errno.ELOOP}  # of a path that the user gave


@contextmanager
def opening(command: str, argv: Sequence[str] | None) -> Iterator[None]:
    """Within the block checkpoints open as --modules, --clone and --cfg say.

    They hold before the command's own parser runs, since all that it opens may need them.

    Raises:
        InputError: a file that does not import, or is not there.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--modules", "--clone", action="append")
    parser.add_argument("--cfg")
    opt = parser.parse_known_args(argv)[0]
    from yolo_slim.host.architecture import architecture, find_cfg

    if opt.cfg and command not in TRAININGS:
        find_cfg(opt.cfg)
    if opt.modules:
        from yolo_slim.extensions import admit

        for file in opt.modules:
            admit(file)
    with architecture(opt.cfg, only=command not in TRAININGS):
        yield


def run(command: str, argv: Sequence[str] | None = None) -> int:
    """Run a command as a script does.

    Returns:
        The exit code, see `guarded`.
    """

    if argv is None:
        restart_in_utf8()
    never_fail_to_print()

    def work() -> None:
        if command in TRAININGS:  # what is wrong at first sight is said before YOLOv5 is imported
            import_module(f"yolo_slim.commands.{command}_options").parse(argv)
        with telling_of_imports(), opening(command, argv), calling(command, argv):
            import_module(f"yolo_slim.commands.{command}").main(argv)

    return guarded(work)


@contextmanager
def telling_of_imports() -> Iterator[None]:
    """Each `SLOW` seconds a line on stderr while PyTorch and YOLOv5 are being imported."""
    over, end = threading.Event(), "\r" if sys.stderr.isatty() else "\n"

    def tell() -> None:
        seconds = 0.0
        while not over.wait(SLOW):
            seconds += SLOW
            if hasattr(sys.modules.get("yolo_slim.host.classes"), "yolo"):
                return
            if "torch" in sys.modules:
                text = f"loading PyTorch and YOLOv5: {seconds:.0f} s"
                print(text, file=sys.stderr, flush=True, end=end)

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def restart_in_utf8() -> None:
    """Begin the process again in Python's UTF-8 mode where the locale has another encoding.

    YOLOv5 and OpenCV open files by names and texts in the locale's encoding: with LC_ALL=C a name
    with an umlaut ends the process.
    """
    usual = codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8"
    named = len(sys.orig_argv) > 1 and "-" not in sys.orig_argv  # not a program from a pipe
    if usual or not named or os.name == "nt" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"  # also of the processes that it starts
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def never_fail_to_print() -> None:
    """What the terminal's encoding lacks is printed as \\u4e2d, in place of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            with suppress(ValueError, LookupError):
                stream.reconfigure(errors="backslashreplace")


def guarded(work: Callable[[], Any]) -> int:
    """Do what a script does, and say in one line why it ended.

    Args:
        work: what it does. A KeyboardInterrupt with a text tells how it can go on.

    Returns:
        The exit code: 0, 2 for bad input, 1 where a result is not what it must be.
    """
    try:
        with as_options():
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
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}" if str(stop) else "interrupted", file=sys.stderr)
        return 130
    return 0


def overview() -> str:
    """The commands in groups, for --help."""
    parts = []
    for title, group in GROUPS.items():
        lines = [f"{title}:", *(f"  {name:<13}{text}" for name, text in group.items())]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, f"for most people:\n  {named('slim')} {USUAL}", PAGE])


def main() -> NoReturn:
    """Entry point of the console command `yolo-slim`."""
    restart_in_utf8()
    parser = Parser(
        prog=named("").rstrip(),
        description="Make a YOLOv5 detector smaller and faster.",
        epilog=overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser._positionals.title = "called with"
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="one of those below")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="see `%(prog)s <command> --help`")
    if len(sys.argv) == 1:
        parser.print_help(sys.stderr)
        sys.exit(2)
    parser.add_argument("--version", action="version", version=f"yolo-slim {version('yolo-slim')}")
    args = parser.parse_args()
    sys.exit(run(args.command, args.options))
