"""What may be in 8 bits, read from the graph: of boxes, masks, four strides."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import onnx
import pytest
from p6 import p6_yaml
from torch import nn

from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.int8.scope import Scope, scope_of
from yolo_slim.host.classes import yolo


def scope(model: nn.Module, **options: Any) -> Scope:
    return scope_of(onnx.load_from_string(to_onnx(model, imgsz=64, **options)))


@pytest.mark.parametrize("simplify", [True, False])
def test_all_convs_but_the_last(tiny_model: nn.Module, simplify: bool) -> None:
    """Each layer is a Conv of the model, by its name: conv, sigmoid, product."""
    parts = scope(tiny_model, simplify=simplify)
    convs = [n for n, m in tiny_model.named_modules() if isinstance(m, nn.Conv2d)]
    assert {f"{n}.conv" for n, m in tiny_model.named_modules() if hasattr(m, "conv")} == set(
        parts.layers
    )
    assert len(parts.head) == 3 and len(parts.layers) == len(convs) - 3
    assert all(len(nodes) == 3 for nodes in parts.layers.values())
    assert len(parts.before_silu) == len(parts.layers)


def test_the_decoding_is_behind(tiny_model: nn.Module) -> None:
    """It is all that belongs to the head but its convs, and nothing else."""
    parts = scope(tiny_model)
    assert all(name.startswith("/model.12/") for name in (*parts.head, *parts.behind))
    assert {"/model.12/Sigmoid", "/model.12/Split", "/model.12/Add"} <= set(parts.behind)
    assert not any(name.startswith("/model.12/") for name in parts.between)


def test_masks(tiny_seg: nn.Module) -> None:
    """The last conv of the prototypes is one of the last; their SiLU is behind it."""
    parts = scope(tiny_seg)
    assert [name for name in parts.head if "proto" in name] == ["/model.12/proto/cv3/conv/Conv"]
    assert "/model.12/proto/cv3/act/Mul" in parts.behind
    assert {"model.12.proto.cv1.conv", "model.12.proto.cv2.conv"} <= set(parts.layers)


def test_a_fourth_stride(tiny_yaml: dict[str, Any]) -> None:
    assert len(scope(yolo.DetectionModel(p6_yaml(deepcopy(tiny_yaml))).eval()).head) == 3


def test_what_feeds_only_float_layers_is_float(tiny_model: nn.Module) -> None:
    """The Concat before cv3 of a C3 goes with it; the one that feeds two convs needs both."""
    parts = scope(tiny_model)
    assert "/model.2/Concat" not in parts.apart()
    assert "/model.2/Concat" in parts.apart(["model.2.cv3.conv"])
    both = ["model.11.cv1.conv", "model.11.cv2.conv"]
    assert "/model.10/Concat" not in parts.apart(both[:1])
    assert "/model.10/Concat" in parts.apart(both)
    named = {node.name for node in onnx.load_from_string(to_onnx(tiny_model, imgsz=64)).graph.node}
    assert set(parts.apart(parts.layers)) == named


def test_a_transformer_is_float(tiny_yaml: dict[str, Any]) -> None:
    """What computes with rows of tokens has no maps; the convs around it are in 8 bits."""
    tiny_yaml["backbone"][4][2] = "C3TR"
    parts = scope(yolo.DetectionModel(tiny_yaml).eval())
    inside = [name for name in parts.behind if name.startswith("/model.4/m/tr")]
    assert any(name.endswith("MatMul") for name in inside) and "model.4.cv3.conv" in parts.layers
    assert any(name.endswith("Add") for name in inside)
