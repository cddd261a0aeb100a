"""What a sparse training's history means, in words: is it on its way, and can the model be cut?

With `--sr auto` the penalty knows how far it should be. With a fixed sr the last epochs are
extrapolated; YOLOv5's learning rate falls to about zero in a straight line, and gammas move with
it: the way that is still to come is half of pace times epochs left, and zero is reached after x of
them where

    pace * (x - x^2 / (2 * left)) = what is left of |gamma|
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from yolo_slim.sparsify import guard
from yolo_slim.sparsify.readiness import Kept, Sparsity
from yolo_slim.sparsify.schedule import REACHED

SLACK = 0.01  # share of the channels that may be missing: prune.py meets a percent to as much
BEHIND, AHEAD = 0.25, 0.35  # shares of the way to zero: a larger gap is reported
EARLY = 0.25  # of the run, before REACHED
FALLEN = 0.8  # of the best mAP50: below it falls
LAST = 3  # epochs that the pace is taken from
HOLDS = 0.9  # of mAP50: a cut that keeps so much is a good one


def way_done(history: Sequence[Sparsity], percent: float) -> float:
    """How much of the way to zero is done, in [0, 1].

    By the quantile or by the count, whichever is further: some penalties move all channels at a
    time, others one after another.
    """
    first, last = max(1.0, history[0].quantile), history[-1]
    done = max(1 - last.quantile / first, last.near_zero / percent if percent else 1.0)
    return min(max(done, 0.0), 1.0)


def pace(history: Sequence[Sparsity], percent: float, epochs: int, due: float | None = None) -> str:
    """Whether a training gets to its aim.

    Args:
        history: one entry an epoch.
        percent: the share that is to be cut.
        epochs: length of the run.
        due: of an sr that sets itself: how much of the way should be done; None: sr is fixed.

    Returns:
        "ready", "on the way", "too slow", "too fast"; of a fixed sr in its first epochs "too early
        to tell".
    """
    last = history[-1]
    best = max((row.map50 for row in history if not math.isnan(row.map50)), default=0.0)
    done, falls = last.epoch + 1, last.map50 < FALLEN * best
    if last.near_zero >= percent - SLACK:
        return "ready"
    if due is not None:
        ahead = way_done(history, percent) - due
        if due == 1 or not ahead >= -BEHIND:  # nan is too slow as well
            return "too slow"
        return "too fast" if ahead > AHEAD and falls else "on the way"
    left, count = epochs - done, min(LAST, len(history) - 1)
    if count < 2 and left:
        return "too early to tell"
    speed = (history[-1 - count].quantile - last.quantile) / max(count, 1)
    if not left or not speed > 0 or not 2 * last.quantile <= speed * left:
        return "too slow"
    zero = done + left * (1 - math.sqrt(1 - 2 * last.quantile / (speed * left)))
    return "too fast" if zero < (REACHED - EARLY) * epochs and falls else "on the way"


def line(history: Sequence[Sparsity], percent: float, epochs: int, due: float | None = None) -> str:
    """The last epoch in one line for the log; arguments as for `pace`."""
    last, words = history[-1], pace(history, percent, epochs, due)
    done, end = last.epoch + 1, math.ceil(REACHED * epochs)
    auto = due is not None
    when = f" at epoch {end}" if auto and done < end else ""
    advice = {
        "too slow": " (at this pace it ends short of it; --sr auto sets the strength by itself)",
        "too fast": " (mAP falls with it; --sr auto sets the strength by itself)",
    }
    text = f"sparsity {done}/{epochs}: {last.near_zero:.0%} of channels at zero, "
    text += f"aim {percent:.0%}{when}: {words}{'' if auto else advice.get(words, '')}."
    text += broken(history)
    measured = [row for row in history if row.now or row.aim]
    if measured:
        row = measured[-1]
        cuts = [f"{cut.share:.0%} keeps {part(cut.kept)}" for cut in (row.now, row.aim) if cut]
        when = "now" if row is last else f"at epoch {row.epoch + 1}"
        text += f" Cut {when}: {', '.join([f'{cuts[0]} of mAP50', *cuts[1:]])}."
    return text


def verdict(history: Sequence[Sparsity], percent: float, advice: str) -> str:
    """Whether a model is ready to be cut, and by how much.

    Args:
        history: of a sparse training; its first and last epoch count.
        percent: the share that is wanted.
        advice: a sentence: what helps where it is not ready.
    """
    first, last = history[0], history[-1]
    share = f"{last.near_zero:.0%} of the prunable channels have |gamma| near zero"
    safe = min(twentieths(last.near_zero), 0.95)
    if last.near_zero >= percent - SLACK:
        more = f", {safe:g} at most" if safe > percent else ""
        head = "Ready" if cheap(last.aim) else "Sparse, but a cut costs"
        head = "Sparse, but broken" if broken(history) else head
        text = f"{head}: {share}. Cut with --percent {percent:g}{more}.{probed(last.aim)}"
        return text + broken(history) + unlearned(history)
    if safe >= 0.1:
        head = "Ready for a smaller cut" if cheap(last.now) else "Sparse in part, but a cut costs"
        text = f"{head}: {share}. Cut with --percent {safe:g}.{probed(last.now)} "
        text += f"More takes channels that still work. {advice}"
        return text + broken(history) + unlearned(history)
    return (
        f"Not ready: {share}; in units of its layer's median at the start the {percent:.0%} "
        f"quantile went from {first.quantile:.2f} to {last.quantile:.2f}. A cut now takes channels "
        f"that work. {advice}{unlearned(history)}"
    )


def broken(history: Sequence[Sparsity]) -> str:
    """A sentence if the last epoch's mAP50 is far below the best; nothing else."""
    best = max((row.map50 for row in history if not math.isnan(row.map50)), default=0.0)
    last = history[-1].map50
    if best < guard.LEAST or not last < guard.FALLEN * best:
        return ""
    text = f" mAP50 fell from {best:.3f} to {last:.3f}: the model has lost what it knew."
    return f"{text} A smaller --percent or more epochs keep more of it."


def unlearned(history: Sequence[Sparsity]) -> str:
    """A sentence if the model never knew anything worth keeping; nothing else."""
    known = [row.map50 for row in history if not math.isnan(row.map50)]
    if not known or max(known) >= guard.LEAST:
        return ""
    text = f" mAP50 is {max(known):.3f} at best: the model knows next to nothing yet."
    return f"{text} Train it for more epochs before a cut, or begin with trained weights."


def share_worth_cutting(history: Sequence[Sparsity], percent: float) -> float:
    """The share that can be cut of what a training has made sparse; 0: none worth it."""
    near = history[-1].near_zero
    safe = min(twentieths(near), 0.95)
    return percent if near >= percent - SLACK else safe if safe >= 0.1 else 0.0


def twentieths(share: float) -> float:
    """A share, down to a multiple of 5%."""
    return math.floor(share * 20 + 1e-9) / 20


def cheap(cut: Kept | None) -> bool:
    """Whether a quick cut keeps most of mAP50; one that was not measured is believed to."""
    return cut is None or cut.kept >= HOLDS


def part(kept: float) -> str:
    """A part of mAP50 in words; on a few images a cut may measure better than none, by chance."""
    return "all" if kept >= 0.995 else f"{kept:.0%}"


def probed(cut: Kept | None) -> str:
    """What a quick cut says of the real one; nothing where it was not measured."""
    if cut is None:
        return ""
    text = f" Before finetuning {cut.share:.0%} keeps {part(cut.kept)} of mAP50 on a few images"
    return f"{text}." if cheap(cut) else f"{text}: finetuning has to win the rest back."
