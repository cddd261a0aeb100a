"""From a target to what a budget looks for: channels, MACs, parameters or bytes that are left.

All of these follow from the masks (`MaskCost`). A latency does not: it is measured (see
`pruning.latency`), for masks that leave some share of the MACs.
"""

from __future__ import annotations

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.pruning.budget.choose import Goal, percent_goal
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.target import Target
from yolo_slim.pruning.masks import Masks, keep_vector

SLACK = 0.01  # a cut may miss its target by this share of it; the docs promise twice as much


def goal_of(
    target: Target, graph: ChannelGraph, counted: MaskCost | None, round_to: int = 1
) -> Goal:
    """What a budget comes down to for a target that follows from the masks.

    Args:
        target: no latency.
        graph: of the model that is cut.
        counted: its costs; not needed for a percent.
        round_to: what a layer keeps is a multiple of it; a percent is then met to 1%.
    """
    name, value = target.name, target.value
    if name == "percent":
        return percent_goal(graph, target, round_to)
    assert counted is not None
    count = {"macs": counted.macs, "params": counted.params, "size_mb": counted.size}[name]
    if name == "size_mb":
        return Goal(target.option, lambda keep: count(keep) / 1e6, value, SLACK * value)
    dense = count(counted.everything)
    return Goal(target.option, count, value * dense, SLACK * value * dense, dense)


def step_goal(
    target: Target, part: float, graph: ChannelGraph, counted: MaskCost, round_to: int = 1
) -> Goal:
    """The goal of a step that goes a part of the way, in [0, 1]; a latency goes by MACs."""
    whole = counted.size(counted.everything) / 1e6 if target.name == "size_mb" else 0.0
    return goal_of(target.part(part, whole), graph, counted, round_to)


def what_is_left(target: Target, graph: ChannelGraph, counted: MaskCost, masks: Masks) -> float:
    """What masks leave, in the unit of a target that is no percent."""
    goal = goal_of(target, graph, counted)
    return goal.left(keep_vector(graph, masks)) / goal.unit
