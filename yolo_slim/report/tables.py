"""Reports that print themselves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_slim.host.evaluate import Accuracy
    from yolo_slim.measure.cost import Cost
    from yolo_slim.pruning.targets import Target


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
    """

    target: Target
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
        for module in self.unknown:
            text += f"left as it is, it has no rule: {module}\n"
        return text

    def how(self) -> str:
        """How the channels were chosen, in a line."""
        text = f"criterion {self.criterion}, budget {self.budget}, "
        text += f"in multiples of {self.round_to}" if self.round_to > 1 else "not rounded"
        if self.calibration:
            text += f", {self.calibration} calibration images"
        return text + "".join(f", + {part}" for part in self.recovered)

    def __str__(self) -> str:
        return self.layer_table() + "\n" + self.summary()


def table(head: list[str], rows: list[list[str]], title: str | None = None) -> str:
    """A plain table, first column left, the others right but for a last column of words."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(*head, title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(grid.columns):
        words = index == 0 or not any(any(c.isdigit() for c in row[index][:1]) for row in rows)
        column.justify = "left" if words else "right"
        column.no_wrap = index == 0
    for row in rows:
        grid.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=100).print(grid)
    return out.getvalue()


def ratio(after: float, before: float) -> str:
    """A share in percent."""
    return f"{after / before:.1%}"


def giga(macs: float) -> str:
    """2.31 G"""
    return f"{macs / 1e9:.3g} G"


def mega(size: float) -> str:
    """3.75 MB (10^6 bytes)"""
    return f"{size / 1e6:.3g} MB"


def accuracy_table(accuracy: Mapping[str, Accuracy]) -> str:
    """mAP by model, of boxes, and of masks where there are any."""
    head, rows = ["model", "mAP50", "mAP50-95"], []
    if any(a.mask_map is not None for a in accuracy.values()):
        head += ["masks mAP50", "masks mAP50-95"]
    for name, a in accuracy.items():
        values = (a.map50, a.map, a.mask_map50, a.mask_map)[: len(head) - 1]
        rows.append([name, *("" if value is None else f"{value:.3f}" for value in values)])
    return table(head, rows)


def ancestry_table(cuts: Sequence[Mapping[str, Any]]) -> str:
    """Parameters and MACs at each round; nothing for a first cut.

    Args:
        cuts: ModelPruned.ancestry: params and macs [before, after] of each cut.
    """
    if len(cuts) < 2:
        return ""
    first, rows = cuts[0], []
    for index, cut in enumerate([{"params": [0, first["params"][0]]}, *cuts]):
        params = cut["params"][1]
        share = f"{cut['achieved']:.1%}" if index else ""
        left = ratio(params, first["params"][0])
        rows.append([str(index or "dense"), share, f"{params:,}", left])
    return table(["round", "channels cut", "parameters", "left"], rows)
