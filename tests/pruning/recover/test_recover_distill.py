"""`--recover distill`: the cut model learns from the dense one."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from yolo_slim import load
from yolo_slim.calibration import Calibration
from yolo_slim.channels.rules import channel_graph
from yolo_slim.cli import run
from yolo_slim.errors import InputError
from yolo_slim.host.outputs import apart
from yolo_slim.pruning.activations import evaluation_copy
from yolo_slim.pruning.prune import prune
from yolo_slim.pruning.recover import distill
from yolo_slim.pruning.recover.distill import distill_, parts, relative_errors


def images(count: int = 8, side: int = 64) -> Calibration:
    draw = torch.Generator().manual_seed(0)
    batch = torch.rand(count, 3, side, side, generator=draw)
    return Calibration(((batch, None),), compare=partial(apart, nc=3))


def test_the_outputs_come_nearer(tiny_model: nn.Module) -> None:
    """On images that it has not seen, too; the dense model and BatchNorm's statistics stay."""
    dense = deepcopy(tiny_model.state_dict())
    found = prune(tiny_model, 0.3, criterion="l2", round_to=1, imgsz=64)
    slim, graph = found.model, channel_graph(tiny_model)
    before = deepcopy(slim.state_dict())
    fresh = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    errors = []
    for _ in range(2):
        with torch.no_grad():
            outputs = [evaluation_copy(model)(fresh) for model in (slim, tiny_model)]
        errors.append(float(relative_errors(*outputs)))
        if len(errors) == 1:
            assert distill_(slim, tiny_model, graph, found.masks, images(), steps=60) == 60
    assert errors[1] < 0.9 * errors[0]
    assert all(torch.equal(dense[k], v) for k, v in tiny_model.state_dict().items())
    moved = {k for k, v in slim.state_dict().items() if not torch.equal(before[k], v)}
    assert moved and not any("running" in k or "anchors" in k for k in moved)
    assert not any(m._forward_pre_hooks for m in slim.modules())


def test_it_ends_in_time(tiny_model: nn.Module) -> None:
    """Where all steps would take too long there are as many as fit, and one at least."""
    found = prune(tiny_model, 0.3, criterion="l2", round_to=1, imgsz=64)
    graph = channel_graph(tiny_model)
    count = distill_(found.model, tiny_model, graph, found.masks, images(), seconds=1e-9)
    assert count == 1


def test_parts_of_large_images() -> None:
    whole = torch.arange(48.0).reshape(1, 1, 6, 8).expand(5, 3, 6, 8)
    draw = torch.Generator().manual_seed(0)
    seen = {tuple(parts(whole, draw, 4)[0, 0].flatten().tolist()) for _ in range(60)}
    rows = {(max(part) - min(part)) for part in seen}
    assert rows == {3 * 8 + 3} and len(seen) > 15  # squares, 15 places, mirrored or not
    assert parts(whole, draw, 32).shape == (4, 3, 6, 8)
    assert parts(whole[:2], draw, 4).shape == (2, 3, 4, 4)


def test_without_images(tiny_model: nn.Module) -> None:
    found = prune(tiny_model, 0.3, criterion="l2", round_to=1, imgsz=64)
    graph = channel_graph(tiny_model)
    with pytest.raises(InputError, match="recover distill"):
        distill_(found.model, tiny_model, graph, found.masks, Calibration(()))


def test_command(tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch) -> None:
    """`all,distill`: measured after the other parts, kept or undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distill, "STEPS", 20)
    argv = ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--imgsz", 64, "--workers", 0]
    argv += ["--percent", 0.3, "--criterion", "l2", "--recover", "all,distill"]
    assert run("prune", [str(a) for a in [*argv, "--calib-images", 8]]) == 0
    report = json.loads(Path("runs/prune/exp/report.json").read_text())
    names = [part["name"] for part in report["recovery"]]
    assert names == ["constants", "weights", "statistics", "distill"]
    assert report["accuracy"]["pruned"]["map"] >= report["accuracy"]["masked"]["map"] - 0.004
    load("runs/prune/exp/pruned.pt")
