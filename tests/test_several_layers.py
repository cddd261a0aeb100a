"""Modules of a user's that read several layers: in a yaml, on the road, with a rule or not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from _common import randomise_norms_
from torch import nn

from yolo_slim import InputError, admit, channel_graph, extensions, load, prune, save
from yolo_slim.channels import rules
from yolo_slim.cli import run
from yolo_slim.models.model import build_model

HERE = Path(__file__).parent
SEVERAL = HERE / "several_modules.py"
EXAMPLE = HERE.parent / "examples" / "my_modules.py"
CFG = """
nc: 4
depth_multiple: 1.0
width_multiple: 0.25
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Conv, [32, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [64, 3, 2]]  # 1
  - [-1, 1, Conv, [{wide}, 1]]  # 2
  - [1, 1, Conv, [64, 3]]  # 3
head:
  - {row}  # 4
  - [-1, 1, Conv, [128, 3, 2]]  # 5
  - [[4, 5], 1, Detect, [nc, anchors]]  # 6
"""
KINDS = {  # row, channels of layer 2, what the layer hands on
    "AddOfTwo": ("[[2, 3], 1, AddOfTwo, [128]]", 64, 32),
    "AddOfTwo, as published": ("[[-1, 2], 1, AddOfTwo, [16, 24]]", 64, 24),
    "Projected": ("[[2, 3], 1, Projected, [128]]", 96, 32),
    "Projected of equals": ("[[2, 3, 1], 1, Projected, [128]]", 64, 32),
    "Fused": ("[[2, 3, 1], 1, Fused, [bifpn]]", 64, 16),
    "Weighted": ("[[2, 3], 1, Weighted, []]", 64, 16),
    "Weighted, length written": ("[[2, 3], 1, Weighted, [2]]", 64, 16),
    "WeightedConcat": ("[[-2, -1], 1, WeightedConcat, [1]]", 96, 40),
    "Plus": ("[[2, 3, 1], 1, Plus, []]", 64, 16),
}
ROAD = "[[2, 3], 1, WeightedAdd, [128]]"


@pytest.fixture(autouse=True)
def _forget():
    """What a test admits holds for that test."""
    before, known = dict(rules.RULES), dict(extensions.ADMITTED)
    yield
    for registry, old in ((rules.RULES, before), (extensions.ADMITTED, known)):
        registry.clear()
        registry.update(old)
    for name in ("several_modules", "my_modules"):
        sys.modules.pop(name, None)


def model_with(row: str, wide: int = 64) -> nn.Module:
    model = build_model(yaml.safe_load(CFG.format(row=row, wide=wide)))
    randomise_norms_(model)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_usual_constructors(kind, tmp_path) -> None:
    """Without a rule: built, cut around, saved, loaded, cut again."""
    admit(SEVERAL)
    row, wide, out = KINDS[kind]
    model = model_with(row, wide)
    assert model.model[5].conv.in_channels == out
    graph = channel_graph(model)
    name = type(model.model[4]).__name__
    assert [(u.name, u.type) for u in graph.unknown] == [("model.4", name)]
    assert graph.norms["model.3.bn"].pinned == f"read by model.4, {name}, which has no rule"
    pruned = prune(model, 0.5, round_to=1, imgsz=64)
    assert pruned.parity.holds
    dense, slim = model.model[4].state_dict(), pruned.model.model[4].state_dict()
    assert all(torch.equal(dense[key], slim[key]) for key in dense.keys() | slim.keys())
    found = load(save(pruned, tmp_path / "p.pt")).model
    shapes = {k: v.shape for k, v in build_model(pruned.yaml).state_dict().items()}
    assert shapes == {k: v.shape for k, v in found.state_dict().items()}
    assert prune(found, 0.3, round_to=1, imgsz=64).parity.holds


def test_rule_of_the_example() -> None:
    admit(EXAMPLE)
    model = model_with(ROAD)
    graph = channel_graph(model)
    assert not graph.unknown
    assert graph.norms["model.2.bn"].tied == ("model.3.bn",)
    pruned = prune(model, 0.5, round_to=1, imgsz=64)
    assert pruned.parity.holds
    assert pruned.model.model[4].conv.conv.in_channels < 16
    assert torch.equal(pruned.masks["model.2.bn"], pruned.masks["model.3.bn"])
    assert prune(pruned.model, 0.3, round_to=1, imgsz=64).parity.holds


def test_the_road_of_a_weighted_add(shapes_yaml, tmp_path, monkeypatch) -> None:
    """sparse --cfg, prune, finetune, export, as docs/own-modules.md says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(CFG.format(row=ROAD, wide=64))
    own = ["--modules", str(EXAMPLE)]
    train = ["--data", str(shapes_yaml), "--imgsz", "64", "--epochs", "1", "--batch-size", "8"]
    train += ["--workers", "0", "--noplots", *own]
    assert run("sparse", ["--st", "--cfg", "own.yaml", "--weights", "", *train]) == 0
    assert run("prune", ["--percent", "0.5", "--round-to", "1", *own]) == 0
    assert json.loads((tmp_path / "runs/prune/exp/report.json").read_text())["unknown"] == []
    assert "WeightedAdd" in (tmp_path / "runs/prune/exp/pruned.yaml").read_text()
    assert run("finetune", train) == 0
    assert run("export", ["--include", "onnx", "--repeats", "0", "--imgsz", "64", *own]) == 0
    assert list(tmp_path.glob("runs/export/exp/*.onnx"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[[2, 3], 1, AddOfTwo, [128, 3, 3]]", r"layer 4, AddOfTwo: .*arguments of AddOfTwo\(c1,"),
        ("[[2, 3], 1, Projected, [x]]", "layer 4, Projected: .*cannot be built"),
        ("[[0, 3], 1, Plus, []]", r"layer 4, Plus, from \[0, 3\].*expected layers that fit"),
    ],
)
def test_what_does_not_fit_is_named(row, message) -> None:
    admit(SEVERAL)
    with pytest.raises(InputError, match=message):
        model_with(row)
