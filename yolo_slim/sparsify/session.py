"""A sparse training in the host's loop: penalty, record and guard, called as the run goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import CheckFailed
from yolo_slim.host.training import LOGGER, Hooks, Run
from yolo_slim.sparsify.guard import TRIES, TWICE, Guard
from yolo_slim.sparsify.monitor import SparsityMonitor
from yolo_slim.sparsify.penalty import SparsityPenalty
from yolo_slim.sparsify.probe import Probe
from yolo_slim.sparsify.readiness import start_medians
from yolo_slim.sparsify.schedule import descent, learning_rates, warmup
from yolo_slim.text import fold
from yolo_slim.weight_masks import hold_masks


class SparseSession(Hooks):
    """Hooks of a training with a penalty; it outlives a going back, model and optimizer do not.

    Args:
        make_penalty: (model, opt) to a penalty of that model.
        make_probe: (penalty, run) to a probe, or None where none is wanted.
        announce: (run, penalty) is called before the first epoch.
        conclude: (run, session, verdict) is called when the training is over, in the main process,
            if an epoch has ended; the picture has been drawn.

    Attributes:
        penalty, monitor: None before the training has begun; monitor in the main process alone.
        backs: epochs, from 0, that the run went back to.
        held_from: the epoch from which zeros are held; None before.
    """

    def __init__(
        self,
        make_penalty: Callable[[nn.Module, Any], SparsityPenalty],
        make_probe: Callable[[SparsityPenalty, Run], Probe | None],
        announce: Callable[[Run, SparsityPenalty], None],
        conclude: Callable[[Run, SparseSession, str], None],
    ) -> None:
        self.make_penalty, self.make_probe = make_penalty, make_probe
        self.announce, self.conclude = announce, conclude
        self.penalty: SparsityPenalty | None = None
        self.monitor: SparsityMonitor | None = None
        self.guard = Guard(0)
        self.backs: list[int] = []
        self.weakened = 0
        self.held_from: int | None = None
        self._begun = False

    def on_optimizer(self, run: Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        hold_masks(model, optimizer)
        self.penalty = self.make_penalty(model, run.opt).attach(optimizer)
        self.guard, self._begun = Guard(run.hyp["warmup_epochs"]), False
        if run.is_main:
            self.monitor = SparsityMonitor(
                run.folder,
                names=self.penalty.names,
                start=start_medians(model, self.penalty.names),
                percent=self.penalty.target,
                epochs=run.opt.epochs,
                auto=self.penalty.strategy.automatic,
                probe=self.make_probe(self.penalty, run),
            )
        self._weaken()

    def on_resume(self, run: Run, state: dict[str, Any]) -> None:
        assert self.penalty is not None
        self.penalty.load_state(state.get("penalty") or {})
        self.guard.load_state(state.get("guard") or {})
        self.backs = self.backs or list(state.get("backs", []))
        self.held_from = state.get("held")
        self.weakened = max(self.weakened, state.get("weakened", 0))
        if self.monitor:
            self.monitor.load_state(state.get("monitor") or {})
            self.monitor.rewind(run.epoch + 1)
        self._weaken()

    def on_epoch_start(self, run: Run) -> None:
        assert self.penalty is not None
        run.doubtful = False
        if self._begun:
            return
        self._begun = True
        self.guard.settled = settled(run)
        self.penalty.follow(descent(rates_of(run)))
        if run.is_main and not self.weakened:  # on_back has said how a weakened run goes on
            self.announce(run, self.penalty)

    def on_batch_start(self, run: Run) -> None:
        assert self.penalty is not None
        self.penalty.progress = (
            run.progress if self.penalty.strategy.automatic else run.epoch / run.epochs
        )

    def on_batch_end(self, run: Run) -> None:
        self._back_if(run, self.guard.numbers(run.losses))

    def on_validation(self, run: Run) -> None:
        assert self.penalty is not None
        self._back_if(run, self.guard.gammas(self.penalty.norms.flat("weight")))
        self.penalty.silence_(run.ema)

    def fitness(self, run: Run, fitness: Any) -> Any:
        assert self.penalty is not None
        if not self.penalty.strategy.automatic:
            return fitness
        # Made-up values, not accuracy. Each epoch before the zeros are held is worth a little more
        # than the one before it, so that YOLOv5's early stopping never ends the run on the way; an
        # epoch with its zeros is worth more than any of these, so that best.pt is one of them.
        if self.penalty.holds:
            return 1 + fitness
        return (run.epoch + 1 + fitness) * 1e-6

    def on_epoch_end(self, run: Run) -> None:
        assert self.penalty is not None and self.monitor is not None
        if self.held_from is None and self.penalty.holds:
            self.held_from = run.epoch
        self.monitor.aim_at(self.penalty.target)
        lately = self.held_from is not None and run.epoch - self.held_from < TWICE
        acts = self.penalty.strength > 0 or lately  # what the last channels cost shows afterwards
        why, fell = self.guard.numbers(run.losses), ""
        if not why:
            fell = self.guard.accuracy(run.epoch, run.map50, acts)
        if fell and self.guard.goes_on(run.epoch, self.backs):
            text = "a weaker penalty does not prevent it, so the run goes on"
            LOGGER.warning(fold(f"sparsity: {fell}; {text}. Look whether it comes back."))
            self.guard.borne, fell = True, ""
        self._back_if(run, why or fell)
        if run.going_back:  # of several processes, which go together
            return
        run.doubtful = self.guard.doubts
        text = self.monitor.record(run, sr=self.penalty.strength, due=self.penalty.due)
        LOGGER.info(fold(text, indent="  "))

    def on_back(self, run: Run, why: str) -> None:
        assert self.penalty is not None
        self.penalty.detach()
        self.weakened += 1
        good = f"{run.last} (epoch {run.saved + 1})" if run.saved >= 0 else "none"
        if self.weakened > TRIES:
            raise CheckFailed(
                f"sparse training: {why}, for the {TRIES + 1}th time, so that lr0 or the data may "
                f"be the cause; last good checkpoint: {good}"
            )
        self.backs.append(run.saved)
        self.held_from = None
        place = "the start" if run.saved < 0 else f"epoch {run.saved + 1}"
        text = f"sparsity: {why}. Back to {place}, {self.penalty.weaken_(self.weakened)} "
        LOGGER.warning(fold(f"{text}({self.weakened} of {TRIES} times)"))

    def state(self) -> dict[str, Any]:
        assert self.penalty is not None and self.monitor is not None
        return {
            "penalty": self.penalty.state(),
            "monitor": self.monitor.state(),
            "guard": self.guard.state(),
            "backs": self.backs,
            "held": self.held_from,
            "weakened": self.weakened,
        }

    def finish(self, run: Run) -> None:
        if self.penalty:
            self.penalty.detach()
        if self.monitor is not None and self.monitor.history:
            self.conclude(run, self, self.monitor.finish(self.held_from, self.backs))

    def _weaken(self) -> None:
        """As weak as after the failures so far."""
        if self.penalty and self.weakened:
            self.penalty.weaken_(self.weakened)
            if self.monitor:
                self.monitor.aim_at(self.penalty.target)

    @staticmethod
    def _back_if(run: Run, why: str) -> None:
        if why:
            run.go_back(why)


def settled(run: Run) -> float:
    """Epochs of the warm-up as the host has it, a quarter of a short run at most."""
    return min(warmup(run.hyp, run.batches) / run.batches, run.epochs / 4)


def rates_of(run: Run) -> list[tuple[float, float]]:
    """The optimizer steps of a run that is about to begin an epoch, see `learning_rates`."""
    return list(
        learning_rates(
            run.hyp,
            epochs=run.epochs,
            batches=run.batches,
            batch_size=run.batch_size,
            cosine=run.opt.cos_lr,
        )
    )
