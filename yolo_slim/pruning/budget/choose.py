"""From scores to what is kept: how much goes, and in blocks of how many channels.

By default one threshold over all layers, as in Liu et al. 2017, section 3. Departures: each layer
keeps at least a floor of channels; what the floor holds back is cut elsewhere, so that what was
asked for is reached wherever it can be; and what is kept is a multiple of `round_to` where the
layer is wide enough, since a runtime works in blocks of channels and pays for a begun one as for a
whole. A share, MACs or a size is met all the same: if blocks of this step do not do, narrower
layers follow, with half of the step, and so on down to single channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from yolo_slim.channels.graph import RESIDUAL_PINS, ChannelGraph
from yolo_slim.errors import InputError, check_count
from yolo_slim.pruning.budget.blocks import Block, Blocks
from yolo_slim.pruning.budget.spread import Spread, ranked
from yolo_slim.pruning.budget.target import Target
from yolo_slim.pruning.masks import Masks


@dataclass(frozen=True)
class Goal:
    """What a cut comes down to.

    Attributes:
        name: the option that asks for it, such as "--macs".
        left: keep vector (ids + 1,) bool, see `keep_vector`, to what is left.
        value: what is to be left, in the unit of `left`.
        slack: how far from it may remain, in the same unit.
        unit: `left` of the model as it is, to give shares of it in messages; 1 for absolute values.
        percent: of a share of the channels, this share; it may fall short where the floor forbids
            more. None: what is asked for must be reached.
        implied: nobody asked for it: shares by layer that name every layer come before it.
    """

    name: str
    left: Callable[[np.ndarray], float]
    value: float
    slack: float
    unit: float = 1.0
    percent: float | None = None
    implied: bool = False


def choose_masks(
    graph: ChannelGraph,
    scores: Mapping[str, torch.Tensor],
    goal: Goal,
    *,
    min_channels: int = 1,
    keep: Collection[str] = (),
    ratios: Mapping[str, float] | None = None,
    round_to: int = 1,
    spread: Spread = "global",
    worth: Mapping[str, float] | None = None,
) -> Masks:
    """Cut the channels with the smallest scores, over all layers.

    Args:
        graph: which channels there are and which go together.
        scores: BN name to (C,), for all prunable BNs of the graph.
        goal: what is to be left; of a share of the channels those of `keep` and `ratios` count too.
        min_channels: each BN keeps at least so many, all where it has fewer.
        keep: BNs that are not cut.
        ratios: BN name to the share of its channels to cut; the other layers make up the rest.
        round_to: what a layer keeps is a multiple of it, where it has at least twice as many and
            the goal can be met so.
        spread: how the cut spreads over the layers, see `ranked`.
        worth: the residual Bottlenecks that may go as a whole, see `Blocks`.

    Returns:
        Masks of the prunable BNs. Of a percent fewer channels are cut than asked for where the
        floor or a group does not let more go; compare with `achieved`. With round_to > 1 a percent
        is met to 1% of the channels.

    Raises:
        InputError: min_channels or round_to out of range; keep and ratios make the percent
            impossible, or tied BNs have different ratios; another goal cannot be reached.
    """
    ratios = {name: share for name, share in (ratios or {}).items() if name not in keep}
    check_count("min_channels", min_channels)
    check_count("round_to", round_to)
    cut = Blocks(graph, scores, min_channels, worth)
    held = {g for name in keep for g in cut.groups(name)}
    own = {g for name in ratios for g in cut.groups(name)} - held
    for name, part in ratios.items():
        if any(ratios.get(other, part) != part for other in cut.tied(name)):
            raise InputError(f"--ratio {name}", part, "one share for BatchNorms that are tied")
        cut_layer_(cut, name, part, held, round_to)
    whole = bool(ratios) and len(held | own) == len(cut.size)
    wide = sum(graph.norms[name].channels >= 2 * round_to for name in ratios)
    slack = len(ratios) + wide * (round_to // 2)  # each ratio is rounded
    if goal.percent is not None:
        wanted, gone = graph.prunable_channels - goal.value, cut.gone()
        if ratios and gone > wanted + slack and not (whole and goal.implied):
            least = math.ceil(1000 * gone / graph.prunable_channels) / 1000
            got = f"{goal.percent:g}, less than --ratio cuts"
            raise InputError("--percent", got, f"{least:g} or more")
        if whole and (goal.implied or abs(gone - wanted) <= slack):
            return cut.masks()
    most = goal.left(cut.keep(graph))
    too_much = goal.percent is None and most < goal.value - goal.slack
    if too_much or not come_down_(cut, graph, goal, held | own, round_to, spread):
        for block in cut.blocks(1, held | own):
            cut.cut(cut.left_of(block))
        _refuse(graph, cut, goal, most, bool(keep or ratios))
    return cut.masks()


def masks_by_percent(
    graph: ChannelGraph,
    scores: Mapping[str, torch.Tensor],
    percent: float | None = None,
    **options: Any,
) -> Masks:
    """`choose_masks` for a share of the channels; None: 60%, or what `ratios` add up to.

    Args:
        graph, scores, options: see `choose_masks`.
        percent: share of the prunable channels to cut, in [0, 1).
    """
    goal = percent_goal(graph, Target.of(percent=percent), options.get("round_to", 1))
    return choose_masks(graph, scores, goal, **options)


def percent_goal(graph: ChannelGraph, target: Target, round_to: int = 1) -> Goal:
    """The goal of a share of the prunable channels, counted in channels."""
    total = graph.prunable_channels
    ids = np.concatenate([np.zeros(0, int), *(norm.ids for norm in graph.prunable)])
    return Goal(
        target.option,
        lambda keep: int(keep[ids].sum()),
        total - round(target.value * total),
        0.0 if round_to == 1 else 0.01 * total,
        total,
        target.value,
        target.implied,
    )


def cut_layer_(cut: Blocks, name: str, share: float, held: Collection[int], round_to: int) -> None:
    """Cut a share of one BN, lowest scores first; what is kept is rounded as elsewhere."""
    if name not in cut.place:
        return
    channels = cut.norms[cut.place[name]].channels
    kept = channels - round(share * channels)
    if channels >= 2 * round_to and kept % round_to:
        kept = min(max(round(kept / round_to), 1) * round_to, channels)
    for group in sorted(cut.groups(name) - set(held), key=lambda g: (cut.score[g], g)):
        if cut.gone(name) >= channels - kept:
            break
        if not cut.taken[group] and cut.cut((group,)) and cut.gone(name) > channels - kept:
            cut.restore((group,))


def come_down_(
    cut: Blocks,
    graph: ChannelGraph,
    goal: Goal,
    held: Collection[int],
    round_to: int = 1,
    spread: Spread = "global",
) -> bool:
    """Cut blocks in their order until the goal is met.

    What would go below the goal is passed over, and others further on are tried; if none of them
    meets it, what comes nearest stays.

    Returns:
        False if it is out of reach: all that may go is gone.
    """

    def left() -> float:
        return goal.left(cut.keep(graph))

    slack, step = 0.0 if round_to == 1 else goal.slack, round_to  # single channels come nearest
    least, most = goal.value - slack, goal.value + slack
    while left() > most:
        queue = ranked(cut, cut.blocks(step, held), spread)
        for block in queue[_prefix_(cut, queue, lambda: left() >= goal.value) :]:
            if left() <= most:
                break
            groups = cut.left_of(block)
            if cut.cut(groups) and left() < least:
                cut.restore(groups)
        if step == 1:
            break
        step //= 2
    if left() <= most:
        return True
    further = {}  # single channels that the floor allows to cut, but then less is left than asked
    for group in cut.next_of_each(held):
        if cut.cut((group,)):
            further[group] = abs(left() - goal.value)
            cut.restore((group,))
    nearest = min(further, key=further.__getitem__, default=None)
    if nearest is not None and further[nearest] < abs(left() - goal.value):
        cut.cut((nearest,))
    return bool(further) or left() <= goal.value + goal.slack


def _prefix_(cut: Blocks, queue: list[Block], holds: Callable[[], bool]) -> int:
    """Cut as many blocks from the front as a condition allows, found by bisection.

    Args:
        cut: cut in place.
        queue: the blocks; those that the floor does not let go are passed over.
        holds: true at first, and false from some length on.

    Returns:
        How many of the queue were tried.
    """
    tried = [i for i, block in enumerate(queue) if cut.cut(block.groups)]
    low, high, at = 0, len(tried), len(tried)
    while True:
        if holds():
            low = at
        else:
            high = at - 1
        middle = low if low >= high else (low + high + 1) // 2
        for i in tried[middle:at]:
            cut.restore(queue[i].groups)
        for i in tried[at:middle]:
            assert cut.cut(queue[i].groups)
        at = middle
        if low >= high:
            return tried[at - 1] + 1 if at else 0


def _refuse(
    graph: ChannelGraph,
    cut: Blocks,
    goal: Goal,
    most: float,
    chosen: bool,
) -> None:
    """Say that a goal is out of reach; of a percent only if it is not the floor that forbids it.

    Args:
        graph, goal: see `choose_masks`.
        cut: all that may go is gone.
        most: what the goal is about, before.
        chosen: there are --keep or --ratio.
    """
    if goal.percent is not None:
        wanted = graph.prunable_channels - goal.value
        gone = graph.prunable_channels - goal.left(cut.keep(graph))
        if chosen and wanted - gone >= cut.size.max(initial=1):
            got = f"{goal.percent:g}, more than --keep, --ratio and --min-channels leave"
            most = math.floor(1000 * gone / graph.prunable_channels) / 1000
            raise InputError("--percent", got, f"at most {most:g}")
        return
    least = goal.left(cut.keep(graph)) / goal.unit
    expected = f"{math.ceil(1000 * least) / 1000:g} to {most / goal.unit:.3g}, what can be reached"
    if graph.pins() and not graph.pins().startswith(RESIDUAL_PINS):  # without it more could be
        expected += f" ({graph.pins()})"
    raise InputError(goal.name, f"{goal.value / goal.unit:g}", expected)


def check_cuttable(graph: ChannelGraph, target: Target) -> None:
    """See that a model has channels to cut, if any are to go.

    Raises:
        InputError: all are pinned.
    """
    asked = target.value > 0 if target.name == "percent" else target.value < 1
    if not graph.prunable_channels and (asked or target.name == "size_mb"):
        got = f"none of its {graph.channels} channels can be cut ({graph.pins() or 'no BatchNorm'})"
        raise InputError("model", got, "some that can; a rule for a module lets go what it pins")


def check_some_cut(
    graph: ChannelGraph, target: Target, masks: Mapping[str, torch.Tensor], min_channels: int
) -> None:
    """See that a share of the channels did not come to nothing.

    Raises:
        InputError: it did, and not since it is less than a channel of each layer.
    """
    wanted = target.value * graph.prunable_channels if target.name == "percent" else 0
    if wanted > len(graph.prunable) and all(mask.all() for mask in masks.values()):
        got = f"{target.value:g} of the channels, and none can go: each layer has the least"
        raise InputError(target.option, got, f"--min-channels below {min_channels}")


def achieved(graph: ChannelGraph, masks: Mapping[str, torch.Tensor]) -> float:
    """The share of the prunable channels that masks cut."""
    cut = sum(int((~masks[n.name]).sum()) for n in graph.prunable if n.name in masks)
    return cut / max(graph.prunable_channels, 1)
