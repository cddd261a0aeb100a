"""What a run with rounds came to: its best model, two tables, one report.json, one picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.as_called import named
from yolo_slim.deploy.export import to_onnx
from yolo_slim.files import write_aside
from yolo_slim.host import data as host_data
from yolo_slim.host.checkpoint import save_model
from yolo_slim.host.evaluate import Accuracy, evaluate
from yolo_slim.host.training import LOGGER
from yolo_slim.measure.cost import cost
from yolo_slim.measure.latency import onnx_latency, warning_of
from yolo_slim.models import load
from yolo_slim.rounds.course import MORE, course, still_rising
from yolo_slim.rounds.picture import PICTURE, plot_rounds
from yolo_slim.rounds.plan import REPORT, cut_file
from yolo_slim.runs import trained_file
from yolo_slim.text import apart, fold, giga, mega, ratio, table

Rounds = Sequence[Mapping[str, Any]]
NEW_CLASSES = "new classes"  # in the place of an accuracy: the model does not know them yet


@dataclass(frozen=True)
class Best:
    """The best model of a run after its last cut, and what the last training came to.

    Attributes:
        file: the checkpoint.
        accuracy: of it.
        trained: of the best epoch of the last training.
        recovered: mAP50 and mAP50-95 as the last cut and its recovery left it; None where that was
            not measured.
    """

    file: Path
    accuracy: Accuracy
    trained: Accuracy
    recovered: tuple[float, float] | None

    @property
    def is_trained(self) -> bool:
        """False if the last training ended below what it began with."""
        return self.accuracy is self.trained


def write_report(
    folder: Path, opt: argparse.Namespace, rounds: Rounds, first: Path, trainings: Sequence[Path]
) -> str:
    """Measure the best model of a run, write it to best.pt, then slim.png and, last, report.json.

    Args:
        folder: of a run whose trainings have ended.
        opt: its options.
        rounds: `RoundReport.as_dict` of each cut.
        first: the model before the first cut.
        trainings: the folder of each training.

    Returns:
        The tables, and what they do not say.
    """
    best_file, imgsz = folder / "best.pt", opt.imgsz
    judge = partial(
        evaluate,
        data=host_data.read_data(opt.data),
        imgsz=imgsz,
        workers=opt.workers,
        device=str(opt.device),
    )
    LOGGER.info("\nslim: measuring the result")
    best = best_of(folder, rounds, trained_file(trainings[-1]), judge)
    write_best(best, trainings[-1], best_file)
    slim, dense = load(best_file).model, load(first).model
    before, after = (cost(model, imgsz) for model in (dense, slim))
    LOGGER.info("slim: timing it beside the model before the cut, both in ONNX Runtime")
    files = {"dense": to_onnx(dense, imgsz=imgsz), "slim": to_onnx(slim, imgsz=imgsz)}
    latencies = onnx_latency(files, imgsz=imgsz)
    times = {name: latency.median for name, latency in latencies.items()}
    content = {
        "rounds": list(rounds),
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "bytes": [file.stat().st_size for file in (first, best_file)],
        "latency_ms": times,
        "accuracy": {"map50": best.accuracy.map50, "map": best.accuracy.map},
        "trained": {"map50": best.trained.map50, "map": best.trained.map},
        "best": "trained" if best.is_trained else "recovered",
    }
    parts = [course(each) for each in trainings]
    plot_rounds(parts, rounds, folder / PICTURE)
    write_aside(folder / REPORT, json.dumps(content, indent=2).encode())
    text = rounds_table(rounds, sum(map(len, parts)), best) + "\n" + end_table(content, imgsz)
    rough = warning_of(latencies, f"{named('bench')} measures again.")
    notes = [rough, *remarks(best, [whole for _, whole in parts[-1]])]
    return text + "".join(f"\n{fold(note)}" for note in notes if note)


def best_of(
    folder: Path, rounds: Rounds, trained: Path, judge: Callable[[nn.Module], Accuracy]
) -> Best:
    """The better one of what the last cut, recovered, and the training after it gave.

    Both are as small as the run was asked for; what came before the last cut is larger.

    Args:
        folder, rounds: see `write_report`.
        trained: the best epoch of the last training.
        judge: a model to its accuracy.
    """
    accuracy, recovered = judge(load(trained).model), rounds[-1]["recovered"]
    if recovered is None or recovered[1] <= accuracy.map:
        return Best(trained, accuracy, accuracy, recovered and tuple(recovered))
    return Best(cut_file(folder, len(rounds)), Accuracy(*recovered), accuracy, tuple(recovered))


def write_best(best: Best, training: Path, file: Path) -> None:
    """Write the best model as a finished training's, with the options of the last one."""
    if best.is_trained:
        write_aside(file, best.file.read_bytes())
        return
    options = load(trained_file(training)).train
    save_model(load(best.file).model, file, opt=options or None)


def remarks(best: Best, maps: Sequence[float]) -> list[str]:
    """What a user should do otherwise next time; nothing where the epochs were enough.

    Args:
        best: of the run.
        maps: mAP50-95 of the last training, epoch by epoch.
    """
    if not best.is_trained:
        assert best.recovered is not None
        now, then = apart(best.trained.map, best.recovered[1])
        text = f"mAP50-95 is {now} after the last training, less than the"
        text += f" {then} of the recovered model that it began with: best.pt is"
        return [f"Too few epochs: {text} that model. {MORE}"]
    return [text] if (text := still_rising(maps)) else []


def rounds_table(rounds: Rounds, epochs: int, best: Best | None = None) -> str:
    """A row a step of the run: before, each cut and what its recovery brought, the end.

    Args:
        rounds: of the report.
        epochs: of all trainings.
        best: of the run.
    """
    first, params = rounds[0]["macs"][0], rounds[0]["params"][0]
    rows = []
    for number, each in enumerate(rounds, 1):
        steps, when = each["accuracy"], str(each["epoch"])
        left = [ratio(each["macs"][1], first), ratio(each["params"][1], params)]
        now = [ratio(each["macs"][0], first), ratio(each["params"][0], params)]
        name = "before" if number == 1 else f"before cut {number}"
        rows.append([name, when, *now, *values(steps.get("before"))])
        rows.append([f"cut {number}", when, *left, *values(steps.get("cut"))])
        for name, value in steps.items():
            if name not in ("before", "cut"):
                rows.append([f"  {name}", "", "", "", *values(value)])
        if len(steps) > 2:
            rows.append(["  recovered", "", "", "", *values(each["recovered"])])
    if best:
        ends = (("trained", str(epochs), best.trained), ("best.pt", "", best.accuracy))
        for name, when, value in ends:
            rows.append([name, when, *left, *values((value.map50, value.map))])
    head = ["", "after epoch", "MACs", "parameters", "mAP50", "mAP50-95"]
    return table(head, rows)


def values(accuracy: Sequence[float] | None) -> list[str]:
    """mAP50 and mAP50-95 as text."""
    return [f"{value:.3f}" for value in accuracy] if accuracy else [NEW_CLASSES, ""]


def end_table(content: Mapping[str, Any], imgsz: int) -> str:
    """Before the first cut and in the end."""
    (p0, p1), (m0, m1), (b0, b1) = (content[key] for key in ("params", "macs", "bytes"))
    t0, t1 = (content["latency_ms"][name] for name in ("dense", "slim"))
    before = content["rounds"][0]["accuracy"].get("before")
    after = (content["accuracy"]["map50"], content["accuracy"]["map"])
    rows = [
        ["parameters", f"{p0:,}", f"{p1:,}", ratio(p1, p0)],
        [f"MACs at {imgsz} px", giga(m0), giga(m1), ratio(m1, m0)],
        ["file", mega(b0), mega(b1), ratio(b1, b0)],
        ["ONNX Runtime, ms", f"{t0:.1f}", f"{t1:.1f}", ratio(t1, t0)],
        ["mAP50 / mAP50-95", *(" / ".join(filter(None, values(v))) for v in (before, after)), ""],
    ]
    return table(["", "before", "slim", "left"], rows)
