"""Tables of devices that were never measured, and small workloads: no test depends on a machine."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim import channel_graph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device.layers import Exported
from yolo_slim.device.profile_device import TABLE
from yolo_slim.device.workload import conv_rows, parts

BLOCK = 4
BASE = 1e-6  # seconds of any layer


def conv_seconds(row: dict[str, Any], inputs: int, outputs: int) -> float:
    """Time by the MACs, and something for each call."""
    height, width = row["map"]
    kernel = row["kernel"][0] * row["kernel"][1]
    return BASE + 1e-9 * inputs * outputs * kernel * height * width


def op_seconds(channels: int) -> float:
    return BASE + 1e-7 * channels


def made_table(model: nn.Module, imgsz: int = 64, **other: Any) -> dict[str, Any]:
    """The content of device.json for a device whose times follow the two formulas above.

    Args:
        model: that it is for.
        imgsz: px.
        other: entries that differ.
    """
    graph = channel_graph(model, "group")
    exported = Exported(to_onnx(model, imgsz=imgsz), graph)
    convs, ops = {}, {}
    for name, row in conv_rows(exported, graph).items():
        ins = sorted({min(BLOCK, row["inputs"]), row["inputs"]})
        outs = sorted({min(BLOCK, row["outputs"]), row["outputs"]})
        seconds = [[conv_seconds(row, i, o) for o in outs] for i in ins]
        convs[name] = {"inputs": ins, "outputs": outs, "seconds": seconds}
    for op in exported.ops:
        most = max(len(op.ids), max(ops.get(op.key, {"channels": [0]})["channels"]))
        sides = [most, most // 2] if most > 1 else [most]
        ops[op.key] = {"channels": sides, "seconds": [op_seconds(n) for n in sides]}
    whole = parts(exported)
    rows = conv_rows(exported, graph)
    dense = sum(conv_seconds(rows[key], i, o) for key, i, o in whole["convs"])
    dense += sum(op_seconds(channels) for _, channels in whole["ops"])
    content = {
        "format": TABLE,
        "layers": [[c.name, c.key, c.inputs, c.outputs] for c in exported.convs.values()],
        "imgsz": imgsz,
        "runtime": "onnxruntime",
        "version": "1.0",
        "threads": 1,
        "processor": "a made-up one",
        "block": BLOCK,
        "odd": {"inputs": 1.0, "outputs": 1.0},
        "probes": {"inputs": [], "outputs": []},
        "convs": convs,
        "ops": ops,
        "networks": {"dense": {"seconds": dense, "step": 0, "file": "networks/dense", **whole}},
    }
    return content | other


def write_table(file: Path, model: nn.Module, **other: Any) -> Path:
    """`made_table` as a file."""
    file.write_text(json.dumps(made_table(model, **other)))
    return file


def small_workload(whole: Path, file: Path) -> Path:
    """A workload with two convs, two other operators and one network of a whole one."""
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(file, "w") as small:
        plan = json.loads(archive.read("workload.json"))
        cut = [k for k, row in plan["convs"].items() if row["cut inputs"] and row["cut outputs"]]
        plan["convs"] = {key: plan["convs"][key] for key in cut[:2]}
        plan["ops"] = dict(list(plan["ops"].items())[-2:])
        dense = plan["networks"]["dense"]
        for part in ("convs", "ops"):
            dense[part] = [row for row in dense[part] if row[0] in plan[part]]
        plan["layers"] = [row for row in plan["layers"] if row[1] in plan["convs"]]
        plan["networks"] = {"dense": dense}
        small.writestr("workload.json", json.dumps(plan))
        files = [file for op in plan["ops"].values() for file in op["files"]]
        for name in archive.namelist():
            if name.rsplit(".", 1)[0] in [*files, plan["networks"]["dense"]["file"]]:
                small.writestr(name, archive.read(name))
    return file
