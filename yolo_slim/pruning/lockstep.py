"""Batches that go through a model side by side: at chosen modules each waits for the others.

What is done to a module there may look at what all batches are about to give it, and is done before
any of them goes on. The batches take turns, so that the memory of one batch at work is needed, and
of the others only what waits to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Condition, Thread
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.pruning.gram import ready

Meet = Callable[[Any, list[torch.Tensor]], None]  # a module (of the copy), its input by batch


def in_step(
    model: nn.Module, meets: Mapping[str, Meet], batches: Sequence[torch.Tensor], desc: str
) -> None:
    """Run a copy of a model on all batches, in eval mode, without gradients.

    Args:
        model: left untouched.
        meets: module name to what is called when all batches have come to the module.
        batches: images, (n, C, h, w) each.
        desc: of the progress bar.

    Raises:
        Exception: whatever the model or a meet raises; all batches stop then.
    """
    copy, turns = ready(model), _Turns(len(batches))
    first, arrived = next(copy.parameters()), list[torch.Tensor]()

    def hook(meet: Meet, module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        arrived.append(inputs[0])
        if turns.next():
            meet(module, arrived)
            arrived.clear()
            bar.update()

    for name, meet in meets.items():
        copy.get_submodule(name).register_forward_pre_hook(partial(hook, meet))
    with tqdm(total=len(meets), desc=desc, unit="conv", leave=False) as bar:
        turns.run([partial(copy, images.to(first)) for images in batches])


class _Stopped(Exception):
    """Another batch has failed."""


class _Turns:
    """Threads of which one runs at a time, in a fixed order."""

    def __init__(self, count: int) -> None:
        self.count, self.now = count, 0
        self.error: BaseException | None = None
        self.changed = Condition()

    def run(self, jobs: Sequence[Callable[[], Any]]) -> None:
        """Run all jobs to their ends; raises the error of the first that fails."""
        threads = [Thread(target=self._work, args=(i, job)) for i, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # Ctrl-C
            self._stop(error)
        for thread in threads:
            thread.join()
        if self.error is not None:
            raise self.error

    def next(self) -> bool:
        """Let all others run, each up to the same call; True for the first of them."""
        mine = self.now
        self._pass_on()
        self._wait(mine)
        return mine == 0

    @torch.no_grad()
    def _work(self, index: int, job: Callable[[], Any]) -> None:
        try:
            self._wait(index)
            job()
            self._pass_on()
        except _Stopped:
            pass
        except BaseException as error:  # to be raised where `run` was called
            self._stop(error)

    def _pass_on(self) -> None:
        with self.changed:
            self.now = (self.now + 1) % self.count
            self.changed.notify_all()

    def _wait(self, index: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.error is not None or self.now == index)
        if self.error is not None:
            raise _Stopped

    def _stop(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()
