"""A quick cut in the middle of a training: what would be left of mAP if it were made now?

The cut is that of prune.py with its defaults, constants moved, on the moving average that is saved.
Cut and uncut model are validated on the same few images
of the validation split. That takes a bounded share of the training's time, and leaves no trace in
it: with and without, a run ends in the same bits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.host.compat import replaced
from yolo_slim.host.training import LOGGER, Run
from yolo_slim.host.validation import Validation
from yolo_slim.pruning.budget.choose import masks_by_percent
from yolo_slim.pruning.budget.target import ROUND_TO
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.masks import Masks
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover.constants import move_constants_
from yolo_slim.sparsify.probe_cost import FIXED, MOST, SIZES, Cost, images_now
from yolo_slim.sparsify.readiness import Kept
from yolo_slim.sparsify.verdict import SLACK, twentieths
from yolo_slim.weight_masks import baked

LEAST = 0.05  # mAP50; if the uncut model has less, a quick cut tells nothing

Cuts = tuple[Kept | None, Kept | None]  # of what is near zero now, of what is wanted


class Probe:
    """Cuts and validates now and then; made when the training begins: its clock runs from there.

    Args:
        data: from `read_data`; its val split is looked at.
        imgsz: longest side of an image, px.
        percent: the share that is to be cut.
        graph: of the model that is trained.
        keep: BNs that are not to be cut.
        round_to: as of prune.py.
        most: share of the training's seconds that it may take.
        clock: gives seconds.

    Attributes:
        spent: seconds so far.
        seconds: of the training without it.
    """

    def __init__(
        self,
        data: dict[str, Any],
        graph: ChannelGraph,
        *,
        imgsz: int,
        percent: float,
        keep: Collection[str] = (),
        round_to: int = ROUND_TO,
        most: float = MOST,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.data, self.graph, self.keep, self.round_to = data, graph, keep, round_to
        self.imgsz, self.percent, self.most = imgsz, percent, most
        self.spent = self.seconds = 0.0
        self._clock, self._began, self._epochs = clock, clock(), 0
        self._cost: Cost | None = None
        self._sizes, self._off = list(SIZES), False
        self._images: tuple[int, Validation] | None = None

    def look(self, run: Run, near_zero: float) -> Cuts:
        """Probe the moving average at the end of an epoch, if there is time for it.

        Args:
            run: its model, its generators and its modes are left as they are.
            near_zero: share of the channels that may be cut, and are near zero.

        Returns:
            What the cuts keep; None for what was not measured. A failure is one warning and the
            last look; the training goes on.
        """
        began = self._clock()
        self._epochs += 1
        self.seconds = began - self._began - self.spent
        shares = self.shares(near_zero)
        credit = self.most * self.seconds - self.spent
        images = 0 if self._off else self._affordable(run, credit, 1 + sum(map(bool, shares)))
        if not images:
            return None, None
        cuts: Cuts = (None, None)
        runs = 0
        try:
            with same_generators(), torch.no_grad():
                cuts, runs = self._measure(run.ema, shares, images, began + credit)
        except Exception as error:  # a look is not worth a training
            self._off = True
            text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            LOGGER.warning(f"sparsity: no more quick cuts, since one failed ({text})")
        took = self._clock() - began
        self.spent += took
        if runs:
            self._cost = Cost.measured(took, images, runs)
        return cuts

    def shares(self, near_zero: float) -> tuple[float, float]:
        """The two shares of all prunable channels to cut; 0 for one that would tell nothing.

        Args:
            near_zero: share of those that may be cut.
        """
        free = sum(n.channels for n in self.graph.prunable if n.name not in self.keep)
        near_zero *= free / self.graph.prunable_channels
        now = min(twentieths(near_zero), 0.95)
        same = abs(now - self.percent) < 1e-9 or 0 <= self.percent - near_zero <= SLACK
        return (0.0 if same else now), self.percent

    def _affordable(self, run: Run, credit: float, runs: int) -> int:
        """How many images there is time for; see `images_now`."""
        each = self.seconds / self._epochs
        guess = Cost(FIXED, each / (run.batches * run.batch_size) / 2)  # there is no backward pass
        return images_now(
            self._cost or guess,
            runs=runs,
            credit=credit,
            income=self.most * each,
            left=run.epochs - run.epoch - 1,
            epochs=run.epochs,
            sizes=self._sizes,
        )

    def _measure(
        self, ema: nn.Module, shares: tuple[float, float], images: int, until: float
    ) -> tuple[Cuts, int]:
        """What the cuts keep, and how many validations it took. None begins if it may end late."""
        if self._images is None or self._images[0] != images:
            try:
                self._images = images, self._load(ema, images)
            except InputError:  # no labels in so few
                self._sizes = [n for n in self._sizes if n > images]
                return (None, None), 0
        validation = self._images[1]
        model = baked(ema).cpu()
        began = self._clock()
        before = validation(model).map50
        each = self._clock() - began
        if before < LEAST:
            return (None, None), 1
        choose = partial(
            masks_by_percent,
            self.graph,
            score(model, self.graph),
            keep=self.keep,
            round_to=self.round_to,
        )
        cuts: list[Kept | None] = [None, None]
        for place, share in enumerate(shares):
            if share and self._clock() + each <= until:
                with suppress(InputError):  # more than --keep leaves
                    after = validation(self._cut(model, choose(share))).map50
                    cuts[place] = Kept(share, after / before)
        return (cuts[0], cuts[1]), 1 + sum(cut is not None for cut in cuts)

    def _cut(self, model: nn.Module, masks: Masks) -> nn.Module:
        """What prune.py would make of it."""
        with replaced(LOGGER, disabled=True):  # the host tells of each model that is built
            slim = rebuild(model, self.graph, masks)
        move_constants_(slim, model, self.graph, masks)
        return slim

    def _load(self, ema: nn.Module, images: int) -> Validation:
        kind = next(ema.parameters()).device.type
        return Validation(
            ema,
            self.data,
            imgsz=self.imgsz,
            images=images,
            device="" if kind == "cuda" else kind,  # the host's first GPU is the one it trains on
            progress=False,
        )


@contextmanager
def same_generators() -> Iterator[None]:
    """Put the random generators of Python, NumPy and torch back to where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
