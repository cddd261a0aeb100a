"""A run that cuts as it goes: at planned epochs the host's loop begins again on a smaller model.

At such an epoch the last checkpoint is replaced by that of the model that is left, and the run goes
back to it, as the host resumes an interrupted run. So whatever the moment of an interruption, the
checkpoint says how far the run is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from yolo_slim.host import checkpoint
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import read_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.host.training import LOGGER, Hooks, Run, of_main
from yolo_slim.measure.cost import cost
from yolo_slim.pruning import criteria
from yolo_slim.pruning.model import build_heir
from yolo_slim.pruning.weight_masks import hold_masks
from yolo_slim.report.tables import giga
from yolo_slim.rounds.cut import RoundReport, cut_checkpoint
from yolo_slim.rounds.plan import Round

PLAN = "rounds.json"  # in the run's folder: the mark of such a run
KEPT = "before-cut{}.pt"  # in the run's weights: the model as it was before a round


class SlimSession(Hooks):
    """Hooks of a run that cuts.

    Args:
        source: the model that the run begins with, or goes on with.
        rounds: the cuts.
        options: criterion, round_to and the like, see `prune`; and calib_images.

    Attributes:
        done: the reports of the rounds so far, as plain values.
        dense: MACs and parameters of the model before the first cut.
    """

    def __init__(
        self, source: nn.Module | None, rounds: Sequence[Round], options: dict[str, Any]
    ) -> None:
        self.source, self.rounds, self.options = source, tuple(rounds), dict(options)
        self.images = self.options.pop("calib_images")
        self.done: list[dict[str, Any]] = []
        self.dense: dict[str, int] = {}

    def build(self, cfg: Any, **kwargs: Any) -> nn.Module:
        """The host's Model(cfg, ...): of the model as it now is."""
        return build_heir(self.source)(cfg, **kwargs)

    def on_optimizer(self, run: Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        hold_masks(model, optimizer)
        if not self.dense:
            found = cost(model, run.opt.imgsz)
            self.dense = {"macs": found.macs, "params": found.params}
        if run.is_main and not run.resumed:
            rounds = [asdict(each) for each in self.rounds]
            checkpoint.write_aside(run.folder / PLAN, json.dumps(rounds, indent=2).encode())

    def on_resume(self, run: Run, state: dict[str, Any]) -> None:
        self.done = list(state.get("rounds", []))
        self.dense = dict(state.get("dense", self.dense))

    def on_epoch_start(self, run: Run) -> None:
        due = self.rounds[len(self.done)] if len(self.done) < len(self.rounds) else None
        if due is None or run.epoch < due.epoch:
            return
        if run.is_main:
            self.cut_(run, due)
        of_main(None)  # the others wait
        self.source = checkpoint.load(run.last).model
        run.begin_again(f"round {len(self.done) + run.is_main} of {len(self.rounds)} is cut")

    def cut_(self, run: Run, due: Round) -> None:
        """Replace the last checkpoint by that of a smaller model."""
        number, imgsz = len(self.done) + 1, run.opt.imgsz
        LOGGER.info(f"\nslim: round {number} of {len(self.rounds)}, after epoch {due.epoch}")
        data, saved = read_data(run.opt.data), checkpoint.read(run.last)
        images = calibrate(
            data,
            saved["ema"].float(),
            imgsz=imgsz,
            images=self.images,
            batch_size=criteria.find(self.options["criterion"]).batch,
            seed=run.opt.seed,
        )

        def judge(model: nn.Module) -> Any:
            return evaluate(
                model, data, imgsz=imgsz, workers=run.opt.workers, device=str(run.opt.device)
            )

        macs = due.left * self.dense["macs"]
        new, report = cut_checkpoint(saved, images, judge, macs=macs, imgsz=imgsz, **self.options)
        weights = run.folder / "weights"
        checkpoint.save_model(
            saved["ema"], weights / KEPT.format(number), opt=saved.get("opt") or None
        )
        rounds = [*self.done, report.as_dict()]
        checkpoint.write(run.last, {**new, checkpoint.STATE: self.state() | {"rounds": rounds}})
        (weights / "best.pt").unlink(missing_ok=True)  # of a larger model: a new one is looked for
        LOGGER.info(said(report))

    def state(self) -> dict[str, Any]:
        return {"rounds": self.done, "dense": self.dense}


def said(report: RoundReport) -> str:
    """A round in a line or two."""
    left = report.macs[1] / report.macs[0]
    text = f"slim: MACs {giga(report.macs[0])} -> {giga(report.macs[1])} ({left:.1%}), mAP50-95 "
    return text + ", ".join(f"{value[1]:.3f} {name}" for name, value in report.accuracy.items())
