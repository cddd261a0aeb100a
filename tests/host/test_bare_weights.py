"""Weights without a model, as other tools save them: they open with --cfg, in every command."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY, build_tiny
from torch import nn
from torch.nn.utils import prune as torch_prune

from yolo_slim import InputError, ModelPruned, load, prune
from yolo_slim.cli import run
from yolo_slim.models.pruned_yaml import write_yaml
from yolo_slim.weight_masks import masks_of

IMAGE = torch.rand(1, 3, 64, 64)


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


def with_zeros(state: dict[str, Any]) -> dict[str, Any]:
    return {key: torch.zeros_like(value) for key, value in state.items()}


LAYOUTS = {
    "bare": lambda s: s,
    "OrderedDict": lambda s: OrderedDict(s),
    "model": lambda s: {"model": s, "epoch": 3},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {}}},
    "module.": lambda s: {"model": prefixed(s, "module.")},
    "torch.compile": lambda s: prefixed(s, "_orig_mod."),
    "Lightning": lambda s: {
        "state_dict": {**prefixed(s, "model."), "loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
    },
    "AutoShape": lambda s: prefixed(s, "model.model."),
    "EMA beside": lambda s: {"model": with_zeros(s), "ema": s},
    "EMA with its count": lambda s: {"ema": {"module": s, "updates": 7}},
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "profiled": lambda s: {**s, "model.0.total_ops": torch.zeros(1)},
    "anchor_grid": lambda s: {**s, "model.12.anchor_grid": torch.rand(3, 1, 3, 1, 1, 2)},
    "without counts": lambda s: {k: v for k, v in s.items() if not k.endswith("tracked")},
}


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    """The yaml of TINY, which says 80 classes and other anchors than the weights have."""
    data = yaml.safe_load(TINY) | {"nc": 80, "anchors": [[1, 2] * 3, [3, 4] * 3, [5, 6] * 3]}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("legacy", [False, True])
def test_layouts(layout, legacy, tiny_model, cfg, tmp_path) -> None:
    if layout == "half":
        tiny_model.half().float()
    file = tmp_path / "weights.pt"
    content = LAYOUTS[layout](tiny_model.state_dict())
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    found = load(file, cfg=cfg)
    assert torch.equal(found.model(IMAGE)[0], tiny_model(IMAGE)[0])
    assert (found.names, found.cfg, found.model.nc) == (
        {0: "class0", 1: "class1", 2: "class2", 3: "class3"},
        cfg,
        4,
    )
    assert torch.equal(found.model.model[-1].anchors, tiny_model.model[-1].anchors)
    assert load(file, cfg=yaml.safe_load(cfg.read_text())).model.nc == 4  # its content
    with pytest.raises(InputError, match=r"weights without an architecture .*expected --cfg"):
        load(file)


def test_names_come_from_the_file_or_the_yaml(tiny_model, cfg, tmp_path) -> None:
    state = tiny_model.state_dict()
    torch.save({"model": state, "names": ["a", "b", "c", "d"]}, tmp_path / "named.pt")
    torch.save(state, tmp_path / "bare.pt")
    assert list(load(tmp_path / "named.pt", cfg).names.values()) == list("abcd")
    data = yaml.safe_load(cfg.read_text()) | {"names": {0: "e", 1: "f", 2: "g", 3: "h"}}
    assert list(load(tmp_path / "bare.pt", data).names.values()) == list("efgh")


def test_an_ema_that_is_a_state_dict_beside_a_model(tiny_model, tmp_path) -> None:
    state = with_zeros(tiny_model.state_dict())
    torch.save({"model": tiny_model, "ema": state}, tmp_path / "ema.pt")
    assert torch.equal(load(tmp_path / "ema.pt").model(IMAGE)[0], tiny_model(IMAGE)[0])


def test_published_weights_by_the_name_of_their_yaml(shared, tmp_path) -> None:
    whole = load(shared / "weights" / "yolov5n.pt").model
    torch.save({"model": whole.state_dict()}, tmp_path / "bare.pt")
    for name in ("yolov5n.yaml", "yolov5n"):
        found = load(tmp_path / "bare.pt", name).model
        assert torch.equal(found(IMAGE)[0], whole(IMAGE)[0])
    text = r"--cfg yolov5s\.yaml does not fit: \d+ of 292 tensors differ, the first is model\.0\."
    text += r"conv\.weight: \(16, 3, 6, 6\), in the model \(32, 3, 6, 6\), expected"
    with pytest.raises(InputError, match=text):
        load(tmp_path / "bare.pt", "yolov5s.yaml")
    with pytest.raises(InputError, match=r"such as --cfg yolov5n\.yaml"):
        load(tmp_path / "bare.pt")


def test_segmentation_and_image_channels(tmp_path) -> None:
    from yolo_slim.models.model import build_model

    data = yaml.safe_load(TINY)
    data["head"][-1][2:] = ["Segment", ["nc", "anchors", 8, 64]]
    for extra in ({}, {"ch": 4}):  # infrared beside the colours
        model = build_model({**deepcopy(data), **extra, "nc": 5}).eval()
        torch.save(model.state_dict(), tmp_path / "seg.pt")
        found = load(tmp_path / "seg.pt", deepcopy(data)).model
        image = torch.rand(1, extra.get("ch", 3), 64, 64)
        assert torch.equal(found(image)[0], model(image)[0])
        assert (type(found).__name__, found.nc) == ("SegmentationModel", 5)


def test_pruned_weights_with_their_yaml(tiny_model, tmp_path) -> None:
    pruned = prune(tiny_model, 0.4, imgsz=64)
    torch.save(pruned.model.state_dict(), tmp_path / "bare.pt")
    (tmp_path / "pruned.yaml").write_text(write_yaml(pruned.yaml))
    found = load(tmp_path / "bare.pt", tmp_path / "pruned.yaml").model
    assert isinstance(found, ModelPruned)
    assert torch.equal(found(IMAGE)[0], pruned.model(IMAGE)[0])


def test_masked_weights(tiny_model, cfg, tmp_path) -> None:
    torch_prune.l1_unstructured(tiny_model.model[1].conv, "weight", 0.5)
    torch.save(tiny_model.state_dict(), tmp_path / "masked.pt")
    found = load(tmp_path / "masked.pt", cfg).model
    assert torch.equal(found(IMAGE)[0], tiny_model(IMAGE)[0])
    assert list(masks_of(found)) == ["model.1.conv.weight"]


def lacking(state: dict) -> None:
    del state["model.4.cv1.bn.bias"]


def foreign(state: dict) -> None:
    state["model.13.conv.weight"] = torch.zeros(3)


def shape(state: dict) -> None:
    state["model.4.cv1.bn.bias"] = torch.zeros(3)


def head(state: dict) -> None:
    del state["model.12.m.0.weight"]


def fused(state: dict) -> None:
    for key in [k for k in state if ".bn." in k]:
        del state[key]
    state["model.0.conv.bias"] = torch.zeros(8)


def no_number(state: dict) -> None:
    state["model.4.cv1.bn.bias"][0] = float("nan")


WRONG = {
    lacking: "1 of 132 tensors differ, the first is model.4.cv1.bn.bias: missing, in the model (16",
    foreign: "1 of 133 tensors differ, the first is model.13.conv.weight: (3,), in the",
    shape: "1 of 132 tensors differ, the first is model.4.cv1.bn.bias: (3,), in the model (16,)",
    head: "tensors differ, the first is model.12.m.0.weight: missing",
    fused: "the weights of a fused model (without BatchNorm)",
    no_number: "NaN in model.4.cv1.bn.bias (1 of 16 values)",
}


@pytest.mark.parametrize("change_", WRONG, ids=lambda f: f.__name__)
def test_weights_that_do_not_fit(change_, tiny_model, cfg, tmp_path, refused) -> None:
    state = dict(tiny_model.state_dict())
    change_(state)
    torch.save({"model": state}, tmp_path / "bare.pt")
    line = refused("prune", "--weights", tmp_path / "bare.pt", "--cfg", cfg)
    assert WRONG[change_] in line, line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nope.yaml", "--cfg nope.yaml: no such file, expected a model yaml, such as yolov5n.yaml"),
        (".", "--cfg .: a folder"),
        ("coco128.yaml", "--cfg coco128.yaml: no such file"),
        ("shapes.yaml", "--cfg shapes.yaml: refused (model yaml: no entry"),
    ],
)
def test_cfgs_that_cannot_be_used(value, text, tiny_model, refused, tmp_path, empty_folder) -> None:
    Path("shapes.yaml").write_text("names: [a]")
    torch.save(tiny_model.state_dict(), tmp_path / "bare.pt")
    line = refused("prune", "--weights", tmp_path / "bare.pt", "--cfg", value)
    assert text in line, line


@pytest.fixture
def bare(tiny_model: nn.Module, tmp_path: Path) -> Path:
    torch.save({"model": tiny_model.state_dict()}, tmp_path / "bare.pt")
    return tmp_path / "bare.pt"


TRAIN = "--imgsz 64 --epochs 1 --batch-size 8 --workers 0 --noplots --noautoanchor"


def test_every_command_opens_them(bare, cfg, shapes_yaml, empty_folder, capfd) -> None:
    data, with_cfg = ["--data", shapes_yaml], ["--cfg", cfg]
    images = shapes_yaml.parent / "shapes" / "images" / "val"
    small = ["--imgsz", 64]
    calls = {
        "inspect": [bare, "--json"],
        "bench": [bare, *small, "--repeats", 2, "--runtime", "torch"],
        "val": ["--weights", bare, *data, *small, "--project", "seen"],
        "detect": ["--weights", bare, "--source", images, *small, "--project", "seen"],
        "sensitivity": [bare, *data, *small, "--images", 2, "--shares", "0.5", "--processes", 2],
        "finegrained": [bare, "--sparsity", 0.5, "--repeats", 0, *small],
        "export": ["--weights", bare, *small, "--repeats", 0, "--include", "torchscript"],
        "prune": ["--weights", bare, *data, *small, "--percent", 0.3],
    }
    for command, argv in calls.items():
        assert run(command, list(map(str, [*argv, *with_cfg]))) == 0, command
    assert "note:" not in capfd.readouterr().err
    pruned = load("runs/prune/exp/pruned.pt")
    assert pruned.names == {i: f"class{i}" for i in range(4)}
    assert run("inspect", ["runs/prune/exp/pruned.pt", "--json", "--cfg", str(cfg)]) == 0
    assert f"holds its model; --cfg {cfg} is not used" in capfd.readouterr().err


def test_trainings_open_them(bare, cfg, shapes_yaml, empty_folder) -> None:
    """The weights are transferred, and the anchors of the weights, not those of the yaml, hold."""
    expected = build_tiny().model[-1].anchors
    argv = ["--weights", bare, "--cfg", cfg, "--data", shapes_yaml, *TRAIN.split()]
    assert run("sparse", [*map(str, argv), "--freeze", "4"]) == 0
    trained = load("runs/train/exp/weights/last.pt").model
    first = build_tiny().half().float().model[0].conv.weight
    assert torch.equal(trained.model[0].conv.weight, first)
    assert torch.allclose(trained.model[-1].anchors, expected, rtol=1e-3)
