"""The workload: all layers of a model, small files, and networks that run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from yolo_slim import channel_graph, load
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device.layers import Exported


@pytest.fixture(scope="module")
def plan(tiny_workload: Path) -> dict[str, Any]:
    return json.loads(zipfile.ZipFile(tiny_workload).read("workload.json"))


def test_every_layer_of_the_model_is_in_it(plan: dict[str, Any], tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint).model
    names = {n for n, m in model.named_modules() if type(m).__name__ == "Conv2d"}
    assert {layer[0] for layer in plan["layers"]} == names
    assert {layer[1] for layer in plan["layers"]} == set(plan["convs"])
    assert plan["imgsz"] == 64
    exported = Exported(to_onnx(model, imgsz=64), channel_graph(model, "group"))
    assert {op.key for op in exported.ops} == set(plan["ops"])
    kinds = {key.split()[0] for key in plan["ops"]}
    assert {"MaxPool", "Resize", "Concat", "Add", "decoding"} <= kinds
    first = plan["convs"]["conv 6x6 s2 at 64x64 p2 SiLU"]
    assert (first["inputs"], first["outputs"]) == (3, 8)
    assert not first["cut inputs"] and first["cut outputs"]


def test_the_files_run_and_hold_no_weights(plan: dict[str, Any], tiny_workload: Path) -> None:
    """Valid ONNX, run by ONNX Runtime; together far smaller than the weights of the networks."""
    with zipfile.ZipFile(tiny_workload) as archive:
        named = [file for op in plan["ops"].values() for file in op["files"]]
        named += [network["file"] for network in plan["networks"].values()]
        assert sorted(archive.namelist()) == sorted(
            ["workload.json", *(f"{name}.onnx" for name in named)]
        )
        for name in named:
            content = archive.read(f"{name}.onnx")
            onnx.checker.check_model(onnx.load_from_string(content))
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            feed = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()}
            assert all(np.isfinite(out).all() for out in session.run(None, feed)), name
            assert len(content) < 60_000, name


def test_the_networks_are_cuts(plan: dict[str, Any]) -> None:
    dense = plan["networks"].pop("dense")
    assert dense["step"] == 0 and len(dense["convs"]) == len(plan["layers"])
    assert all(network["step"] > 0 for network in plan["networks"].values())
    assert len(plan["networks"]) >= 3
    for network in plan["networks"].values():
        for (key, *cut), (same, *full) in zip(network["convs"], dense["convs"], strict=True):
            assert key == same and all(a <= b for a, b in zip(cut, full, strict=True))
