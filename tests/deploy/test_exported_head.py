"""Detect by planes: the ONNX file answers as with YOLOv5's own decoding, and keeps the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml
from _common import randomise_norms_
from conftest import TINY
from torch import nn

from yolo_slim import prune
from yolo_slim.deploy import export
from yolo_slim.deploy.check import compare
from yolo_slim.deploy.export import exportable, to_onnx
from yolo_slim.deploy.head import decode_by_planes_
from yolo_slim.host.classes import yolo
from yolo_slim.host.compat import replaced
from yolo_slim.measure.latency import random_images, session

SEGMENT = TINY.replace("Detect, [nc, anchors]", "Segment, [nc, anchors, 32, 32]")


def made(text: str = TINY, classes: int = 4, cut: bool = False) -> nn.Module:
    """A detector or segmenter with random weights."""
    data: dict[str, Any] = yaml.safe_load(text) | {"nc": classes}
    model = (yolo.SegmentationModel if text is SEGMENT else yolo.DetectionModel)(data)
    randomise_norms_(model)
    model.names = {index: f"class {index}" for index in range(classes)}
    return prune(model.eval(), macs=0.7, criterion="bn").model if cut else model.eval()


def by_rows(model: nn.Module, **options: Any) -> bytes:
    """Exported with YOLOv5's own decoding."""
    with replaced(export, decode_by_planes_=lambda model: None):
        return to_onnx(model, **options)


def answers(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    return session(content, 1).run(None, {"images": images})


@pytest.mark.parametrize("text", [TINY, SEGMENT], ids=["detect", "segment"])
@pytest.mark.parametrize("cut", [False, True], ids=["dense", "cut"])
def test_outputs_and_all_that_describes_the_file_stay(text: str, cut: bool) -> None:
    model = made(text, cut=cut)
    before, after = by_rows(model, imgsz=96), to_onnx(model, imgsz=96)
    images = random_images(1, 3, 96, 96)

    assert compare(model, lambda batch: answers(after, batch), [images]).holds
    for old, new in zip(answers(before, images), answers(after, images), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-5)
    old, new = (onnx.load_from_string(content) for content in (before, after))
    assert old.graph.input == new.graph.input
    assert old.graph.output == new.graph.output
    assert (old.opset_import, old.ir_version) == (new.opset_import, new.ir_version)
    assert old.metadata_props == new.metadata_props
    assert len(after) < len(before)
    assert len(new.graph.node) < len(old.graph.node)


@pytest.mark.parametrize("text", [TINY, SEGMENT], ids=["detect", "segment"])
@pytest.mark.parametrize("simplify", [True, False])
def test_any_batch_and_any_shape_of_image(text: str, simplify: bool) -> None:
    model = made(text)
    content = to_onnx(model, imgsz=64, dynamic=True, simplify=simplify)
    batches = [random_images(*shape) for shape in ((1, 3, 64, 64), (2, 3, 96, 160), (3, 3, 64, 32))]
    assert compare(model, lambda images: answers(content, images), batches).holds


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_any_number_of_classes(classes: int) -> None:
    model, images = made(classes=classes), random_images(2, 3, 64, 64)
    content = to_onnx(model, imgsz=64, batch=2)
    assert answers(content, images)[0].shape == (2, 3 * (64 + 16 + 4), 5 + classes)
    assert compare(model, lambda batch: answers(content, batch), [images]).holds


@pytest.mark.parametrize("opset", [9, 12, 21])
def test_operator_sets(opset: int) -> None:
    model, images = made(), random_images(1, 3, 64, 64)
    content = to_onnx(model, imgsz=64, opset=opset)
    np.testing.assert_allclose(
        answers(content, images)[0],
        answers(by_rows(model, imgsz=64, opset=opset), images)[0],
        rtol=1e-6,
        atol=1e-5,
    )


def test_opencv_runs_it(tmp_path: Path) -> None:
    model, images = made(), random_images(1, 3, 64, 64)
    file = tmp_path / "m.onnx"
    file.write_bytes(to_onnx(model, imgsz=64))
    net = cv2.dnn.readNetFromONNX(str(file))
    net.setInput(images)
    with torch.no_grad():
        expected = model(torch.from_numpy(images))[0]
    np.testing.assert_allclose(net.forward(), expected, atol=0.05)


def test_convs_of_the_head_keep_their_names_and_the_sigmoid_follows_them() -> None:
    nodes = onnx.load_from_string(to_onnx(made(), imgsz=64)).graph.node
    for index in range(3):
        conv = next(node for node in nodes if f"model.12.m.{index}.weight" in node.input)
        readers = [node.op_type for node in nodes if conv.output[0] in node.input]
        assert (conv.op_type, readers) == ("Conv", ["Sigmoid"])


def test_the_model_is_left_as_it_was() -> None:
    model, image = made(SEGMENT), torch.rand(1, 3, 64, 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = [out.clone() for out in model(image)[:2]]
    to_onnx(model, imgsz=96)
    head = model.model[-1]
    assert "forward" not in vars(head) and head.detect is yolo.Detect.forward
    assert not (head.export or head.dynamic) and head.grid[0].shape[2:4] == (8, 8)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(model(image)[:2], expected, strict=True))


@torch.no_grad()
def test_a_detect_of_another_forward_decodes_as_it_wants_to() -> None:
    class Doubled(yolo.Detect):
        def forward(self, x: list[torch.Tensor]) -> Any:
            return (2 * super().forward(x)[0],)

    model = made()
    model.model[-1].__class__ = Doubled
    copy = exportable(model)
    decode_by_planes_(copy)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(copy(image)[0], exportable(model)(image)[0])
