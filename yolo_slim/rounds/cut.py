"""The cut between two trainings, with all of its recovery, and what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_slim.host.checkpoint import load, save_model
from yolo_slim.pruning.calibration import Calibration
from yolo_slim.pruning.prune import prune
from yolo_slim.pruning.recover import Judge


@dataclass(frozen=True)
class RoundReport:
    """What a round did.

    Attributes:
        epoch: epochs of all trainings before it.
        macs, params: [before, after].
        accuracy: name to mAP50 and mAP50-95: before, as cut, after each part (see
            `Recovery.steps`).
        recovered: mAP50 and mAP50-95 of the model that is trained on.
        cut: the report of the cut, see `CutReport.as_dict`.
    """

    epoch: int
    macs: tuple[int, int]
    params: tuple[int, int]
    accuracy: dict[str, tuple[float, float]]
    recovered: tuple[float, float]
    cut: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def cut_round(
    source: Path,
    target: Path,
    calibration: Calibration,
    judge: Judge,
    *,
    epoch: int,
    imgsz: int,
    **options: Any,
) -> RoundReport:
    """Cut the model of a checkpoint and write the smaller one.

    Args:
        source, target: checkpoints.
        calibration: images.
        judge: a model to its accuracy.
        epoch: epochs before it.
        imgsz: px.
        options: target, criterion and the like, see `prune`.
    """
    saved = load(source)
    accuracy = {"before": judge(saved.model)}
    found = prune(
        saved.model,
        calibration=calibration,
        judge=judge,
        imgsz=imgsz,
        **options,
    )
    save_model(found.model, target, opt=saved.train or None)
    accuracy |= found.recovery.steps
    recovered = found.recovery.accuracy
    assert recovered is not None
    cut = found.report
    return RoundReport(
        epoch,
        (cut.before.macs, cut.after.macs),
        (cut.before.params, cut.after.params),
        {name: (value.map50, value.map) for name, value in accuracy.items()},
        (recovered.map50, recovered.map),
        cut.as_dict(),
    )
