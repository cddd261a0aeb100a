"""Model yamls to layers: as YOLOv5's own parse_model makes them, and in one line what is wrong."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from yolo_slim import prune
from yolo_slim.errors import InputError
from yolo_slim.host.admitted import ADMITTED
from yolo_slim.host.classes import common, yolo
from yolo_slim.host.parse import parse_model
from yolo_slim.models.model import build_model

MODELS = sorted(f for f in Path(yolo.__file__).parent.rglob("*.yaml") if f.stem != "anchors")


@pytest.fixture(scope="module")
def hosts() -> Callable:
    """The host's parse_model, from its source: ours stands in its place."""
    spec = importlib.util.spec_from_file_location("yolov5.models.yolo_itself", yolo.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).pop("eval", None)  # of common, where it is ours
    return module.parse_model


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.stem)
def test_layers_are_the_hosts(file: Path, hosts: Callable) -> None:
    """The same modules, drawn from the same numbers, at an eighth of the width."""
    data = yaml.safe_load(file.read_text(errors="ignore"))
    data["width_multiple"] /= 8
    made, usual = [], common.Conv.default_act
    for parse in (hosts, parse_model):
        torch.manual_seed(0)
        made.append(parse(deepcopy(data), [3]))
        common.Conv.default_act = usual  # a yaml's `activation` becomes that of all later models
    (theirs, needed), (ours, save) = made
    assert save == sorted(set(needed))
    state = theirs.state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    for a, b in zip(ours, theirs, strict=True):
        assert (a.i, a.f, a.np, str(a)) == (b.i, b.f, b.np, str(b).replace("yolo_itself", "yolo"))
        assert a.type.rpartition(".")[2] == b.type.rpartition(".")[2]


class Block(nn.Module):
    def __init__(self, c1, c2, k=1):
        super().__init__()
        self.given = c1, c2, k

    def forward(self, x):
        return x


class Chain(nn.Module):
    def __init__(self, in_channels, out_channels, n):
        super().__init__()
        self.given = in_channels, out_channels, n


@pytest.mark.parametrize(
    ("row", "given"),
    [
        ([-1, 1, "Block", [64, 3]], (8, 16, 3)),
        ([-1, 1, "Block", []], (8, 8, 1)),
        ([-1, 6, "Chain", [64]], (8, 16, 2)),
    ],
)
def test_arguments_of_a_class_of_the_users(row, given, monkeypatch, tiny_yaml) -> None:
    for cls in (Block, Chain):
        monkeypatch.setitem(ADMITTED, cls.__name__, cls)
    tiny_yaml["backbone"][1] = row
    tiny_yaml["backbone"][2:4] = [[0, 1, "Conv", [64]], [-1, 1, "Conv", [128, 3, 4]]]
    layers, _ = parse_model(tiny_yaml, [3])
    assert layers[1].given == given


WRONG: dict[str, tuple[Callable[[dict], Any], str]] = {
    "no anchors": (lambda d: d.pop("anchors"), "no entry anchors"),
    "no width": (lambda d: d.pop("width_multiple"), "no entry width_multiple"),
    "anchors 0": (lambda d: d.update(anchors=0), "anchors: 0, expected 1 or more"),
    "anchors 2.5": (lambda d: d.update(anchors=2.5), "anchors: 2.5, expected a whole number"),
    "two rows": (lambda d: d["anchors"].pop(), "2 rows for a head that reads 3 layers"),
    "odd row": (lambda d: d["anchors"][0].pop(), "width, height of each anchor"),
    "flat": (lambda d: d.update(anchors=[1, 2, 3]), "anchors: 1, expected width, height"),
    "nc text": (lambda d: d.update(nc="3"), "nc: '3', expected a number"),
    "nc 0": (lambda d: d.update(nc=0), "nc: 0, expected 1 or more"),
    "nc 2.5": (lambda d: d.update(nc=2.5), "nc: 2.5, expected a whole number"),
    "nc true": (lambda d: d.update(nc=True), "nc: True, expected a whole number"),
    "ch 0": (lambda d: d.update(ch=0), "ch: 0, expected 1 or more"),
    "width -1": (lambda d: d.update(width_multiple=-1), "width_multiple: -1, expected a number ab"),
    "depth 0": (lambda d: d.update(depth_multiple=0), "depth_multiple: 0, expected a number above"),
    "width nan": (lambda d: d.update(width_multiple=float("nan")), "width_multiple: nan"),
    "from -9": (lambda d: d["backbone"][3].__setitem__(0, -9), "layer 3, Conv: from -9"),
    "from itself": (lambda d: d["backbone"][3].__setitem__(0, 3), "layer 3, Conv: from 3, expec"),
    "from 99": (lambda d: d["head"][2][0].__setitem__(1, 99), r"layer 10, Concat: from \[-1, 99\]"),
    "first from 0": (lambda d: d["backbone"][0].__setitem__(0, 0), "layer 0, Conv: from 0, expe"),
    "from none": (lambda d: d["head"][2].__setitem__(0, []), r"layer 10, Concat: from \[\]"),
    "from 1.5": (lambda d: d["backbone"][3].__setitem__(0, 1.5), "layer 3, Conv: from 1.5"),
    "number 0": (lambda d: d["backbone"][3].__setitem__(1, 0), "layer 3, Conv, number: 0"),
    "no arguments": (lambda d: d["backbone"][3].__setitem__(3, []), r"layer 3, Conv: \[\] on \["),
    "args text": (lambda d: d["backbone"][3].__setitem__(3, ["x"]), r"layer 3, Conv: \['x'\]"),
    "too many": (
        lambda d: d["backbone"][7].__setitem__(3, [256, 5, 1, 1]),
        r"layer 7, SPPF: .*arguments of SPPF\(c1, c2, k=5\)",
    ),
    "no head": (lambda d: d["head"].pop(), "0 layers that detect, expected one"),
    "two heads": (
        lambda d: d["head"].append([[4, 11, 7], 1, "Detect", ["nc", "anchors"]]),
        r"2 layers that detect \(layer 12 of 14, layer 13 of 14\)",
    ),
    "head first": (
        lambda d: d["head"].append([-2, 1, "Conv", [64]]),
        r"1 layer that detects \(layer 12 of 14\)",
    ),
    "head of one": (lambda d: d["head"][-1].__setitem__(0, 4), "layer 12, Detect: from 4"),
    "sizes": (
        lambda d: d["head"][2].__setitem__(0, [-1, 4]),
        r"layer 11, C3|layer 10, Concat, from \[-1, 4\]: .*expected layers that fit together",
    ),
    "no model": (lambda d: d.update(backbone=[], head=[]), "0 layers that detect"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(kind: str, tiny_yaml: dict, tmp_path: Path, refused) -> None:
    change, message = WRONG[kind]
    change(tiny_yaml)
    with pytest.raises(InputError, match=message) as error:
        build_model(deepcopy(tiny_yaml))
    assert "\n" not in str(error.value)


def test_a_command_names_the_file(tiny_yaml, tmp_path, refused, shapes_yaml) -> None:
    tiny_yaml["backbone"][3][0] = -9
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(tiny_yaml))
    line = refused("sparse", "--st", "--cfg", file, "--weights", "", "--data", shapes_yaml)
    assert "mine.yaml, layer 3, Conv: from -9" in line


PRUNED: dict[str, tuple[Callable[[dict], Any], str]] = {
    "no arguments": (lambda d: d["backbone"][3].__setitem__(3, []), "layer 3, Conv: .*cannot be"),
    "no channels": (lambda d: d["backbone"][3][3].__setitem__(0, 0), "layer 3, Conv|layer 4"),
    "text": (lambda d: d["backbone"][4][3].__setitem__(1, "x"), "layer 4, C3Pruned: .*cannot be b"),
    "from 99": (lambda d: d["head"][0].__setitem__(0, 99), "layer 8, Conv: from 99"),
    "dense": (lambda d: d["backbone"][4].__setitem__(2, "C3"), "C3: a module without sizes"),
    "no head": (lambda d: d["head"].pop(), "0 layers that detect"),
}


@pytest.mark.parametrize("kind", PRUNED)
def test_a_pruned_yaml_that_was_changed(kind: str, tiny_model: nn.Module) -> None:
    data = deepcopy(prune(tiny_model, 0.3, imgsz=64).yaml)
    change, message = PRUNED[kind]
    change(data)
    with pytest.raises(InputError, match=message) as error:
        build_model(data)
    assert "\n" not in str(error.value)
