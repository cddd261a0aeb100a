"""Processes that measure cuts. Each loads the model and the images once.

They are started with `spawn`, have one thread each, and end with the process that started them,
however it ends: a pipe that closes tells them.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.extensions import admit
from yolo_slim.host.validation import Validation
from yolo_slim.models import load
from yolo_slim.sensitivity.cuts import Cut, cut_model
from yolo_slim.sensitivity.scan import Row

Measure = Callable[[Iterable[Cut]], Iterator[Row]]


@dataclass(frozen=True)
class Job:
    """What a worker needs to measure cuts.

    Attributes:
        weights: the checkpoint.
        data: from `check_data`.
        imgsz, images, device, split: as for `Validation`.
        modules: the files of --modules.
        cfg: of --cfg, for weights without a model.
    """

    weights: Path
    data: dict[str, Any]
    imgsz: int
    images: int
    device: str = ""
    split: str = "val"
    modules: tuple[str, ...] = ()
    cfg: str | None = None

    def start(self, progress: bool = True) -> Callable[[Cut], Row]:
        """Load the model and the images; returns what measures a cut."""
        model = load(self.weights, self.cfg).model
        validation = Validation(
            model,
            self.data,
            imgsz=self.imgsz,
            images=self.images,
            device=self.device,
            split=self.split,
            progress=progress,
        )

        def measure(cut: Cut) -> Row:
            layer, (copy, gone) = cut.layer, cut_model(model, cut)
            accuracy = validation(copy)
            return Row(
                layer.kind, layer.name, layer.size, cut.share, gone, accuracy.map50, accuracy.map
            )

        return measure


@contextmanager
def workers(job: Job, processes: int = 1) -> Iterator[Measure]:
    """Measure cuts in this process, or in several of their own, which end with the block.

    Yields:
        A function from cuts to rows, which come as they are measured.

    Raises:
        InputError: what a worker could not use.
        CheckFailed: a worker died.
        RuntimeError: another error in a worker, with its traceback.
    """
    if processes == 1:
        measure = job.start()
        yield lambda cuts: map(measure, cuts)
        return
    spawn, started = get_context("spawn"), dict[Connection, SpawnProcess]()
    with tempfile.TemporaryDirectory() as folder:  # theirs too: a killed one leaves nothing behind
        try:
            with interrupts_ignored():
                for _ in range(processes):
                    ours, theirs = spawn.Pipe()
                    process = spawn.Process(target=serve, args=(theirs, job, folder), daemon=True)
                    process.start()
                    theirs.close()
                    started[ours] = process
            yield lambda cuts: share_out(cuts, started)
        finally:
            for process in started.values():
                process.kill()
            for connection, process in started.items():
                process.join()
                connection.close()


def share_out(cuts: Iterable[Cut], started: dict[Connection, SpawnProcess]) -> Iterator[Row]:
    """Give each worker a cut, and the next one when its row is there."""
    todo, idle, busy = iter(cuts), list(started), list[Connection]()
    while True:
        while idle and (cut := next(todo, None)):
            send(idle[-1], cut)
            busy.append(idle.pop())
        if not busy:
            return
        for connection in wait(busy):
            assert isinstance(connection, Connection)
            answer = received(connection)
            if answer is None:
                started[connection].join()
                got = f"a worker died (exit code {started[connection].exitcode})"
                more = "if memory ran out, fewer --processes or --images will do; --resume goes on"
                raise CheckFailed(f"{got}; {more}")
            if isinstance(answer, Exception):
                raise answer
            busy.remove(connection)
            idle.append(connection)
            yield answer


def serve(connection: Connection, job: Job, folder: str) -> None:
    """Of a worker: measure what comes until the other end closes."""
    tempfile.tempdir = folder
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own would be a semaphore, left over when we are killed
    try:
        for file in job.modules:
            admit(file)
        measure = job.start(progress=False)
        while (cut := received(connection)) is not None:
            send(connection, measure(cut))
    except InputError as error:
        send(connection, error)
    except Exception:
        send(connection, RuntimeError(f"a worker failed\n{traceback.format_exc()}"))


def received(connection: Connection) -> Any:
    """What came; None if the other end is gone."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def send(connection: Connection, value: Any) -> None:
    """Send, or not if the other end is gone: who receives next finds out."""
    with suppress(OSError):
        connection.send(value)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes started in the block do not hear Ctrl-C: it is for us to end them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
