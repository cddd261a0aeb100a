"""Figures of a page in words: what each model is and does, and what changed from the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yolo_slim.page.model import ClassAccuracy, Layer, Page, Shown
from yolo_slim.text import giga, mega

MINUS, UP, DOWN = "\u2212", "\u25b2", "\u25bc"
TINY = 5e-5  # a change of mAP that is printed as 0.0 points


@dataclass(frozen=True)
class Change:
    """How a figure differs from that of the first model.

    Attributes:
        text: with its sign: "▲ +0.5", "▼ ×0.39".
        mood: "good", "bad" or "even".
        size: change for a bar, in [-1, 1].
    """

    text: str
    mood: str
    size: float = 0.0


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: of its figure, or a dash.
        value: to sort by; None: below all others.
        change: from the first model; None: it is the first, or one of them is not known.
    """

    text: str
    value: float | None = None
    change: Change | None = None


@dataclass(frozen=True)
class Measure:
    """A row of the table of models.

    Attributes:
        name: in words.
        value: of a model; None: not measured.
        text: of a value.
        accuracy: more is better, and the change is in points; else less is, and it is a factor.
    """

    name: str
    value: Callable[[Shown], float | None]
    text: Callable[[float], str]
    accuracy: bool = False


@dataclass(frozen=True)
class Tile:
    """A key figure: of the first model, of the last, and what is left of it, in [0, 1]."""

    name: str
    before: str
    after: str
    change: Change | None
    left: float | None
    unit: str = ""


def three(value: float) -> str:
    """0.595"""
    return f"{value:.3f}"


def milliseconds(value: float) -> str:
    """6.18 ms"""
    return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


MEASURES = (
    Measure("mAP50-95", lambda m: m.map, three, accuracy=True),
    Measure("mAP50", lambda m: m.map50, three, accuracy=True),
    Measure("mAP50-95 of masks", lambda m: m.mask_map, three, accuracy=True),
    Measure("mAP50 of masks", lambda m: m.mask_map50, three, accuracy=True),
    Measure("Latency", lambda m: m.ms, milliseconds),
    Measure("MACs", lambda m: m.macs, giga),
    Measure("Parameters", lambda m: m.params, lambda value: f"{value:,.0f}"),
    Measure("File", lambda m: m.bytes, mega),
)
KEY = ("mAP50-95", "Latency", "MACs", "Parameters", "File")


def points(before: float | None, after: float | None) -> Change | None:
    """The change of an accuracy, in points: that of the figures as they are printed.

    Example:
        >>> points(0.6, 0.595)
        Change(text='▼ −0.5', mood='bad', size=-0.005)
    """
    before, after = finite(before), finite(after)
    if before is None or after is None:
        return None
    change = round(after, 3) - round(before, 3)
    if abs(change) < 10 * TINY:
        return Change("\u00b10.0", "even")
    if change > 0:
        return Change(f"{UP} +{100 * change:.1f}", "good", round(change, 6))
    return Change(f"{DOWN} {MINUS}{-100 * change:.1f}", "bad", round(change, 6))


def factor(before: float | None, after: float | None) -> Change | None:
    """The change of a cost, as a share of what it was.

    Example:
        >>> factor(10, 4).text
        '▼ to 40.0%'
    """
    before, after = finite(before), finite(after)
    if not before or after is None:
        return None
    share = after / before
    text = f"{100 * share:.1f}%"
    if text == "100.0%":
        return Change(text, "even")
    return Change(
        f"{DOWN if share < 1 else UP} to {text}", "good" if share < 1 else "bad", share - 1
    )


def finite(value: float | None) -> float | None:
    """A value; None where it is none, or not a number."""
    return value if value is not None and math.isfinite(value) else None


def cell(measure: Measure, model: Shown, first: Shown) -> Cell:
    """A model's value, and how it differs from the first's."""
    value = finite(measure.value(model))
    if value is None:
        return Cell("\u2013")
    change = None
    if model is not first:
        change = (points if measure.accuracy else factor)(measure.value(first), value)
    text = measure.text(value)
    if measure.name == "Latency" and model.spread is not None:
        text += f" \u00b1{model.spread:.2g}"
    return Cell(text, value, change)


def model_rows(page: Page) -> list[tuple[str, list[Cell]]]:
    """The table of models: each measure that any of them has, model by model."""
    rows = []
    for measure in MEASURES:
        cells = [cell(measure, model, page.models[0]) for model in page.models]
        if any(c.value is not None for c in cells):
            rows.append((measure.name, cells))
    return rows


def tiles(page: Page) -> list[Tile]:
    """The key figures of the first and the last model."""
    if not page.models:
        return []
    first, last, made = page.models[0], page.models[-1], []
    for measure in MEASURES:
        before, after = finite(measure.value(first)), finite(measure.value(last))
        if measure.name not in KEY or after is None:
            continue
        change = points(before, after) if measure.accuracy else factor(before, after)
        texts = ["" if value is None else short(measure, value) for value in (before, after)]
        made.append(
            Tile(
                measure.name,
                "" if before is None or first is last else _unlike(*texts),
                texts[1],
                None if first is last else change,
                min(1.0, after / before) if before and first is not last else None,
                "points" if measure.accuracy and change else "",
            )
        )
    return made


def _unlike(before: str, after: str) -> str:
    """A text without the unit that it shares with the next one: "10.4" of "10.4 ms", "6.18 ms"."""
    number, _, unit = before.partition(" ")
    return number if unit == after.partition(" ")[2] else before


def short(measure: Measure, value: float) -> str:
    """A value as a tile has room for: 1.77 M in place of 1,765,270."""
    if measure.name != "Parameters":
        return measure.text(value)
    return f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value / 1e3:.3g} k"


def class_rows(page: Page) -> list[tuple[str, Cell, list[Cell], list[Cell]]]:
    """Class by class: its name, its objects, AP50-95 and AP50 of each model."""
    models = [model for model in page.models if model.classes]
    rows = []
    for index, name in enumerate(page.classes):
        of = [model.classes[index] if index < len(model.classes) else None for model in models]
        objects = next((accuracy.objects for accuracy in of if accuracy), None)
        count = Cell("\u2013" if objects is None else f"{objects:,}", objects)
        rows.append((name, count, _precision(of, lambda a: a.ap), _precision(of, lambda a: a.ap50)))
    return rows if models else []


def most_change(page: Page) -> float:
    """The largest change of a class from the first model to the last; 0: there is none."""
    changes = (ap[-1].change for _, _, ap, _ in class_rows(page) if ap)
    return max((abs(change.size) for change in changes if change), default=0.0)


def _precision(
    accuracies: Sequence[ClassAccuracy | None], value: Callable[[ClassAccuracy], float]
) -> list[Cell]:
    """Cells of a class, each model's change from the first."""
    cells = list[Cell]()
    values = [finite(value(a)) if a else None for a in accuracies]
    for index, number in enumerate(values):
        if number is None:
            cells.append(Cell("\u2013"))
        else:
            cells.append(Cell(three(number), number, points(values[0], number) if index else None))
    return cells


def pair(values: tuple[int, int] | None) -> tuple[Cell, Cell]:
    """Cells of a figure before and after a cut."""
    if values is None:
        return Cell("\u2013"), Cell("\u2013")
    before, after = values
    return Cell(f"{before:,}", before), Cell(f"{after:,}", after)


def kept(layer: Layer) -> float:
    """The share of a layer's channels that is left."""
    return layer.kept / layer.channels if layer.channels else 0.0


def step_rows(
    steps: Sequence[tuple[str, float, float, bool]],
) -> list[tuple[str, Cell, Cell, bool]]:
    """Each part of a recovery: mAP50-95 and mAP50 after it, and what it changed.

    Args:
        steps: name, mAP50, mAP50-95, and whether it was kept.
    """
    rows, last = list[tuple[str, Cell, Cell, bool]](), None
    for name, map50, map_, stays in steps:
        changes = (points(last[1], map_), points(last[0], map50)) if last else (None, None)
        cells = [
            Cell(three(value) if finite(value) is not None else "\u2013", finite(value), change)
            for value, change in zip((map_, map50), changes, strict=True)
        ]
        rows.append((name, cells[0], cells[1], stays))
        last = (map50, map_) if stays else last
    return rows
