"""What a sparse training records as it goes: sparsity.csv, sparsity.png, TensorBoard, one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.host.training import Run
from yolo_slim.sparsify.plot import plot_sparsity
from yolo_slim.sparsify.probe import Probe
from yolo_slim.sparsify.readiness import Sparsity, gamma_of, gammas
from yolo_slim.sparsify.table import older_start, read_sparsity, write_sparsity
from yolo_slim.sparsify.verdict import line, verdict

CSV, PICTURE = "sparsity.csv", "sparsity.png"
HISTOGRAMS = 60  # layers that TensorBoard gets one each of
MORE_EPOCHS = "Train for more epochs."
AUTO = "With --sr auto the strength is found as the training goes."


class SparsityMonitor:
    """Records the moving average's gammas at the end of each epoch: it is what is saved and cut.

    Args:
        folder: the run's folder.
        names: of the BNs that are penalised.
        start: BN name to the median |gamma| at the start, from `start_medians`; a run that is gone
            on with takes its own with `load_state`.
        percent: the share that is to be cut.
        epochs: length of the run.
        auto: the strength sets itself.
        probe: makes quick cuts; None: none are made.

    Attributes:
        history: one entry an epoch.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: Sequence[str],
        start: Mapping[str, float],
        percent: float,
        epochs: int,
        auto: bool = False,
        probe: Probe | None = None,
    ) -> None:
        self.file, self.names, self.percent = Path(folder) / CSV, list(names), percent
        self.epochs, self.auto, self.probe = epochs, auto, probe
        self.history: list[Sparsity] = []
        self.start = {name: float(start[name]) for name in self.names}

    def record(self, run: Run, sr: float, due: float | None = None) -> str:
        """Measure the epoch that has ended, append it to sparsity.csv, log it to TensorBoard.

        Args:
            run: left untouched.
            sr: the strength on gamma.
            due: see `SparsityPenalty.due`.

        Returns:
            The epoch in words, one line.

        Raises:
            InputError: sparsity.csv cannot be written; the old one stays whole.
        """
        row = Sparsity.of(
            run.ema,
            self.start,
            epoch=run.epoch,
            sr=sr,
            percent=self.percent,
            map50=run.map50,
            map=run.map,
        )
        if self.probe:
            now, aim = self.probe.look(run, row.near_zero)
            row = replace(row, now=now, aim=aim)
        self.history.append(row)
        write_sparsity(self.file, self.history)
        if run.board:
            log(run.board, row, run.ema, self.names)
        return line(self.history, self.percent, self.epochs, due)

    def aim_at(self, percent: float) -> None:
        """Measure against another share from now on."""
        self.percent = percent
        if self.probe:
            self.probe.percent = percent

    def rewind(self, first_epoch: int) -> None:
        """Go on from here: rows of this epoch and of later ones drop.

        In a new process the earlier ones come from sparsity.csv.
        """
        if not self.history and first_epoch and self.file.is_file():
            self.history = read_sparsity(self.file)
        self.history = [row for row in self.history if row.epoch < first_epoch]

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to keep: plain values."""
        return {"start": dict(self.start)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned; an empty one is that of an older version's run.

        Such a run had one median for all layers, which its sparsity.csv tells.
        """
        older = older_start(self.file)
        if "start" in state:
            self.start = {name: float(state["start"][name]) for name in self.names}
        elif older:
            self.start = dict.fromkeys(self.names, older)

    def finish(self, held_from: int | None = None, backs: Sequence[int] = ()) -> str:
        """Draw sparsity.png and say whether the model is ready to be cut.

        Args:
            held_from: the epoch from which zeros are held, counted from 0.
            backs: for each time that the run went back, the last epoch that it kept; -1: none.

        Raises:
            InputError: the picture cannot be written.
        """
        if not self.history:
            return "Not ready: no epoch has ended."
        plot_sparsity(
            self.history,
            self.file.with_name(PICTURE),
            aim=self.percent,
            held_from=held_from,
            backs=backs,
        )
        return verdict(self.history, self.percent, MORE_EPOCHS if self.auto else AUTO)


def log(board: Any, row: Sparsity, model: nn.Module, names: Sequence[str]) -> None:
    """Write an epoch to the host's TensorBoard writer.

    Args:
        board: the writer.
        row: the epoch.
        model: whose gammas become histograms: all, and each layer's if they are HISTOGRAMS or less.
        names: of its BNs.
    """
    values = {"near_zero": row.near_zero, "sr": row.sr, "quantile": row.quantile}
    for number, cut in enumerate((row.now, row.aim), 1):
        if cut:
            values |= {f"share_{number}": cut.share, f"kept_{number}": cut.kept}
    for name, value in values.items():
        board.add_scalar(f"sparsity/{name}", value, row.epoch)
    histograms = {"sparsity/gamma": gammas(model, names)}
    if len(names) <= HISTOGRAMS:
        histograms |= {f"sparsity/gamma/{name}": gamma_of(model, name) for name in names}
    for name, gamma in histograms.items():
        if torch.isfinite(gamma).all():  # the writer refuses others
            board.add_histogram(name, gamma, row.epoch)
