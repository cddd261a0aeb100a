"""What the loss says of a model in which the branch of one residual Bottleneck is silent.

The Bottlenecks are few: each is silenced in turn, and the loss of the calibration images is taken
again: squares of its change, summed over batches, of which taylor takes the first order (Molchanov
et al. 2019, section 3.1), or by what the loss of an image rises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Batch, Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError

Loss = Callable[[nn.Module, Batch], torch.Tensor]


def squared_changes(
    model: nn.Module, graph: ChannelGraph, calibration: Calibration, names: Sequence[str]
) -> dict[str, float]:
    """By what the loss changes without each branch, squared, summed over batches."""
    changes = _changes(model, calibration, dict.fromkeys(names), _loss("taylor", calibration))
    return {name: sum(change**2 for change in each) for name, each in changes.items()}


def loss_rises(
    model: nn.Module, graph: ChannelGraph, calibration: Calibration, names: Sequence[str]
) -> dict[str, float]:
    """By what the loss of an image rises without each branch, 0 or more.

    The branch's mean stays: recovery moves it, and the scores of obs leave it out, too.
    """
    loss = _loss("obs", calibration)
    changes = _changes(model, calibration, _means(model, calibration, names, loss), loss)
    return {name: max(sum(each) / calibration.images, 0.0) for name, each in changes.items()}


@contextmanager
def silenced(model: nn.Module, name: str, sent: torch.Tensor | None = None) -> Iterator[None]:
    """In the block, the branch of a Bottleneck sends nothing, or the same (C, 1, 1) everywhere."""

    def hook(conv: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(output) if sent is None else sent.to(output).expand_as(output)

    handle = model.get_submodule(f"{name}.cv2").register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _loss(criterion: str, calibration: Calibration) -> Loss:
    if calibration.loss is None:
        got = "calibration images without a loss"
        raise InputError(f"--criterion {criterion}", got, "a loss")
    return calibration.loss


def _changes(
    model: nn.Module,
    calibration: Calibration,
    sent: Mapping[str, torch.Tensor | None],
    loss: Loss,
) -> dict[str, list[float]]:
    """By what the loss of each batch changes without each branch; `sent` as in `silenced`."""
    changes: dict[str, list[float]] = {name: [] for name in sent}
    for batch in tqdm(calibration.batches, desc="Bottlenecks", unit="batch", leave=False):
        whole = float(loss(model, batch))
        for name, value in sent.items():
            with silenced(model, name, value):
                changes[name].append(float(loss(model, batch)) - whole)
    return changes


def _means(
    model: nn.Module, calibration: Calibration, names: Sequence[str], loss: Loss
) -> dict[str, torch.Tensor]:
    """(C, 1, 1) mean of what each branch sends."""
    sums: dict[str, torch.Tensor] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(conv: Any, inputs: Any, output: torch.Tensor) -> None:
            mean = output.double().mean((2, 3)).sum(0)
            sums[name] = sums.get(name, torch.zeros_like(mean)) + mean

        return hook

    handles = [model.get_submodule(f"{n}.cv2").register_forward_hook(look(n)) for n in names]
    try:
        for batch in calibration.batches:
            loss(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: (value / calibration.images)[:, None, None] for name, value in sums.items()}
