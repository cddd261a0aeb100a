"""Small sparse trainings in the host's loop: their options, what they wrote, and a look inside."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolo_slim import load
from yolo_slim.sparsify.session import SparseSession

SMALL = ["--imgsz", "64", "--batch-size", "8", "--workers", "0", "--device", "cpu", "--noplots"]


def rows(file: Path) -> list[dict[str, str]]:
    """The lines of a csv of ours or the host's, by column; the last of the host's may be short."""
    with file.open(newline="") as source:
        lines = [[value.strip() for value in line] for line in csv.reader(source)]
    return [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]


def epochs_of(file: Path) -> list[int]:
    """The epochs of a csv, as they stand in it."""
    return [int(row["epoch"]) for row in rows(file)]


def strengths_of(folder: Path) -> list[float]:
    """The column sr of a run."""
    return [float(row["sr"]) for row in rows(folder / "sparsity.csv")]


def board_steps(folder: Path, tag: str) -> list[int]:
    """The epochs that TensorBoard shows of a scalar or a histogram, from all files of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), {"histograms": 0, "scalars": 0})  # 0: all
    board.Reload()
    of_tag = board.Histograms if tag in board.Tags()["histograms"] else board.Scalars
    return [event.step for event in of_tag(tag)]


def zeros_of(norms: dict[str, nn.Module]) -> float:
    """Share of gammas that are exactly zero."""
    gamma = torch.cat([norm.weight.detach().flatten() for norm in norms.values()])
    return (gamma == 0).float().mean().item()


def saved_zeros(file: Path, names: list[str]) -> float:
    """Share of the gammas of these BNs that are exactly zero in a checkpoint."""
    model = load(file).model
    return zeros_of({name: model.get_submodule(name) for name in names})


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, whatever is inside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def after(
    monkeypatch: pytest.MonkeyPatch, hook: str, call: Callable[..., None], first: bool = False
) -> None:
    """Call call(session, run, ...) after a hook of each SparseSession, or before it."""
    original = getattr(SparseSession, hook)

    def both(self: SparseSession, *args: Any) -> None:
        if first:
            call(self, *args)
        original(self, *args)
        if not first:
            call(self, *args)

    monkeypatch.setattr(SparseSession, hook, both)


class Poison:
    """Makes a weight NaN when a batch begins, as a divergence would: the model's own loss follows.

    Args:
        epoch, batch: when.
        times: how often in all; the run comes to the place again when it has gone back.

    Attributes:
        models: that were trained, in their order.
        optimizers: of them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int, times: int) -> None:
        self.place, self.left = (epoch, batch), times
        self.models: list[nn.Module] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        after(monkeypatch, "on_optimizer", self.keep)
        after(monkeypatch, "on_batch_start", self.strike)

    def keep(self, session: SparseSession, run: Any, model: nn.Module, optimizer: Any) -> None:
        self.models.append(model)
        self.optimizers.append(optimizer)

    def strike(self, session: SparseSession, run: Any) -> None:
        if (run.epoch, run.batch) == self.place and self.left:
            self.left -= 1
            with torch.no_grad():
                self.models[-1].model[0].conv.weight[0] = float("nan")
