"""Peak memory of a model in its runtime, each measured in a process of its own.

The resident memory of a process goes up and seldom down again, and a process that was forked may
inherit the peak of its parent. So each file gets a fresh interpreter, which imports numpy and the
runtime and nothing else (a checkpoint: PyTorch and YOLOv5), opens the file and runs it. What such a
process holds before it opens the file is told beside its peak: a program in another language does
not pay for Python, and any program pays for the model.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHILD = __name__  # the module that measures an exported file, in a process of its own
CALLS = 3  # on one image: the second may need more than the first
STATUS = Path("/proc/self/status")  # of Linux; its peak begins anew with each program


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that runs a model.

    Attributes:
        peak: bytes.
        before: bytes when the runtime was imported and nothing was opened.
    """

    peak: int
    before: int

    @property
    def model(self) -> int:
        """Bytes that came with the file: weights, feature maps, what the runtime makes of them."""
        return self.peak - self.before


def peak_now() -> int | None:
    """Bytes that this process held at most so far; None where the system does not tell."""
    if STATUS.is_file() and (line := re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.M)):
        return int(line[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return _peak_of_windows()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere


def _peak_of_windows() -> int | None:
    """The same by psutil, which YOLOv5 needs as well."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return None
    return getattr(psutil.Process().memory_info(), "peak_wset", None)


def peak_memory(module: str, task: dict[str, Any]) -> Memory:
    """Run a module in a fresh interpreter, which does a task and tells what memory it took.

    Args:
        module: its name; it calls `tell` with what it was given.
        task: what the module is given, as JSON.

    Raises:
        ChildProcessError: it failed; the text is one line.
    """
    folders = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": folders, "ORT_DISABLE_TELEMETRY": "1"}
    program = [sys.executable, "-m", module, json.dumps(task)]
    run = subprocess.run(program, env=environment, capture_output=True, text=True, errors="replace")
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["it ended without a word"]
        killed = f"it was stopped by signal {-run.returncode}"
        raise ChildProcessError(killed if run.returncode < 0 else lines[-1][:160])
    return Memory(**json.loads(run.stdout.splitlines()[-1]))


def tell(open_file: Callable[[], Callable[[Any], Any]], shape: Sequence[int]) -> None:
    """In a process of its own: open, run, print the memory as JSON.

    Args:
        open_file: returns a function of images.
        shape: (batch, channels, height, width) of them.
    """
    from yolo_slim.measure.images import random_images

    images, before = random_images(*shape), peak_now()
    run = open_file()
    for _ in range(CALLS):
        run(images)
    print(json.dumps({"peak": peak_now(), "before": before}))


def main(argument: str) -> None:
    """The process of an exported file.

    Args:
        argument: JSON, with path, threads and shape.
    """
    from yolo_slim.runtimes import opened, runtime_of

    task = json.loads(argument)
    runtime = runtime_of(task["path"])
    assert runtime, task
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # reports home
    for module in runtime.needs:
        importlib.import_module(module)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(task["threads"])
    tell(lambda: opened(task["path"], task["threads"]), task["shape"])


if __name__ == "__main__":
    from yolo_slim.errors import InputError

    try:
        main(sys.argv[1])
    except InputError as error:
        sys.exit(str(error))
