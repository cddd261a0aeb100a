"""The options of bench, and what can be known to be wrong with them; nothing heavy is imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.as_called import named
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.errors import InputError, check_count, option_of
from yolo_slim.files import CHECKPOINT, check_file, check_writable
from yolo_slim.packages import check_imports, check_installed
from yolo_slim.parsing import OneLineParser
from yolo_slim.runtimes import RUNTIMES, inner, runtime_of

TORCH = "torch"  # a checkpoint as it is; the other names of --runtime are those of formats
RUN_IN = {row.name: RUNTIMES[row.suffix] for row in FORMATS.values() if row.suffix in RUNTIMES}
USUAL = (TORCH, "onnx")  # of a checkpoint
KINDS = ", ".join(f"*{suffix}" for suffix in RUNTIMES)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; nothing heavy is imported for --help."""
    parser = OneLineParser(
        prog=named("bench"),
        description="Compare models on the CPU, each in the runtime that it is made for: file "
        "size, parameters, MACs, latency and peak memory. Files of one runtime are timed in turns.",
    )
    text = f"checkpoints (.pt), and what export writes: {KINDS}"
    parser.add_argument("files", nargs="*", metavar="FILE", help=text)
    parser.set_defaults(more=[])
    add = parser.add_argument_group("what is timed").add_argument
    text = "image size, px: one number, or height and width (default: that of the exported files, "
    add("--imgsz", "--img", nargs="+", action=Sizes, metavar="N", help=f"{text}or 640)")
    text = "images a call (default: that of the exported files, or 1)"
    add("--batch-size", type=int, help=text)
    add("--threads", type=int, default=2, help="of each runtime (default: 2)")
    add("--repeats", type=int, default=60, help="rounds (default: 60)")
    names = (TORCH, *RUN_IN)
    text = (
        f"time in these alone: {', '.join(names)}; a .pt is exported for them (default: a .pt in "
    )
    text += f"{' and '.join(USUAL)}, any other file in its own)"
    add("--runtime", nargs="+", choices=names, metavar="NAME", help=text)
    add = parser.add_argument_group("shown and written").add_argument
    add("--no-memory", action="store_true", help="leave out the peak memory")
    add("--layers", action="store_true", help="print each checkpoint layer by layer too")
    add("--json", type=Path, metavar="FILE", help="write the figures to a file")
    opt = parser.parse_args(argv)
    opt.files += opt.more
    if not opt.files:
        parser.error("the following arguments are required: FILE")
    return opt


class Sizes(argparse.Action):
    """One whole number or several; words behind them are files, as in `--imgsz 640 best.pt`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        numbers: list[int] = []
        for value in values:
            try:
                numbers.append(int(value))
            except ValueError:
                break
        if not numbers:
            parser.error(f"argument {option_string}: invalid int value: '{values[0]}'")
        namespace.imgsz, namespace.more = numbers, values[len(numbers) :]


def check(opt: argparse.Namespace) -> None:
    """Everything that can be known to be wrong without opening a file.

    Raises:
        InputError: an option is out of range, a file is not there or is no model, a package is not
            installed.
    """
    for name, least in (("batch_size", 1), ("threads", 1), ("repeats", 2)):
        if getattr(opt, name) is not None:
            check_count(option_of(name), getattr(opt, name), least)
    if len(opt.imgsz or ()) > 2:
        sizes = " ".join(map(str, opt.imgsz))
        raise InputError("--imgsz", sizes, "one number, or height and width")
    for side in opt.imgsz or ():
        check_count("--imgsz", side)
    if opt.json:
        if opt.json.is_dir():
            raise InputError("--json", f"{opt.json}, a folder", "a file to write")
        check_writable(opt.json.parent)
    for file in opt.files:
        check_model_file(Path(file))
    if opt.layers and all(map(runtime_of, opt.files)):
        raise InputError("--layers", "given for exported files alone", "a checkpoint (.pt)")
    if not any(runtimes_of(file, opt.runtime) for file in opt.files):
        got = f"{' '.join(opt.runtime)}, in which none of the files runs"
        raise InputError("--runtime", got, " or ".join(dict.fromkeys(map(own_runtime, opt.files))))
    for name in exported_for(opt):
        check_installed(f"--runtime {name}", FORMATS[name].needs)


def check_model_file(file: Path) -> None:
    """See that a file is there, and that what runs it is installed.

    Raises:
        InputError: it is not, or is no model, or half of one.
    """
    runtime = runtime_of(file)
    if runtime is None:
        if file.is_dir():
            raise InputError(file, "a folder", f"a checkpoint (.pt), or one of {KINDS}")
        check_file(file, file, CHECKPOINT)
        return
    expected = f"what export writes for {runtime.name}"
    if file.is_dir() and runtime.inside:
        file = inner(file, runtime)
    check_file(file, file, expected)
    check_installed(file, runtime.needs)


def exported_for(opt: argparse.Namespace) -> list[str]:
    """Names of --runtime for which a checkpoint is exported."""
    if all(map(runtime_of, opt.files)):
        return []
    return [name for name in opt.runtime or USUAL if name != TORCH]


def check_importable(opt: argparse.Namespace) -> None:
    """Import what checkpoints are exported with, before time is spent on anything.

    Raises:
        InputError: a package cannot be imported.
    """
    for name in exported_for(opt):
        check_imports(f"--runtime {name}", FORMATS[name].needs)


def runtimes_of(file: str | Path, given: Sequence[str] | None) -> list[str]:
    """Names of --runtime in which a file is timed.

    Args:
        file: a checkpoint, or an exported file.
        given: with --runtime, or None.
    """
    own = own_runtime(file)
    if own != TORCH:
        return [own] if not given or own in given else []
    return list(dict.fromkeys(given or USUAL))


def own_runtime(file: str | Path) -> str:
    """The name of --runtime that stands for what a file is made for."""
    runtime = runtime_of(file)
    return next((name for name, row in RUN_IN.items() if row == runtime), TORCH)


def title_of(name: str) -> str:
    """What people call a runtime, by its name of --runtime."""
    return RUN_IN[name].name if name in RUN_IN else "PyTorch"
