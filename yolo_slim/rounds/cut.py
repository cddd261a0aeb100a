"""The cut between two trainings, with all of its recovery, and what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_slim.calibration import Calibration
from yolo_slim.host.checkpoint import Checkpoint, save_model
from yolo_slim.pruning.options import CutOptions
from yolo_slim.pruning.prune import prune_by
from yolo_slim.pruning.recover.recover import Judge


@dataclass(frozen=True)
class RoundReport:
    """What a round did.

    Attributes:
        epoch: epochs of all trainings before it.
        macs, params: [before, after].
        accuracy: name to mAP50 and mAP50-95: before, as cut, after each part (see
            `Recovery.steps`).
        recovered: mAP50 and mAP50-95 of the model that is trained on; None where nothing was
            measured, since the classes of the data are new to the model.
        cut: the report of the cut, see `CutReport.as_dict`.
    """

    epoch: int
    macs: tuple[int, int]
    params: tuple[int, int]
    accuracy: dict[str, tuple[float, float]]
    recovered: tuple[float, float] | None
    cut: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def cut_round(
    options: CutOptions,
    source: Checkpoint,
    file: Path,
    calibration: Calibration,
    judge: Judge | None,
    epoch: int,
) -> RoundReport:
    """Cut the model of a checkpoint and write the smaller one.

    Args:
        options: how much is cut, and how.
        source: the checkpoint that is cut.
        file: of the smaller model.
        calibration: images.
        judge: a model to its accuracy; None: it is not measured.
        epoch: epochs of all trainings before it.
    """
    accuracy = {"before": judge(source.model)} if judge else {}
    pruned = prune_by(options, source.model, calibration, judge)
    pruned.model.ancestry[-1]["weights"] = str(source.path.absolute())
    save_model(pruned.model, file, opt=source.train or None)
    accuracy |= pruned.recovery.steps
    recovered = pruned.recovery.accuracy
    cut = pruned.report
    return RoundReport(
        epoch,
        (cut.before.macs, cut.after.macs),
        (cut.before.params, cut.after.params),
        {name: (value.map50, value.map) for name, value in accuracy.items()},
        (recovered.map50, recovered.map) if recovered else None,
        cut.as_dict(),
    )
