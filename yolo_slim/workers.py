"""Processes that share a work. Each gets ready once, such as by loading a model and images.

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
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.extensions import admit

Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Job(Protocol[Task, Result]):
    """What a worker needs to do its tasks; it is sent to each."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The files of --modules, which a new process has to import again."""

    def start(self, progress: bool = True) -> Callable[[Task], Result]:
        """Get ready; returns what does a task.

        Args:
            progress: bars may be shown.
        """


@contextmanager
def workers(
    job: Job[Task, Result], processes: int = 1
) -> Iterator[Callable[[Iterable[Task]], Iterator[Result]]]:
    """Do tasks in this process, or in several of their own, which end with the block.

    Yields:
        A function from tasks to results, which come as they are ready.

    Raises:
        InputError: what a worker could not use.
        CheckFailed: a worker died.
        RuntimeError: another error in a worker, with its traceback.
    """
    if processes == 1:
        measure = job.start()
        yield lambda tasks: map(measure, tasks)
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
            yield lambda tasks: share_out(tasks, started)
        finally:
            for process in started.values():
                process.kill()
            for connection, process in started.items():
                process.join()
                connection.close()


def share_out(tasks: Iterable[Any], started: dict[Connection, SpawnProcess]) -> Iterator[Any]:
    """Give each worker a task, and the next one when its result is there."""
    todo, idle, busy = iter(tasks), list(started), list[Connection]()
    while True:
        while idle and (task := next(todo, None)):
            send(idle[-1], task)
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


def serve(connection: Connection, job: Job[Any, Any], folder: str) -> None:
    """Of a worker: do what comes until the other end closes."""
    tempfile.tempdir = folder
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own would be a semaphore, left over when we are killed
    try:
        for file in job.modules:
            admit(file)
        measure = job.start(progress=False)
        while (task := received(connection)) is not None:
            send(connection, measure(task))
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
