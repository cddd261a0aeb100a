"""Which weights are zero: what fine-grained pruning did, layer by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from yolo_slim.text import table


@dataclass(frozen=True)
class LayerSparsity:
    """One layer: its weights, how many of them are masked, and the share that was asked for."""

    name: str
    weights: int
    zeros: int
    requested: float


@dataclass(frozen=True)
class SparsityReport:
    """Where the zeros are. Prints itself as a table.

    Attributes:
        method: l1, l2, random or global.
        layers: one entry a layer, in the order of the model.
    """

    method: str
    layers: tuple[LayerSparsity, ...]

    @property
    def sparsity(self) -> float:
        """Share of the weights of these layers that are masked."""
        return sum(c.zeros for c in self.layers) / sum(c.weights for c in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {**asdict(self), "sparsity": self.sparsity}

    def __str__(self) -> str:
        total = sum(c.weights for c in self.layers), sum(c.zeros for c in self.layers)
        rows = [(c.name, c.weights, c.zeros) for c in self.layers] + [("all", *total)]
        cells = [[n, f"{w:,}", f"{w - zeros:,}", f"{zeros / w:.1%}"] for n, w, zeros in rows]
        return table(["layer", "weights", "kept", "zeros"], cells, "Weights of each layer")
