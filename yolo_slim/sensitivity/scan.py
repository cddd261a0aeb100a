"""What a sensitivity scan found: mAP with each layer cut alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.errors import InputError
from yolo_slim.host.evaluate import Accuracy
from yolo_slim.numerics import digest
from yolo_slim.pruning.budget.spread import Curve
from yolo_slim.sensitivity.cuts import layers
from yolo_slim.text import table


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        kind: channels or weights, or dense: nothing is cut.
        layer: name of the BN, the first of those that are tied, or of the conv.
        channels: of the layer, all its BNs counted; of kind weights, its weights.
        share: of them, asked for.
        cut: of them, gone.
        map50, map: what is left: mAP of boxes at IoU 0.50, and averaged over 0.50 to 0.95.
    """

    kind: str
    layer: str
    channels: int
    share: float
    cut: float
    map50: float
    map: float

    @property
    def key(self) -> tuple[str, str, float]:
        """What no other result has."""
        return self.kind, self.layer, self.share


@dataclass(frozen=True)
class Scan:
    """What a scan found, of all layers or, unfinished, of some. Prints itself as a table.

    Attributes:
        path: the CSV.
        settings: what it is of, as in the head of the file: digest, data, imgsz ...
        rows: the results, that of the dense model first.
    """

    path: Path
    settings: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def dense(self) -> Accuracy:
        """mAP of the model as it is."""
        return Accuracy(self.rows[0].map50, self.rows[0].map)

    @property
    def kinds(self) -> list[str]:
        """What was cut: channels, weights."""
        return self.settings["kinds"].split()

    @property
    def shares(self) -> list[float]:
        """The shares that were asked for of each layer."""
        return [float(share) for share in self.settings["shares"].split()]

    def by_layer(self, kind: str) -> dict[str, list[Row]]:
        """Layer name to its results, by rising share; layers in the order of the rows."""
        rows_of: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.kind == kind:
                rows_of.setdefault(row.layer, []).append(row)
        return {name: sorted(rows, key=lambda row: row.share) for name, rows in rows_of.items()}

    def losses(
        self,
        graph: ChannelGraph,
        model: nn.Module,
        kind: str = "channels",
        metric: Literal["map", "map50"] = "map",
    ) -> dict[str, Curve]:
        """How much mAP the layers cost.

        Args:
            graph: of the model that is to be cut.
            model: it must be the one that was scanned.
            kind: channels or weights.
            metric: mAP50-95 or mAP50.

        Returns:
            Name of each prunable BN (of each conv, for weights) to (share gone, loss) by rising
            share, from (0, 0) on. A loss is dense mAP less mAP; where a larger cut measured better
            than a smaller one, the loss of the smaller one stands. BNs that are tied share a list.

        Raises:
            InputError: the scan is of another model, other layers or another kind, or unfinished.
        """
        if self.settings["digest"] != (ours := digest(model)):
            got = f"of another model (weights {self.settings['digest']})"
            raise InputError(self.path, got, f"a scan of weights {ours}")
        if kind not in self.kinds:
            raise InputError(self.path, f"a scan of {', '.join(self.kinds)}", f"one of {kind}")
        theirs, rows, curves = self.settings["residual"], self.by_layer(kind), dict[str, Curve]()
        other = "" if theirs == graph.residual else f", as with --residual {graph.residual}"
        for layer in layers(model, graph, kind):
            measured = rows.get(layer.name, [])
            size = measured[0].channels if measured else 0
            if size != layer.size and (measured or other):
                got = (
                    f"{size} {kind}, a scan with --residual {theirs}" if other else f"{size} {kind}"
                )
                raise InputError(f"{self.path}, {layer.name}", got, f"{layer.size}{other}")
            if [row.share for row in measured] != self.shares:
                got = f"{len(measured)} of {len(self.shares)} results, an unfinished scan"
                more = f"all (the same command with --resume {self.path.parent} goes on)"
                raise InputError(f"{self.path}, {layer.name}", got, more)
            dense = getattr(self.dense, metric)
            curve = rising([(row.cut, dense - getattr(row, metric)) for row in measured])
            curves.update(dict.fromkeys(layer.norms or (layer.name,), curve))
        return curves

    def __str__(self) -> str:
        return "\n".join(self._table(kind) for kind in self.kinds)

    def _table(self, kind: str, most: int = 5) -> str:
        """The layers that lose most and least, on the average over the shares that are cut."""
        lost = {
            name: self.dense.map - float(np.mean([row.map for row in rows]))
            for name, rows in self.by_layer(kind).items()
        }
        order = sorted(lost, key=lambda name: -lost[name])
        split = len(order) > 2 * most
        shown = order[:most] + ["..."] * split + order[-most:] if split else order
        columns = {share: index for index, share in enumerate(self.shares)}
        body = []
        for name in shown:
            left = ["..."] * len(columns) if name == "..." else [""] * len(columns)
            for row in self.by_layer(kind).get(name, []):
                left[columns[row.share]] = f"{row.map:.3f}"
            body.append([name.removesuffix(".bn").removesuffix(".conv"), *left])
        title = f"mAP50-95 where this share of one layer's {kind} is cut, and nothing else"
        title += f" ({self.dense.map:.3f} before)"
        if split:
            title += f": the {most} layers that lose most, and the {most} that lose least"
        return table(["layer", *(f"{share:g}" for share in self.shares)], body, title)


def rising(points: Sequence[tuple[float, float]]) -> Curve:
    """(share, loss) from (0, 0) on: by strictly rising share, with losses that never fall."""
    curve = [(0.0, 0.0)]
    for share, loss in sorted(points):
        if share > curve[-1][0]:  # of few channels, two shares may be the same cut
            curve.append((share, max(loss, curve[-1][1])))
    return curve
