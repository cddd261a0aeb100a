"""What a cut was asked for and what came of it, layer by layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from math import gcd
from typing import Any

import numpy as np

from yolo_slim.channels.graph import RESIDUAL_PINS, ChannelGraph
from yolo_slim.measure.cost import Cost
from yolo_slim.pruning.masks import Masks
from yolo_slim.text import giga, mega, ratio, table

PLANNED = (*RESIDUAL_PINS, "--keep")  # what a layer is held by that the user may choose
FAR = 0.25  # share of the channels that are pinned by something else, to be spoken of
SHOWN = 5  # modules without a rule that are listed
UNITS = {
    "percent": "of the prunable channels",
    "macs": "of the MACs",
    "params": "of the parameters",
    "size_mb": "MB",
    "latency": "of the latency",
}


@dataclass(frozen=True)
class Reached:
    """What was asked for, and what came of it.

    Attributes:
        name: of the `Target`.
        requested, achieved: in its unit.
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


@dataclass(frozen=True)
class LayerCut:
    """One BN: its channels, how many are kept, and what held it back ("" for nothing)."""

    name: str
    channels: int
    kept: int
    note: str = ""

    @property
    def pinned(self) -> bool:
        """True if it was not to be cut."""
        return bool(self.note) and self.note != "floor" and not self.note.startswith("ratio ")


@dataclass(frozen=True)
class CutReport:
    """What a cut was asked for and what came of it. Prints itself as tables.

    Attributes:
        target: what was requested and what was reached.
        achieved: share of the prunable channels that was cut.
        layers: one entry a BN, in the order of the model.
        before, after: cost of the dense and of the pruned model.
        parity: largest relative difference between masked and pruned model, float64.
        unknown: the modules that have no rule, one text each; they were left as they are.
        residual: skip, inner or group.
        criterion, budget, round_to: how the channels were chosen, see `prune`.
        calibration: images that were looked at for it.
        recovered: what was done after the cut.
        pinned: what pins most channels, see `ChannelGraph.pins`.
    """

    target: Reached
    achieved: float
    layers: tuple[LayerCut, ...]
    before: Cost
    after: Cost
    parity: float
    unknown: tuple[str, ...] = ()
    residual: str = "skip"
    criterion: str = "bn"
    budget: str = "global"
    round_to: int = 1
    calibration: int = 0
    recovered: tuple[str, ...] = ()
    pinned: str = ""

    @property
    def percent(self) -> float:
        """Requested share of the prunable channels; the achieved one if something else was."""
        return self.target.requested if self.target.name == "percent" else self.achieved

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {"percent": self.percent, **asdict(self)}

    def layer_table(self) -> str:
        """Kept of total by layer."""
        rows = [
            [c.name, str(c.channels), str(c.kept), f"{c.kept / c.channels:.0%}", c.note]
            for c in self.layers
        ]
        return table(["BatchNorm", "channels", "kept", "share", "held by"], rows)

    def summary(self) -> str:
        """Before and after."""
        rows = [
            [
                "parameters",
                f"{self.before.params:,}",
                f"{self.after.params:,}",
                ratio(self.after.params, self.before.params),
            ],
            [
                f"MACs at {self.before.imgsz} px",
                giga(self.before.macs),
                giga(self.after.macs),
                ratio(self.after.macs, self.before.macs),
            ],
        ]
        if self.before.bytes and self.after.bytes:
            rows.append(
                [
                    "file",
                    mega(self.before.bytes),
                    mega(self.after.bytes),
                    ratio(self.after.bytes, self.before.bytes),
                ]
            )
        text = table(["", "dense", "pruned", "left"], rows)
        text += f"{self.target}; parity: largest difference {self.parity:.1e}\n"
        if self.target.name != "percent":
            text += f"{self.achieved:.1%} of the prunable channels were cut\n"
        text += f"{self.how()}\n"
        held = sum(c.note == "floor" for c in self.layers)
        channels = sum(c.channels for c in self.layers)
        rounded = len(self.layers) + 0.01 * channels * (self.round_to > 1)
        short = self.target.name == "percent" and self.percent - self.achieved
        if short * channels > rounded:
            text += f"{held} layers are at their floor: no more could be cut\n"
        pinned = [c for c in self.layers if c.pinned and not c.note.startswith(PLANNED)]
        fixed = sum(c.channels for c in pinned)
        if fixed > FAR * channels:
            text += f"{fixed} of {channels} channels could not be cut: {self.pinned}\n"
        for module in self.unknown[:SHOWN]:
            text += f"left as it is, it has no rule: {module}\n"
        if len(self.unknown) > SHOWN:
            text += f"and {len(self.unknown) - SHOWN} more without a rule, see report.json\n"
        return text

    def how(self) -> str:
        """How the channels were chosen, in a line."""
        text = f"criterion {self.criterion}, budget {self.budget}, "
        text += self.rounded()
        if self.calibration:
            text += f", {self.calibration} calibration images"
        return text + "".join(f", + {part}" for part in self.recovered)

    def rounded(self) -> str:
        """What the layers that were cut keep multiples of: less than asked for in narrow ones."""
        if self.round_to == 1:
            return "not rounded"
        step = gcd(self.round_to, *(c.kept for c in self.layers if c.kept < c.channels))
        if step == self.round_to:
            return f"in multiples of {step}"
        most = f"in multiples of {self.round_to} where a layer is wide enough"
        return f"{most}, else of {step}" if step > 1 else most

    def __str__(self) -> str:
        return self.layer_table() + "\n" + self.summary()


def layer_cuts(
    graph: ChannelGraph,
    masks: Masks,
    min_channels: int = 1,
    keep: Collection[str] = (),
    ratios: Mapping[str, float] | None = None,
) -> tuple[LayerCut, ...]:
    """One entry a BN: how many channels it had, how many it keeps, what held it back."""
    rows = []
    for norm in graph.norms.values():
        kept = int(masks[norm.name].sum()) if norm.name in masks else norm.channels
        parts = len(np.unique(graph.parts[norm.ids]))
        least = min_channels * parts
        floor = norm.pinned is None and kept <= least and (kept < norm.channels or least > parts)
        note = norm.pinned or ("floor" if floor else "")
        if norm.pinned is None and (norm.name in keep or set(norm.tied) & set(keep)):
            note = "--keep"
        elif ratios and norm.name in ratios:
            note = f"ratio {ratios[norm.name]:g}"
        rows.append(LayerCut(norm.name, norm.channels, kept, note))
    return tuple(rows)
