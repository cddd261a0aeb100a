"""Hooks into YOLOv5's segmentation loop.

In yolov5 7.0.14's segment/train.py all callbacks that the detection loop runs are commented out.
What is still called at the same places is taken instead: the loop iterates over its loader at the
start of an epoch, and logs its metrics after the validation at the end of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


class AnnouncedLoader:
    """A loader that says when an epoch begins; in all else the host's own."""

    def __init__(self, loader: Any, begin: Callable[[], None]) -> None:
        self.loader, self.begin = loader, begin

    def __iter__(self) -> Iterator[Any]:
        self.begin()
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def epoch_hooks(
    loop: ModuleType, begin: Callable[[], None], end: Callable[[int], None]
) -> dict[str, Any]:
    """What to put in place of names of yolov5.segment.train.

    Args:
        loop: that module.
        begin: called before each epoch, on each rank.
        end: called with a number when metrics are logged, on the main rank: that of the epoch, and
            once more with the number of epochs when the training is over.
    """
    make_loader = loop.create_dataloader

    def create_dataloader(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        loader, dataset = make_loader(*args, **kwargs)
        return (AnnouncedLoader(loader, begin) if kwargs.get("augment") else loader), dataset

    class GenericLogger(loop.GenericLogger):  # type: ignore[misc, name-defined]
        def log_metrics(self, metrics: dict[str, Any], epoch: int) -> None:
            end(epoch)
            super().log_metrics(metrics, epoch)

    return {"create_dataloader": create_dataloader, "GenericLogger": GenericLogger}
