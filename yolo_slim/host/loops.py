"""Hooks into the host's loops where they run no callback.

In yolov5 7.0.14 all callbacks of segment/train.py are commented out, and train.py runs some of its
own on the main rank alone. What both do on each rank is taken instead: a loop iterates over its
loader, and at the end of an epoch tells the other ranks whether to stop; and in the place of
segment/train.py's callback after the validation, the metrics that it logs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from yolo_slim.files import write_aside


class AnnouncedLoader:
    """A loader that says when an epoch and when a batch begins; in all else the host's own.

    Args:
        loader: the host's.
        begin: called before an epoch's first batch, with the loader.
        batch: called before each batch is trained on, with its number from 0.
    """

    def __init__(
        self, loader: Any, begin: Callable[[Any], None], batch: Callable[[int], None]
    ) -> None:
        self.loader, self.begin, self.batch = loader, begin, batch

    def __iter__(self) -> Iterator[Any]:
        self.begin(self.loader)
        for index, item in enumerate(self.loader):
            self.batch(index)
            yield item

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def announced(
    loop: ModuleType, begin: Callable[[Any], None], batch: Callable[[int], None]
) -> Callable[..., tuple[Any, Any]]:
    """The host's create_dataloader, whose training loader is announced: see `AnnouncedLoader`."""
    make_loader = loop.create_dataloader

    def create_dataloader(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        loader, dataset = make_loader(*args, **kwargs)
        if kwargs.get("augment"):
            loader = AnnouncedLoader(loader, begin, batch)
        return loader, dataset

    return create_dataloader


class HookedLoss:
    """A ComputeLoss of the host's to whose training loss something is added.

    Args:
        loss: the host's: (outputs, targets, ...) to the loss (1,) and its parts.
        add: (outputs, loss) to the loss that is trained on; the validation's is left as it is.
    """

    def __init__(self, loss: Any, add: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        self.inner, self.add = loss, add

    def __call__(self, outputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss, items = self.inner(outputs, *args, **kwargs)
        if torch.is_grad_enabled():
            loss = self.add(outputs, loss)
        return loss, items

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class AnnouncedBroadcast:
    """torch.distributed as a loop sees it, which says when all ranks have ended an epoch.

    Args:
        module: torch.distributed.
        end: called on each rank after the broadcast, which is the last thing in an epoch.
    """

    def __init__(self, module: Any, end: Callable[[], None]) -> None:
        self.module, self.end = module, end

    def broadcast_object_list(self, *args: Any, **kwargs: Any) -> None:
        self.module.broadcast_object_list(*args, **kwargs)
        self.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def segment_logger(loop: ModuleType, end: Callable[[int, dict[str, float]], None]) -> type:
    """A GenericLogger of yolov5.segment.train that tells what it logs.

    Args:
        loop: that module.
        end: called on the main rank when metrics are logged, with a number and the metrics: the
            number is that of the epoch, and once more the number of epochs when all is over.
    """

    class GenericLogger(loop.GenericLogger):  # type: ignore[misc, name-defined]
        def log_metrics(self, metrics: dict[str, Any], epoch: int) -> None:
            end(epoch, metrics)
            super().log_metrics(metrics, epoch)

    return GenericLogger


def keep_rows(file: Path, epochs: int) -> None:
    """Drop the rows of a results.csv from this epoch on: the run goes on from there.

    The host appends: an epoch that is run again would stand there twice.

    Args:
        file: one header line, then rows that begin with the number of an epoch; may be missing.
        epochs: rows of epochs below it stay.
    """
    if not file.is_file():
        return
    header, *rows = file.read_text().splitlines(keepends=True)
    kept = [row for row in rows if row.split(",")[0].strip().isdigit()]
    kept = [row for row in kept if int(row.split(",")[0]) < epochs]
    if kept != rows:
        write_aside(file, "".join([header, *kept]).encode())
