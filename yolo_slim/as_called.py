"""Commands as the user called this one: what a "Next:" or an error says can be pasted as it is.

Who typed `python3 tools/prune.py` reads `python3 tools/finetune_pruned.py`, who typed
`yolo-slim prune` reads `yolo-slim finetune`, who typed `python -m yolo_slim prune` reads
`python -m yolo_slim finetune`.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

CONSOLE = "yolo-slim"
MODULE = "yolo_slim"  # of `python -m`
_CALL: ContextVar[str] = ContextVar("call", default="")
SCRIPTS = {
    "sparse": "train_sparse.py",
    "prune": "prune.py",
    "finetune": "finetune_pruned.py",
    "export": "export.py",
}


def as_called(command: str, *argv: object, opt: Namespace | None = None) -> str:
    """A command line for a shell.

    Args:
        command: of `cli.COMMANDS`.
        argv: its options; a file name with spaces is quoted.
        opt: the options of the command that says it: what --modules and --clone name, which the
            next command needs as well, is taken over.

    Example:
        >>> as_called("export", "--weights", "my runs/best.pt")
        "python export.py --weights 'my runs/best.pt'"
    """
    words = [*starter(command), *map(str, argv)]
    for file in getattr(opt, "modules", None) or []:
        words += ["--clone" if Path(file).is_dir() else "--modules", str(file)]
    return shlex.join(words)


def named(command: str) -> str:
    """A command in a sentence, and in its own usage: without the path to it.

    Example:
        >>> named("prune"), named("slim")
        ('prune.py', 'yolo-slim slim')
    """
    program, script = Path(sys.argv[0]), SCRIPTS.get(command)
    if is_module(program):
        return f"python -m {MODULE} {command}"
    if script is None or program.name.removesuffix(".exe") == CONSOLE:
        return f"{CONSOLE} {command}"
    return script


def starter(command: str) -> list[str]:
    """The words that start a command in the way in which this process was started."""
    program, script = Path(sys.argv[0]), SCRIPTS.get(command)
    if is_module(program):
        return [interpreter(), "-m", MODULE, command]
    if program.name.removesuffix(".exe") == CONSOLE:
        return [on_path(program), command]
    if script is None:
        return [CONSOLE, command]
    if program.name in SCRIPTS.values():
        return [interpreter(), str(program.with_name(script))]
    return ["python", script]  # a program of the user's, which imports us


def is_module(program: Path) -> bool:
    """True for `python -m yolo_slim`."""
    return program.name == "__main__.py" and program.parent.name == MODULE


def interpreter() -> str:
    """The interpreter as the user typed it, or python where a path with no name was typed."""
    return sys.orig_argv[0] if sys.orig_argv and sys.orig_argv[0] else "python"


def on_path(program: Path) -> str:
    """The console command by its name, where the shell would start this very file by it."""
    known = shutil.which(program.name)
    same = known and program.exists() and Path(known).samefile(program)
    return program.name if same else str(program)


@contextmanager
def calling(command: str, argv: Sequence[str] | None) -> Iterator[None]:
    """In the block `this_call` is this command.

    Args:
        command: of `cli.COMMANDS`.
        argv: its options; None: those of this process.
    """
    words = sys.argv[1:] if argv is None else argv
    token = _CALL.set(as_called(command, *words))
    try:
        yield
    finally:
        _CALL.reset(token)


def this_call() -> str:
    """The command line that does what is being done; "" in a program that imports us."""
    return _CALL.get()
