"""A sparse training whose process ended before its verdict was told."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.host.checkpoint import Checkpoint
from yolo_slim.sparsify.monitor import AUTO, CSV, MORE_EPOCHS, PICTURE
from yolo_slim.sparsify.plot import plot_sparsity
from yolo_slim.sparsify.table import read_sparsity
from yolo_slim.sparsify.trained import kept_of, trained_percent
from yolo_slim.sparsify.verdict import verdict


def untold_verdict(ended: Checkpoint, folder: Path) -> str:
    """Draw the picture of a training that is over, and give its verdict; empty if it was told.

    Args:
        ended: its last.pt, with what the hooks kept.
        folder: of the training.
    """
    percent = trained_percent(ended)
    if (folder / PICTURE).is_file() or not (folder / CSV).is_file() or percent is None:
        return ""
    history, automatic = read_sparsity(folder / CSV), kept_of(ended, "penalty", "auto") is not None
    plot_sparsity(
        history,
        folder / PICTURE,
        aim=percent,
        held_from=kept_of(ended, "held"),
        backs=kept_of(ended, "backs") or [],
    )
    return verdict(history, percent, MORE_EPOCHS if automatic else AUTO)
