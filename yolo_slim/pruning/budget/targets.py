"""What is to be left of a model: MACs, parameters, megabytes or milliseconds.

MACs, parameters and the file's size follow from the masks (`MaskCost`), so that a budget looks for
them directly. Latency is measured: the masks for some share of MACs are made, the model is rebuilt,
exported and run in turns with the dense one, and a line through what was seen says which share of
MACs to try next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo_slim.errors import InputError
from yolo_slim.pruning.budget.choose import Goal
from yolo_slim.pruning.budget.mask_cost import MaskCost

SLACK = 0.01  # of a target; twice that is what is promised
UNITS = {
    "percent": "of the prunable channels",
    "macs": "of the MACs",
    "params": "of the parameters",
    "size_mb": "MB",
    "latency": "of the latency",
}


@dataclass(frozen=True)
class Target:
    """What was asked for, and what came of it.

    Attributes:
        name: percent (cut), or what is left: macs, params, latency (shares of the model that is
            cut), size_mb (10^6 bytes).
        requested, achieved: in this unit.
    """

    name: str
    requested: float
    achieved: float

    def __str__(self) -> str:
        if self.name == "size_mb":
            return f"requested {self.requested:g} MB, reached {self.achieved:.3g} MB"
        verb = "cut" if self.name == "percent" else "left"
        unit = UNITS[self.name]
        return f"requested {self.requested:.1%} {unit}, {verb} {self.achieved:.1%}"


def option(name: str) -> str:
    """The command line's name of a target."""
    return f"--{name.replace('_', '-')}"


def check_target(name: str, value: object) -> float:
    """The value of a target.

    Raises:
        InputError: no share in (0, 1], or no positive number of MB.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        if name == "size_mb" and np.isfinite(value):
            return float(value)
        if name != "size_mb" and value <= 1:
            return float(value)
    expected = "MB, more than 0" if name == "size_mb" else "the share that is left, in (0, 1]"
    raise InputError(option(name), value, expected)


def goal_of(name: str, value: float, cost: MaskCost) -> Goal:
    """What a budget comes down to for a target that follows from the masks.

    Args:
        name: macs, params or size_mb.
        value: see `Target`.
        cost: of the model that is cut.
    """
    count = {"macs": cost.macs, "params": cost.params, "size_mb": cost.size}[name]
    if name == "size_mb":
        return Goal(option(name), lambda keep: count(keep) / 1e6, value, SLACK * value)
    dense = count(cost.everything)
    return Goal(option(name), count, value * dense, SLACK * value * dense, dense)
