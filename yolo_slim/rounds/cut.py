"""A cut in the middle of a run: its last checkpoint becomes that of a smaller model.

A checkpoint holds the model that is trained and its moving average. The channels are chosen on the
average, which is what is validated; both are cut by the same masks, and both recover.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from yolo_slim.channels.rules import channel_graph
from yolo_slim.host.checkpoint import modernise_
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.calibration import Calibration
from yolo_slim.pruning.prune import Pruned, prune
from yolo_slim.pruning.rebuild import rebuild
from yolo_slim.pruning.recover import Judge, recover_


@dataclass(frozen=True)
class RoundReport:
    """What a round did.

    Attributes:
        epoch: epochs done before it.
        macs, params: [before, after].
        accuracy: name to mAP50 and mAP50-95: before, as cut, after each part that was kept.
        cut: the report of the cut, see `CutReport.as_dict`.
    """

    epoch: int
    macs: tuple[int, int]
    params: tuple[int, int]
    accuracy: dict[str, tuple[float, float]]
    cut: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def cut_checkpoint(
    data: dict[str, Any],
    calibration: Calibration,
    judge: Judge,
    *,
    macs: float,
    imgsz: int,
    **options: Any,
) -> tuple[dict[str, Any], RoundReport]:
    """What a run goes on from.

    Args:
        data: the checkpoint, with `model` and `ema`; left untouched.
        calibration: images.
        judge: a model to its accuracy.
        macs: MACs that are left, of an image of `imgsz`.
        imgsz: px.
        options: criterion and the like, see `prune`.

    Returns:
        A checkpoint of the same epoch without optimizer and without a best fitness, and the report.
    """
    average, trained = (ready(data[key]) for key in ("ema", "model"))
    before = judge(average)
    found = prune(
        average,
        macs=min(macs / cost(average, imgsz).macs, 1.0),
        calibration=calibration,
        judge=judge,
        imgsz=imgsz,
        **options,
    )
    residual: Any = found.report.residual
    graph = channel_graph(average, residual)
    slim = rebuild(trained, graph, found.masks)
    recover_(slim, trained, graph, found.masks, found.report.recovered, calibration)
    slim.ancestry = list(found.model.ancestry)
    new = {**data, "model": slim.train().half(), "ema": found.model.half(), "optimizer": None}
    return {**new, "best_fitness": 0.0}, report(data["epoch"] + 1, before, found)


def ready(model: nn.Module) -> nn.Module:
    """A model of a checkpoint, fp32 and in eval mode, in place."""
    modernise_(model)
    return model


def report(epoch: int, before: Any, found: Pruned) -> RoundReport:
    """Put together what `prune` found."""
    accuracy = {"before": before, "cut": found.recovery.cut}
    accuracy |= {f"+ {p.name}": p.accuracy for p in found.recovery.parts if p.kept}
    cut = found.report
    return RoundReport(
        epoch,
        (cut.before.macs, cut.after.macs),
        (cut.before.params, cut.after.params),
        {name: (value.map50, value.map) for name, value in accuracy.items() if value},
        cut.as_dict(),
    )
