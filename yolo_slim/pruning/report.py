"""What a cut was asked for and what came of it, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np

from yolo_slim.channels.graph import RESIDUAL_PINS, ChannelGraph
from yolo_slim.measure.cost import Cost
from yolo_slim.pruning.masks import Masks
from yolo_slim.pruning.rebuild.parity import LIMIT
from yolo_slim.pruning.times import Times
from yolo_slim.text import counted, fold, giga, mega, ratio, table, times_fewer

PLANNED = (*RESIDUAL_PINS, "--keep")  # what a layer is held by that the user may choose
FAR = 0.25  # share of the channels that are pinned by something else, to be spoken of
OPTION = "--min-channels"  # that sets the floor
REMOVED = "its Bottleneck is gone"
MISSED = 0.05  # of a share of the time: more is told
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
        free = self.note in ("", "floor", REMOVED) or self.note.startswith("ratio ")
        return not free

    @property
    def stays(self) -> str:
        """Why it keeps all channels, in the words of a whole group of layers; "" if it does not."""
        if self.kept < self.channels:
            return ""
        if self.note.startswith(("added in ", "inside the residual ")):
            return "in residual blocks"
        other = "pinned (must stay whole)" if self.pinned else "not chosen"
        named = {"floor": f"at their floor ({OPTION})", "--keep": "kept by --keep"}
        return named.get(self.note, other)

    @property
    def place(self) -> str:
        """The layer of the model that it lies in: "model.4" of "model.4.m.0.cv1.bn"."""
        return ".".join(self.name.split(".")[:2]).removesuffix(".bn")


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
        times: before and after, of a cut to a latency.
        depth: residual Bottlenecks were allowed to go as a whole.
        removed: names of those that went.
        bottlenecks: how many residual Bottlenecks there were.
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
    times: Times | None = None
    depth: bool = False
    removed: tuple[str, ...] = ()
    bottlenecks: int = 0

    @property
    def percent(self) -> float:
        """Requested share of the prunable channels; the achieved one if something else was."""
        return self.target.requested if self.target.name == "percent" else self.achieved

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {"percent": self.percent, **asdict(self)}

    def layer_table(self) -> str:
        """Kept of total, a row a BatchNorm."""
        rows = [
            [c.name, str(c.channels), str(c.kept), f"{c.kept / c.channels:.0%}", c.note]
            for c in self.layers
        ]
        head = ["BatchNorm", "channels", "kept", "share", "held by"]
        return table(head, rows, "Channels of each BatchNorm")

    def plan_table(self) -> str:
        """Kept of total, a row a layer of the model, for those that lose channels."""
        rows = []
        for place, group in groupby(self.layers, lambda c: c.place):
            cut = list(group)
            total, kept = sum(c.channels for c in cut), sum(c.kept for c in cut)
            if kept < total:
                sizes = Counter(f"{c.channels} to {c.kept}" for c in cut if c.kept < c.channels)
                each = ", ".join(f"{n} x {size}" if n > 1 else size for size, n in sizes.items())
                rows.append([place, str(total), str(kept), f"{kept / total:.0%}", each])
        head = ["layer", "channels", "kept", "share", "BatchNorms that lose channels"]
        return table(head, rows, "Channels of each layer that is cut") if rows else ""

    def held(self) -> str:
        """How many BatchNorms lose channels, and why the others do not, in a sentence."""
        stays = Counter(c.stays for c in self.layers)
        cut = stays.pop("", 0)
        lose = "loses" if cut == 1 else "lose"
        text = f"{cut} of {counted(len(self.layers), 'BatchNorm')} {lose} channels"
        why = ", ".join(f"{number} {reason}" for reason, number in stays.most_common())
        return f"{text}; the others do not: {why}." if why else f"{text}."

    def gains(self) -> str:
        """What the cut brought, in words: "2.0x fewer MACs, 2.4x fewer parameters"."""
        before, after = self.before, self.after
        text = f"{times_fewer(before.macs, after.macs)} MACs, "
        text += f"{times_fewer(before.params, after.params)} parameters"
        if before.bytes and after.bytes:
            text += f", a file {before.bytes / after.bytes:.1f}x smaller"
        return text

    def summary(self, more: Sequence[Sequence[str]] = ()) -> str:
        """Before and after.

        Args:
            more: rows for the table: what it is, before, after, the share that is left.
        """
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
        rows += self._times()
        if self.before.bytes and self.after.bytes:
            rows.append(
                [
                    "file",
                    mega(self.before.bytes),
                    mega(self.after.bytes),
                    ratio(self.after.bytes, self.before.bytes),
                ]
            )
        head = ["", "before", "after", "left"]
        text = table(head, [*rows, *map(list, more)], "The model before and after the cut")
        text += f"{self.target}\n"
        if self.target.name != "percent":
            text += f"{self.achieved:.1%} of the prunable channels were cut\n"
        text += f"{self.how()}\n"
        if self.depth or self.removed:
            text += f"{blocks_removed(self.removed, self.bottlenecks)}\n"
        text += "checked: the pruned model computes what the model before the cut does with these "
        text += f"channels set to zero (largest difference {self.parity:.1e}, allowed {LIMIT:g})\n"
        if self.times:
            off = abs(self.times.share - self.target.requested)
            if off > MISSED * self.target.requested:
                text += "missed: no cut that was tried came nearer; measure the table again on an "
                text += "idle machine\n"
            text += f"{self.times.rough}\n" if self.times.rough else ""
        held = sum(c.note == "floor" for c in self.layers)
        channels = sum(c.channels for c in self.layers)
        rounded = len(self.layers) + 0.01 * channels * (self.round_to > 1)
        short = self.target.name == "percent" and self.percent - self.achieved
        if short * channels > rounded:
            where = "is at its floor" if held == 1 else "are at their floor"
            text += f"{counted(held, 'layer')} {where} ({OPTION}): no more could be cut\n"
        pinned = [c for c in self.layers if c.pinned and not c.note.startswith(PLANNED)]
        fixed = sum(c.channels for c in pinned)
        if fixed > FAR * channels:
            text += f"{fixed} of {counted(channels, 'channel')} could not be cut: {self.pinned}\n"
        for module in self.unknown[:SHOWN]:
            text += f"left as it is, it has no rule: {module}\n"
        if len(self.unknown) > SHOWN:
            text += f"and {len(self.unknown) - SHOWN} more without a rule, see report.json\n"
        return fold(text, indent="  ")

    def _times(self) -> list[list[str]]:
        """Rows of the table: predicted, and measured."""
        times = self.times
        if not times:
            return []
        name = f"{times.runtime.split()[0]}, ms"
        both = {"predicted": times.predicted, "measured": times.measured}
        return [
            [f"{name}, {how}", f"{ms[0]:.1f}", f"{ms[1]:.1f}", ratio(ms[1], ms[0])]
            if ms
            else [f"{name}, {how}", "not here", "", ""]
            for how, ms in both.items()
        ]

    def how(self) -> str:
        """How the channels were chosen, in a line."""
        text = f"criterion {self.criterion}, budget {self.budget}, {self.rounding()}"
        if self.calibration:
            text += f", {counted(self.calibration, 'calibration image')}"
        return text + f", recovery: {', '.join(self.recovered) or 'none'}"

    def rounding(self) -> str:
        """What the channels that layers keep are multiples of: less than asked for in some layers,
        where the target could not be met otherwise."""
        if self.round_to == 1:
            return "not rounded"
        steps, step = [self.round_to], self.round_to
        while step > 1:
            step //= 2
            steps.append(step)
        cut = [c for c in self.layers if c.kept < c.channels]
        layers = Counter(next(n for n in steps if c.kept % n == 0) for c in cut)
        if set(layers) <= {self.round_to}:
            return f"in multiples of {self.round_to}"
        parts = [f"of {n} in {counted(layers[n], 'layer')}" for n in steps if layers[n]]
        return f"in multiples {', '.join(parts)}"

    def __str__(self) -> str:
        return self.layer_table() + "\n" + self.summary()


def blocks_removed(removed: Sequence[str], before: int) -> str:
    """Which residual Bottlenecks are gone, in words.

    Args:
        removed: their names.
        before: how many there were.

    Example:
        >>> blocks_removed(["model.4.m.1", "model.6.m.0"], 7)
        '2 of 7 residual Bottlenecks removed: model.4.m.1, model.6.m.0'
    """
    names = f": {', '.join(removed)}" if removed else ""
    return f"{len(removed) or 'none'} of {counted(before, 'residual Bottleneck')} removed{names}"


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
        note = note if kept else REMOVED
        rows.append(LayerCut(norm.name, norm.channels, kept, note))
    return tuple(rows)
