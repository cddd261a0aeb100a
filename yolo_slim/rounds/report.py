"""What a run with rounds came to: one table, one report.json, one picture."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_slim.deploy.export import to_onnx
from yolo_slim.files import write_aside
from yolo_slim.host import data as host_data
from yolo_slim.host.evaluate import Accuracy, evaluate
from yolo_slim.host.training import RESULTS
from yolo_slim.measure.cost import cost
from yolo_slim.measure.latency import onnx_latency
from yolo_slim.models import load
from yolo_slim.pictures import ACCENT, GREY, INK, new_figure, own_style, write_picture
from yolo_slim.rounds.plan import REPORT
from yolo_slim.text import giga, mega, ratio, table

PICTURE = "slim.png"
Rounds = Sequence[Mapping[str, Any]]


def write_report(
    folder: Path, opt: argparse.Namespace, rounds: Rounds, first: Path, trainings: Sequence[Path]
) -> str:
    """Measure the last model of a run, copy it to best.pt, write slim.png and, last, report.json.

    Args:
        folder: of a run whose trainings have ended.
        opt: its options.
        rounds: `RoundReport.as_dict` of each cut.
        first: the model before the first cut.
        trainings: the folder of each training.

    Returns:
        The tables.
    """
    best = folder / "best.pt"
    write_aside(best, (trainings[-1] / "weights" / best.name).read_bytes())
    slim, dense, imgsz = load(best).model, load(first).model, opt.imgsz
    accuracy = evaluate(
        slim,
        host_data.read_data(opt.data),
        imgsz=imgsz,
        workers=opt.workers,
        device=str(opt.device),
    )
    before, after = (cost(model, imgsz) for model in (dense, slim))
    files = {"dense": to_onnx(dense, imgsz=imgsz), "slim": to_onnx(slim, imgsz=imgsz)}
    times = {
        name: each_latency.median for name, each_latency in onnx_latency(files, imgsz=imgsz).items()
    }
    content = {
        "rounds": list(rounds),
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "bytes": [file.stat().st_size for file in (first, best)],
        "latency_ms": times,
        "accuracy": {"map50": accuracy.map50, "map": accuracy.map},
    }
    parts = [course(each / RESULTS) for each in trainings]
    plot_rounds([row for part in parts for row in part], rounds, folder / PICTURE)
    write_aside(folder / REPORT, json.dumps(content, indent=2).encode())
    return rounds_table(rounds) + "\n" + end_table(content, imgsz, accuracy)


def rounds_table(rounds: Rounds) -> str:
    """A row a round: when, what is left, and mAP50-95 before the cut and after each step."""
    after_steps = [split_undone(each["accuracy"]) for each in rounds]
    names = list(dict.fromkeys(name for steps in after_steps for name in steps))
    first, rows = rounds[0]["macs"][0], []
    for number, each in enumerate(rounds, 1):
        left = [ratio(each["macs"][1], first), ratio(each["params"][1], rounds[0]["params"][0])]
        maps = [after_steps[number - 1].get(name, "") for name in names]
        rows.append([str(number), str(each["epoch"]), *left, *maps])
    return table(["round", "after epoch", "MACs", "parameters", *names], rows, "mAP50-95")


def split_undone(steps: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """A step's name to its mAP50-95, and whether it was undone."""
    pairs = [(*name.partition(", "), value[1]) for name, value in steps.items()]
    return {name: f"{value:.3f} {undone}".strip() for name, _, undone, value in pairs}


def end_table(content: Mapping[str, Any], imgsz: int, accuracy: Accuracy) -> str:
    """Before the first cut and in the end."""
    (p0, p1), (m0, m1), (b0, b1) = (content[key] for key in ("params", "macs", "bytes"))
    t0, t1 = (content["latency_ms"][name] for name in ("dense", "slim"))
    rows = [
        ["parameters", f"{p0:,}", f"{p1:,}", ratio(p1, p0)],
        [f"MACs at {imgsz} px", giga(m0), giga(m1), ratio(m1, m0)],
        ["file", mega(b0), mega(b1), ratio(b1, b0)],
        ["ONNX Runtime, ms", f"{t0:.1f}", f"{t1:.1f}", ratio(t1, t0)],
        ["mAP50 / mAP50-95", "", f"{accuracy.map50:.3f} / {accuracy.map:.3f}", ""],
    ]
    return table(["", "before", "slim", "left"], rows)


def course(results: Path) -> list[tuple[float, float]]:
    """mAP50 and mAP50-95 (of boxes), epoch by epoch, of the host's results.csv."""
    points = []
    with results.open() as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            values = {key.strip(): value for key, value in row.items() if key}
            named = [k for k in values if k.startswith("metrics/mAP") and "(M)" not in k]
            fifty = next(k for k in named if "0.5:0.95" not in k)
            whole = next(k for k in named if "0.5:0.95" in k)
            points.append((float(values[fifty]), float(values[whole])))
    return points


@own_style()
def plot_rounds(epochs: Sequence[tuple[float, float]], rounds: Rounds, file: Path) -> Path:
    """Draw mAP over the epochs, and where the model was cut.

    Args:
        epochs: of `course`, of all trainings.
        rounds: of the report.
        file: a .png to write.
    """
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    done = range(1, len(epochs) + 1)
    axes.plot(done, [value for value, _ in epochs], color=INK, label="mAP50")
    axes.plot(done, [value for _, value in epochs], color=ACCENT, label="mAP50-95")
    first = rounds[0]["macs"][0]
    for number, each in enumerate(rounds):
        place, label = each["epoch"] + 0.5, None if number else "as cut, and recovered"
        axes.axvline(place, color=GREY, lw=1, ls="--")
        if each["recovered"]:
            after = [each["accuracy"]["cut"][1], each["recovered"][1]]
            axes.plot([place] * 2, after, color=ACCENT, marker="o", ms=4, lw=2, ls=":", label=label)
        text = f"{each['macs'][1] / first:.0%} of\nthe MACs"
        over = axes.get_xaxis_transform()
        axes.text(place, 1.01, text, size=8, ha="center", va="bottom", transform=over)
    axes.set(xlabel="epoch", ylim=(0, None), xlim=(0, len(epochs) + 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    return write_picture(figure, file)
