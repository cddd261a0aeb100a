"""What a sparse training records as it goes: sparsity.csv, sparsity.png, TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.report.plots import plot_sparsity
from yolo_slim.sparsify.penalty import SparsityPenalty
from yolo_slim.sparsify.readiness import QUANTILES, Sparsity, gammas, verdict

CSV = "sparsity.csv"
COLUMNS = [
    "epoch",
    "sr",
    *(f"gamma_q{round(100 * q):02d}" for q in QUANTILES),
    "near_zero",
    "threshold",
]


class SparsityMonitor:
    """Records the EMA's gammas at the end of each epoch: the EMA is what is saved and cut.

    Args:
        folder: the run's folder. A sparsity.csv in it is gone on with, rows of later epochs drop.
        penalty: gives the BNs and the strength.
        start: median |gamma| at the start of a new training; a resumed one takes it from the csv.
        first_epoch: the epoch that this process begins with.
    """

    def __init__(
        self, folder: Path, penalty: SparsityPenalty, start: float, first_epoch: int = 0
    ) -> None:
        self.file, self.penalty = Path(folder) / CSV, penalty
        old = read_sparsity(self.file) if self.file.is_file() and first_epoch else []
        self.history = [row for row in old if row.epoch < first_epoch]
        self.start = self.history[0].threshold / 0.01 if self.history else start

    def record(self, model: nn.Module, epoch: int, board: Any = None) -> Sparsity:
        """Measure, append to sparsity.csv, log to a TensorBoard writer."""
        gamma = gammas(model, self.penalty.names)
        row = Sparsity.of(gamma, epoch=epoch, sr=self.penalty.strength, start=self.start)
        self.history.append(row)
        write_sparsity(self.file, self.history)
        if board:
            board.add_histogram("sparsity/gamma", gamma, epoch)
            board.add_scalar("sparsity/near_zero", row.near_zero, epoch)
            board.add_scalar("sparsity/sr", row.sr, epoch)
        return row

    def finish(self, percent: float = 0.6) -> str:
        """Draw sparsity.png and say whether the model is ready to be cut."""
        plot_sparsity(self.history, self.file.with_suffix(".png"))
        return verdict(self.history[0], self.history[-1], percent)


def write_sparsity(file: Path, rows: list[Sparsity]) -> None:
    """Write sparsity.csv anew."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for row in rows:
            values = [row.sr, *row.quantiles, row.near_zero, row.threshold]
            writer.writerow([row.epoch, *(f"{v:.6g}" for v in values)])


def read_sparsity(file: Path) -> list[Sparsity]:
    """Read sparsity.csv."""
    with file.open(newline="") as source:
        rows = [[float(v) for v in row] for row in list(csv.reader(source))[1:]]
    return [Sparsity(int(r[0]), r[1], tuple(r[2:-2]), r[-2], r[-1]) for r in rows]
