"""What is to be left of a model: MACs, parameters, megabytes or milliseconds.

MACs, parameters and the file's size follow from the masks (`MaskCost`), so that a budget looks for
them directly. Latency is measured: the masks for some share of MACs are made, the model is rebuilt,
exported and run in turns with the dense one, and a line through what was seen says which share of
MACs to try next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn
from tqdm import tqdm

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.errors import InputError
from yolo_slim.measure.latency import onnx_latency
from yolo_slim.pruning.blocks import Masks
from yolo_slim.pruning.budget import Goal
from yolo_slim.pruning.mask_cost import MaskCost
from yolo_slim.pruning.rebuild import rebuild

SLACK = 0.01  # of a target; twice that is what is promised
LATENCY_SLACK = 0.03  # the promise is 0.05
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


def search_latency(
    model: nn.Module,
    graph: ChannelGraph,
    masks_at: Callable[[float], Masks],
    wanted: float,
    *,
    imgsz: int,
    threads: int = 2,
    tries: int = 7,
) -> tuple[Masks, float]:
    """Masks with which ONNX Runtime takes a share of the time that it takes for the model.

    Args:
        model: a detector; left untouched.
        graph: its channel graph.
        masks_at: share of MACs to masks; raises InputError where it cannot be reached.
        wanted: share of the latency.
        imgsz: side of the image, px.
        threads: of ONNX Runtime.
        tries: measurements at most.

    Returns:
        The masks, and the share of the latency that was measured for them.

    Raises:
        InputError: the share cannot be reached; the message says what can.
    """
    dense = to_onnx(model, imgsz=imgsz)
    seen: dict[float, float] = {1.0: 1.0}  # share of MACs -> of latency
    best: tuple[float, Masks] | None = None
    share, least = wanted, 0.0
    with tqdm(total=tries, desc="searching the latency", unit="cut") as bar:
        for _ in range(tries):
            try:
                masks = masks_at(share)
            except InputError as error:  # more than can go
                if least:
                    break
                least = share = _smallest(masks_at, share, error)
                masks = masks_at(share)
            pruned = to_onnx(rebuild(model, graph, masks), imgsz=imgsz)
            found = onnx_latency({"dense": dense, "pruned": pruned}, imgsz=imgsz, threads=threads)
            ratio = found["pruned"].median / found["dense"].median
            seen[share] = ratio
            bar.set_postfix_str(f"{share:.2f} of MACs takes {ratio:.2f} of the time")
            bar.update()
            if best is None or abs(ratio - wanted) < abs(best[0] - wanted):
                best = ratio, masks
            if abs(ratio - wanted) <= LATENCY_SLACK * wanted or (share == least and ratio > wanted):
                break
            share = max(_next_share(seen, wanted), least)
    assert best is not None
    if abs(best[0] - wanted) > 0.05 * wanted:
        raise InputError("--latency", f"{wanted:g}", f"{min(seen.values()):.2f} to 1, as measured")
    return best[1], best[0]


def _next_share(seen: dict[float, float], wanted: float) -> float:
    """Where a line through what was seen on both sides of the wanted share meets it."""
    nearest = sorted(seen, key=lambda share: abs(seen[share] - wanted))
    below = [s for s in nearest if seen[s] <= wanted][:1]
    above = [s for s in nearest if seen[s] > wanted][:1]
    a, b = (*below, *above) if below and above else nearest[:2]
    if seen[a] == seen[b] or a == b:
        return a * wanted / seen[a]
    guess = a + (wanted - seen[a]) * (b - a) / (seen[b] - seen[a])
    return float(np.clip(guess, 0.01, 1.0))


def _smallest(masks_at: Callable[[float], Masks], share: float, error: InputError) -> float:
    """The smallest share of MACs that can be reached, by bisection to 0.01."""
    low, high = share, 1.0
    while high - low > 0.01:
        middle = (low + high) / 2
        try:
            masks_at(middle)
            high = middle
        except InputError:
            low = middle
    if high == 1.0:
        raise error
    return high
