"""What the plots of a page draw, as plain values for its script."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from yolo_slim.page.figures import finite
from yolo_slim.page.model import Curve, Cut, Histogram, Page, Scan, Series, Training

Plot = dict[str, Any]
FAMILIES = {
    "dense": "not cut",
    "trained": "cut and trained on",
    "cut": "cut",
    "size": "not cut, smaller images",
}


def rounded(value: float | None) -> float | None:
    """A value in six digits; None for what is no number, which JSON does not know."""
    value = finite(value)
    return None if value is None else float(f"{value:.6g}")


def curves(name: str, values: Iterable[float | None], **more: Any) -> dict[str, Any]:
    """A series of a plot."""
    return {"name": name, "values": [rounded(value) for value in values], **more}


def layers_plot(cut: Cut) -> Plot:
    """Channels of each layer, dense and kept."""
    return {
        "kind": "bars",
        "title": "Channels of each layer",
        "over": True,
        "x": "layer",
        "y": "channels",
        "names": [layer.name for layer in cut.layers],
        "notes": [layer.note for layer in cut.layers],
        "series": [
            curves("dense", [layer.channels for layer in cut.layers], faint=True),
            curves("kept", [layer.kept for layer in cut.layers]),
        ],
    }


def steps_plot(cut: Cut) -> Plot:
    """mAP before a cut, after it, and after each part of the recovery."""
    rows = all_steps(cut)
    return {
        "kind": "bars",
        "title": "mAP after each step",
        "x": "",
        "y": "mAP",
        "names": [name for name, *_ in rows],
        "notes": ["" if stays else "undone" for *_, stays in rows],
        "series": [
            curves("mAP50-95", [row[2] for row in rows]),
            curves("mAP50", [row[1] for row in rows]),
        ],
    }


def all_steps(cut: Cut) -> list[tuple[str, float, float, bool]]:
    """Name, mAP50, mAP50-95 and whether it was kept; the first row is that before the cut."""
    rows = [("before the cut", *cut.before, True)] if cut.before else []
    return rows + [(step.name, step.map50, step.map, step.kept) for step in cut.steps]


def training_plot(training: Training, title: str, panel: tuple[Series, ...]) -> Plot:
    """The curves of a panel over the epochs, with what happened in between."""
    unit = next((series.unit for series in panel if series.unit), "")
    return {
        "kind": "lines",
        "title": title,
        "x": "epoch",
        "y": title,
        "unit": unit,
        "at": list(training.epochs),
        "marks": [[rounded(at), text] for at, text in training.marks],
        "series": [curves(s.name, s.values[: len(training.epochs)]) for s in panel],
    }


def histogram_plot(histogram: Histogram, page: Page) -> Plot:
    """How the weights of a layer are spread, model by model."""
    return {
        "kind": "histogram",
        "title": histogram.layer,
        "x": "weight",
        "y": "weights",
        "ends": [rounded(histogram.low), rounded(histogram.high)],
        "series": [
            curves(model.label, counts) if counts else None
            for model, counts in zip(page.models, histogram.counts, strict=False)
        ],
    }


def scan_plot(scan: Scan) -> Plot:
    """mAP that each layer costs at each share that is cut of it."""
    return {
        "kind": "heat",
        "title": scan.title,
        "x": "share that is cut",
        "y": "layer",
        "dense": rounded(scan.dense),
        "columns": [f"{100 * share:.3g}%" for share in scan.shares],
        "names": [name for name, _ in scan.layers],
        "values": [[rounded(value) for value in values] for _, values in scan.layers],
    }


def curve_plot(curve: Curve) -> Plot:
    """Accuracy against time, family by family."""
    known = dict.fromkeys((*FAMILIES, *(point.family for point in curve.points)))
    families = [name for name in known if any(p.family == name for p in curve.points)]
    return {
        "kind": "scatter",
        "title": "Accuracy against time",
        "x": curve.axis,
        "y": "mAP50-95",
        "series": [
            {
                "name": FAMILIES.get(family, family),
                "points": [
                    [rounded(p.ms), rounded(p.map), rounded(p.map50), p.label, p.front]
                    for p in curve.points
                    if p.family == family and finite(p.ms) is not None and finite(p.map) is not None
                ],
            }
            for family in families
        ],
    }
