"""What prune.py leaves behind: the checkpoint, the yaml, the masks, the report, the picture."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from yolo_slim.files import write_aside
from yolo_slim.host.checkpoint import Checkpoint, save_model
from yolo_slim.host.checkpoint import write as write_checkpoint
from yolo_slim.host.evaluate import Accuracy
from yolo_slim.models.pruned_yaml import write_yaml
from yolo_slim.pruning.prune import Pruned
from yolo_slim.pruning.report import CutReport
from yolo_slim.report.channels_plot import plot_channels
from yolo_slim.report.tables import accuracy_rows, accuracy_table, ancestry_table, change_of
from yolo_slim.text import fold


def write_cut(
    folder: Path,
    source: Checkpoint,
    pruned: Pruned,
    accuracy: dict[str, Accuracy],
    *,
    options: Mapping[str, Any],
    data: str | None,
    imgsz: int,
) -> dict[str, Any]:
    """Write what `prune` leaves behind; returns report.json's content, and as `text` what it says.

    Args:
        folder: where to.
        source: what was cut.
        pruned: what came of it.
        accuracy: name of a model to its mAP.
        options: of the command, for the report.
        data: yaml of the data that the model was cut for: it is trained on that next.
        imgsz: px.
    """
    pruned.model.ancestry[-1]["weights"] = str(source.path.absolute())
    train = dict(source.train)
    if data:
        file = Path(data)
        train |= {"data": str(file.absolute() if file.is_file() else file), "imgsz": imgsz}
    file = save_model(pruned.model, folder / "pruned.pt", opt=train or None)
    write_aside(folder / "pruned.yaml", write_yaml(pruned.yaml).encode())
    write_checkpoint(folder / "masks.pt", dict(pruned.masks))
    dense_file = save_size(source)
    report = replace(
        pruned.report,
        before=replace(pruned.report.before, bytes=dense_file),
        after=replace(pruned.report.after, bytes=file.stat().st_size),
    )
    if report.target.name == "size_mb":  # what the masks predicted is now known
        report = replace(report, target=replace(report.target, achieved=file.stat().st_size / 1e6))
    content = {
        "weights": str(source.path.absolute()),
        "options": dict(options),
        **report.as_dict(),
        "accuracy": {name: asdict(value) for name, value in accuracy.items()},
        "recovery": [asdict(part) for part in pruned.recovery.parts],
        "ancestry": [
            {k: v for k, v in cut.items() if k != "dense_yaml"} for cut in pruned.model.ancestry
        ],
    }
    write_aside(folder / "report.json", json.dumps(content, indent=2).encode())
    plot_channels(report.layers, folder / "channels.png", report.times)
    return {**content, "text": cut_text(report, pruned, accuracy)}


def cut_text(report: CutReport, pruned: Pruned, accuracy: Mapping[str, Accuracy]) -> str:
    """What a cut came to, the shortest and most important last.

    Args:
        report: with the size of the files.
        pruned: what was cut.
        accuracy: dense and pruned; empty where nothing was measured.
    """
    text, rows, change = ancestry_table(pruned.model.ancestry), list[list[str]](), ""
    if accuracy:
        steps = {"before": accuracy["dense"]} | pruned.recovery.steps
        text += accuracy_table(
            steps, "mAP on the validation images, after each part of the recovery"
        )
        text += "\n"
        both = accuracy["dense"], accuracy["pruned"]
        rows, change = accuracy_rows(*both), f"; {change_of(*both)} before any training"
    return f"{text}{report.summary(rows)}\n" + fold(f"{report.gains()}{change}.")


def save_size(source: Checkpoint) -> int:
    """Bytes of the dense model saved as `pruned.pt` is: without optimizer and EMA."""
    with tempfile.TemporaryDirectory() as folder:
        return save_model(source.model, Path(folder) / "dense.pt").stat().st_size
