"""Detectors that do not fit themselves: one line names what is wrong, in memory and as files."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from yolo_slim import InputError, SparsityPenalty, channel_graph, load, prune, save


def without(name: str) -> Callable[[Any, Any], None]:
    def change(model: Any, head: Any) -> None:
        head._buffers.pop(name, None)
        head.__dict__.pop(name, None)

    return change


def head_with(**values: Any) -> Callable[[Any, Any], None]:
    def change(model: Any, head: Any) -> None:
        for name, value in values.items():
            head._buffers.pop(name, None)
            head._modules.pop(name, None)
            setattr(head, name, value)

    return change


def layer_with(index: int, **values: Any) -> Callable[[Any, Any], None]:
    def change(model: Any, head: Any) -> None:
        for name, value in values.items():
            setattr(model.model[index], name, value)

    return change


WRONG = {
    "anchors None": (head_with(anchors=None), "Detect.anchors: None, expected a tensor of shape"),
    "no anchors": (
        without("anchors"),
        "Detect.anchors: None, expected a tensor of shape (3, 3, 2)",
    ),
    "anchors a list": (head_with(anchors=[[1, 2]]), "Detect.anchors: [[1, 2]], expected a tensor"),
    "anchors of two": (head_with(anchors=torch.ones(3, 2, 2)), "of shape (3, 2, 2), expected"),
    "anchors below 0": (head_with(anchors=-torch.ones(3, 3, 2)), "expected widths and heights of"),
    "anchors Inf": (
        head_with(anchors=torch.full((3, 3, 2), np.inf)),
        "expected widths and heights",
    ),
    "stride 0": (
        head_with(stride=torch.zeros(3)),
        "Detect.stride: [0.0, 0.0, 0.0], expected px",
    ),
    "stride 3e9": (
        head_with(stride=torch.tensor([8, 16, 3e9])),
        "expected px, from 1 to",
    ),
    "stride None": (head_with(stride=None), "Detect.stride: None, expected a tensor of shape (3,)"),
    "no stride": (without("stride"), "Detect.stride: None, expected a tensor of shape (3,)"),
    "stride of two": (
        head_with(stride=torch.ones(2)),
        "Detect.stride: of shape (2,), expected (3,)",
    ),
    "nc 5": (
        head_with(nc=5),
        "Detect: nc 5, no 9, na 3, and convs of [27, 27, 27] channels, expec",
    ),
    "nc and no": (head_with(nc=5, no=10), "nc 5, no 10, na 3, and convs of [27, 27, 27] channels"),
    "nc None": (head_with(nc=None), "Detect.nc: None, expected a whole number, 1 or more"),
    "nc 0": (head_with(nc=0), "Detect.nc: 0, expected a whole number, 1 or more"),
    "nc a text": (head_with(nc="4"), "Detect.nc: '4', expected a whole number, 1 or more"),
    "nl 2": (head_with(nl=2), "Detect: nl 2, 3 convs, 3 layers to read, expected as many of"),
    "na 2": (head_with(na=2), "Detect.anchors: of shape (3, 3, 2), expected (3, 2, 2)"),
    "no no": (without("no"), "Detect.no: None, expected a whole number, 1 or more"),
    "two convs": (lambda m, h: h._modules.update(m=h.m[:2]), "Detect: nl 3, 2 convs, 3 layers to "),
    "no conv": (lambda m, h: h.m.__setitem__(0, nn.Identity()), "and convs of [27, 27] channels"),
    "from one": (
        head_with(f=-1),
        "Detect: nl 3, 3 convs, 1 layer to read, expected as many",
    ),
    "from 99": (
        head_with(f=[4, 11, 99]),
        "layer 12, Detect: from [4, 11, 99], expected -1, or lay",
    ),
    "from a text": (
        layer_with(3, f="x"),
        "layer 3, Conv: from x, expected -1, or layers before it",
    ),
    "index": (layer_with(3, i=7), "layer 3, Conv: i 7, expected 3, its place in the model"),
    "not kept": (
        lambda m, h: setattr(m, "save", []),
        "from [-1, 5], expected layer 5 in model.save",
    ),
    "BN": (
        lambda m, h: setattr(m.model[3].bn, "running_mean", torch.ones(3)),
        "running_mean: of sha",
    ),
    "eps": (
        lambda m, h: setattr(m.model[3].bn, "eps", "a"),
        "model.3.bn.eps: 'a', expected a number",
    ),
    "no weights": (lambda m, h: setattr(m.model[3].conv, "weight", None), "the weights of a conv"),
    "names": (
        lambda m, h: setattr(m, "names", 4),
        "model.names: 4, expected a list of names, or a",
    ),
    "names of texts": (
        lambda m, h: setattr(m, "names", {"a": 1}),
        "model.names: {'a': 1}, expected",
    ),
    "int8": (
        lambda m, h: setattr(
            m.model[3].conv, "weight", nn.Parameter(torch.ones(32, 16, 3, 3).to(torch.int8), False)
        ),
        "model.3.conv.weight: of type int8, expected floating-point numbers",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit(name: str, tiny_model: nn.Module, refused: Any, tmp_path: Path) -> None:
    change, expected = WRONG[name]
    change(tiny_model, tiny_model.model[-1])
    with pytest.raises(InputError) as error:
        prune(tiny_model, 0.4, criterion="l2", imgsz=64)
    assert expected in str(error.value)
    if not name.startswith("names"):
        for call in (channel_graph, SparsityPenalty, lambda model: save(model, tmp_path / "x.pt")):
            with pytest.raises(InputError):
                call(tiny_model)
    torch.save({"model": tiny_model}, tmp_path / "odd.pt")
    assert expected in refused("inspect", tmp_path / "odd.pt")


def test_what_can_be_made_up_for(tiny_model: nn.Module, tmp_path: Path) -> None:
    """The model's own strides are a copy of the head's; counts may be numbers of numpy."""
    expected = tiny_model(torch.ones(1, 3, 64, 64))[0]
    for change in (
        lambda m: delattr(m, "stride"),
        lambda m: setattr(m, "stride", torch.zeros(3)),
        lambda m: setattr(m.model[-1], "nc", np.int64(4)),
        lambda m: delattr(m, "names"),
    ):
        model = deepcopy(tiny_model)
        change(model)
        torch.save({"model": model}, tmp_path / "odd.pt")
        loaded = load(tmp_path / "odd.pt").model
        assert torch.equal(loaded(torch.ones(1, 3, 64, 64))[0], expected)
        assert loaded.stride.tolist() == [8, 16, 32] and type(loaded.model[-1].nc) is int


@pytest.mark.parametrize("kind", ["int8", "quantised", "complex", "meta"])
def test_bare_weights_that_are_no_floats(
    kind: str, tiny_model: nn.Module, tiny_yaml: dict, tmp_path: Path
) -> None:
    state = tiny_model.state_dict()
    weight = state["model.3.conv.weight"]
    state["model.3.conv.weight"] = {
        "int8": lambda: weight.to(torch.int8),
        "quantised": lambda: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "complex": lambda: weight.to(torch.complex64),
        "meta": lambda: weight.to("meta"),
    }[kind]()
    torch.save(state, tmp_path / "bare.pt")
    with pytest.raises(InputError, match="model.3.conv.weight .*not quantised ones"):
        load(tmp_path / "bare.pt", cfg=tiny_yaml)
