"""Reports that print themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yolo_slim.text import ratio, table

if TYPE_CHECKING:
    from yolo_slim.host.evaluate import Accuracy


def accuracy_table(accuracy: Mapping[str, Accuracy], title: str | None = None) -> str:
    """mAP by model, of boxes, and of masks where there are any."""
    head, rows = ["model", "mAP50", "mAP50-95"], []
    if any(a.mask_map is not None for a in accuracy.values()):
        head += ["masks mAP50", "masks mAP50-95"]
    for name, a in accuracy.items():
        values = (a.map50, a.map, a.mask_map50, a.mask_map)[: len(head) - 1]
        rows.append([name, *("" if value is None else f"{value:.3f}" for value in values)])
    return table(head, rows, title)


def accuracy_rows(before: Accuracy, after: Accuracy) -> list[list[str]]:
    """mAP before and after a cut, as rows of `CutReport.summary`."""
    rows = [("mAP50", before.map50, after.map50), ("mAP50-95", before.map, after.map)]
    if before.mask_map is not None and after.mask_map is not None:
        rows.append(("mAP50-95, masks", before.mask_map, after.mask_map))
    return [[name, f"{x:.3f}", f"{y:.3f}", ratio(y, x) if x else ""] for name, x, y in rows]


def change_of(before: Accuracy, after: Accuracy) -> str:
    """What became of mAP50-95, in words: "mAP50-95 falls from 0.407 to 0.256"."""
    old, new = f"{before.map:.3f}", f"{after.map:.3f}"
    if old == new:
        return f"mAP50-95 stays at {new}"
    return f"mAP50-95 {'falls' if after.map < before.map else 'rises'} from {old} to {new}"


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
    return table(["cut", "channels cut", "parameters", "left"], rows, "All cuts of this model")
