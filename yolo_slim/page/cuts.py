"""The cuts of a run: what each was asked for, its layers, and what its recovery brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.finished import Finished, short
from yolo_slim.measure.cost import layer_costs
from yolo_slim.models import load
from yolo_slim.page.model import Cut, Layer, Step
from yolo_slim.pruning.report import UNITS
from yolo_slim.text import counted, giga

Costs = Mapping[str, tuple[int, int, int]]  # conv name to channels, params, macs


def cuts_of(run: Finished, imgsz: int, *, named: bool = False) -> tuple[Cut, ...]:
    """The cuts of a run.

    Args:
        run: a finished one.
        imgsz: px that MACs are counted for.
        named: their titles name the run.
    """
    cuts: tuple[Cut, ...] = ()
    if run.kind == "slim":
        cuts = _of_slim(run, imgsz)
    elif run.kind == "prune":
        cuts = (_of_prune(run, imgsz),)
    return tuple(
        replace(cut, title=f"{cut.title} of {short(run)}") if named else cut for cut in cuts
    )


def _of_prune(run: Finished, imgsz: int) -> Cut:
    report, accuracy = run.report, run.report.get("accuracy") or {}
    steps = []
    if "masked" in accuracy:
        value = accuracy["masked"]
        steps.append(Step("as cut", float(value["map50"]), float(value["map"])))
    for part in report.get("recovery") or []:
        if part.get("accuracy"):
            value = part["accuracy"]
            figures = float(value["map50"]), float(value["map"])
            steps.append(Step(str(part["name"]), *figures, bool(part["kept"])))
    before = accuracy.get("dense")
    return Cut(
        "the cut",
        lines(report),
        layers(report, run.dense, run.result, imgsz),
        (float(before["map50"]), float(before["map"])) if before else None,
        tuple(steps),
    )


def _of_slim(run: Finished, imgsz: int) -> tuple[Cut, ...]:
    rounds, cuts = run.report.get("rounds") or [], list[Cut]()
    for number, each in enumerate(rounds, 1):
        report, accuracy = each.get("cut") or {}, dict(each.get("accuracy") or {})
        before = accuracy.pop("before", None)
        steps = tuple(_step(name, *value) for name, value in accuracy.items())
        source = run.dense if number == 1 else None
        file = run.folder / f"cut{number}.pt"
        result = file if file.is_file() else None
        title = "the cut" if len(rounds) == 1 else f"cut {number} of {len(rounds)}"
        rows = layers(report, source, result, imgsz)
        cuts.append(
            Cut(
                title,
                lines(report),
                rows,
                (float(before[0]), float(before[1])) if before else None,
                steps,
            )
        )
    return tuple(cuts)


def _step(name: str, map50: float, whole: float) -> Step:
    """A step by its name in `Recovery.steps`."""
    text = "as cut" if name == "cut" else name.removeprefix("+ ").removesuffix(", undone")
    return Step(text, float(map50), float(whole), not name.endswith(", undone"))


def lines(report: Mapping[str, Any]) -> tuple[str, ...]:
    """What a cut was asked for and how it was made, from what `CutReport` left in a json."""
    text = []
    target = report.get("target") or {}
    if target:
        name, asked, got = target["name"], target["requested"], target["achieved"]
        if name == "size_mb":
            text.append(f"Asked for {asked:g} MB, reached {got:.3g} MB.")
        else:
            verb = "cut" if name == "percent" else "left"
            text.append(f"Asked for {asked:.1%} {UNITS[name]}, {verb} {got:.1%}.")
    if "criterion" in report:
        how = f"Channels were chosen by {report['criterion']}, budget {report.get('budget')}, "
        step = report.get("round_to", 1)
        how += f"in multiples of {step} where possible" if step > 1 else "not rounded"
        images = report.get("calibration")
        how += f", on {counted(images, 'image')}" if images else ""
        text.append(f"{how}.")
    if report.get("achieved") is not None and target.get("name") != "percent":
        text.append(f"{report['achieved']:.1%} of the prunable channels are gone.")
    if report.get("removed"):
        text.append(f"Gone as a whole: {', '.join(report['removed'])}.")
    if report.get("parity") is not None:
        text.append(
            "Proven before anything was recovered: it computes what the model before the cut does "
            f"with these channels at zero (largest difference {report['parity']:.1e})."
        )
    return tuple(text)


def layers(
    report: Mapping[str, Any], before: Path | None, after: Path | None, imgsz: int
) -> tuple[Layer, ...]:
    """The layers of a cut, with what their convs cost where the two models are at hand."""
    old, new = (costs_of(file, imgsz) for file in (before, after))
    rows = []
    for each in report.get("layers") or []:
        conv = each["name"].removesuffix(".bn") + ".conv"
        params, macs = None, None
        first, second = old.get(conv), new.get(conv)
        if not each["kept"]:
            second = (0, 0, 0)
        same = first and second and (first[0], second[0]) == (each["channels"], each["kept"])
        if first and second and same:
            params, macs = (first[1], second[1]), (first[2], second[2])
        whole = each["kept"] == each["channels"]
        note = each.get("note") or ("not chosen" if whole else "")
        channels, kept = int(each["channels"]), int(each["kept"])
        rows.append(Layer(str(each["name"]), channels, kept, str(note), params, macs))
    return tuple(rows)


def costs_of(file: Path | None, imgsz: int) -> Costs:
    """Channels, parameters and MACs of each conv of a model."""
    if file is None:
        return {}
    model = load(file).model
    convs = {n: m.out_channels for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return {
        row.name: (convs[row.name], row.params, row.macs)
        for row in layer_costs(model, imgsz)
        if row.name in convs
    }


def ancestry(models: Sequence[nn.Module]) -> tuple[tuple[str, str], ...]:
    """Each cut that the model with most cuts has behind it, in words."""
    rows = list[tuple[str, str]]()
    cuts = max((getattr(model, "ancestry", []) for model in models), key=len, default=[])
    for number, cut in enumerate(cuts, 1):
        (params, left), (macs, rest) = cut["params"], cut["macs"]
        if number == 1:
            rows.append(("the first model", f"{params:,} parameters, {giga(macs)} MACs"))
        name, asked, got = cut.get("target", ("percent", cut["percent"], cut["achieved"]))
        goal = f"{asked:g} MB asked for, {got:.3g} MB reached"
        if name != "size_mb":
            verb = "cut" if name == "percent" else "left"
            goal = f"{asked:.1%} {UNITS[name]} asked for, {got:.1%} {verb}"
        text = f"{goal}; by {cut['criterion']}; {left:,} parameters, {giga(rest)} MACs left"
        origin = f"; from {cut['weights']}" if cut.get("weights") else ""
        rows.append((f"cut {number}", text + origin))
    return tuple(rows)
