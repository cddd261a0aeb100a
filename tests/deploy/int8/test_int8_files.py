"""Files in 8 bits: what stays as it was, what is in 8 bits, how far they move, who opens them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from yolo_slim import load
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.int8.methods import OnnxMaker, onnx_maker
from yolo_slim.deploy.int8.movement import movement
from yolo_slim.deploy.int8.qdq import correct_biases_
from yolo_slim.host.image import read_images
from yolo_slim.runtimes.onnx import session


def noise(count: int, side: int = 64, batch: int = 1) -> list[np.ndarray]:
    return [
        np.random.default_rng(i).random((batch, 3, side, side), np.float32) for i in range(count)
    ]


def maker(model: nn.Module, **options: Any) -> OnnxMaker:
    batch = options.get("batch", 1)
    content = to_onnx(model, imgsz=64, **options)
    return onnx_maker(content, noise(4, batch=batch), narrow=False, threads=1)


def run(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    return session(content, 1).run(None, {"images": images})


def weights(content: bytes) -> list[np.ndarray]:
    tensors = onnx.load_from_string(content).graph.initializer
    return [a for a in map(numpy_helper.to_array, tensors) if a.dtype == np.int8 and a.ndim == 4]


@pytest.fixture(scope="module")
def real(shared: Path) -> nn.Module:
    return load(shared / "weights" / "yolov5n.pt").model


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[np.ndarray]:
    files = sorted((shared / "coco128" / "images").rglob("*.jpg"))[:20]
    return [read_images([file], 160) for file in files]


def test_a_real_model_moves_little(real: nn.Module, photos: list[np.ndarray]) -> None:
    """Ends, names and metadata stay; the file is a third of the size or less."""
    content = to_onnx(real, imgsz=160)
    made = onnx_maker(content, photos[:14], narrow=False, threads=1)
    small = made.make("mean")
    before, after = onnx.load_from_string(content), onnx.load_from_string(small)
    assert [v.name for v in (*after.graph.input, *after.graph.output)] == ["images", "output0"]
    assert after.metadata_props == before.metadata_props
    assert len(small) < len(content) / 3
    expected = [run(content, image) for image in photos[14:]]
    moved = movement(expected, [run(small, image) for image in photos[14:]], 80)
    assert 0.01 < moved.scores < 0.35 and 0.01 < moved.boxes < 0.15
    assert moved.cost == moved.scores + moved.boxes
    all_float = made.make("mean", list(made.scope.layers))
    assert movement(expected, [run(all_float, i) for i in photos[14:]], 80).cost < 1e-4


@pytest.mark.parametrize(
    "options",
    [{}, {"opset": 13}, {"opset": 19}, {"batch": 2}, {"dynamic": True}, {"simplify": False}],
)
def test_each_kind_of_graph(tiny_model: nn.Module, options: dict[str, Any]) -> None:
    made = maker(tiny_model, **options)
    images = noise(1, batch=options.get("batch", 1))[0]
    small = made.make("mean")
    assert run(small, images)[0].shape == run(made.content, images)[0].shape
    assert len(weights(small)) == len(made.scope.layers)
    assert small == made.make("mean")  # to the bit, each time


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish])
def test_other_activations(tiny_model: nn.Module, act: type[nn.Module]) -> None:
    for module in tiny_model.modules():
        if hasattr(module, "act"):
            module.act = act()
    made = maker(tiny_model)
    images = noise(1)[0]
    expected, actual = (run(content, images) for content in (made.content, made.make("mean")))
    assert len(weights(made.make("mean"))) == len(made.scope.layers)
    assert movement([expected], [actual], 4).cost < 0.5


def test_masks_are_float_up_to_the_last_convs(tiny_seg: nn.Module) -> None:
    made = maker(tiny_seg)
    small = made.make("error")
    expected, actual = run(made.content, noise(1)[0]), run(small, noise(1)[0])
    assert [out.shape for out in actual] == [out.shape for out in expected]
    kinds = {node.name: node for node in onnx.load_from_string(small).graph.node}
    producers = {out: n.op_type for n in kinds.values() for out in n.output}
    proto = kinds["/model.12/proto/cv3/conv/Conv"]
    assert proto.input[1] not in producers  # its weights are in the file as they are


def test_zero_weights_stay_zero(tiny_model: nn.Module) -> None:
    random = torch.Generator().manual_seed(0)
    for module in tiny_model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= torch.rand(module.weight.shape, generator=random) > 0.7
    made = maker(tiny_model)
    floats = [
        numpy_helper.to_array(t) for t in onnx.load_from_string(made.content).graph.initializer
    ]
    zeros = sorted(
        (a.shape, int((a == 0).sum())) for a in floats if a.ndim == 4 and a.shape[2] == 3
    )
    small = [a for a in weights(made.make("mean")) if a.shape[2] == 3]
    assert [s for s, _ in zeros] == sorted(a.shape for a in small)
    for shape, count in zeros:
        assert any(a.shape == shape and (a == 0).sum() >= count for a in small)


def test_a_dead_channel(tiny_model: nn.Module) -> None:
    """Weights that are all zero have no range."""
    tiny_model.model[1].conv.weight.data[3] = 0
    small = maker(tiny_model).make("mean")
    assert np.isfinite(run(small, noise(1)[0])[0]).all()


def test_layers_in_float(tiny_model: nn.Module) -> None:
    made = maker(tiny_model)
    names = list(made.scope.layers)[:2]
    small, mixed = made.make("mean"), made.make("mean", names)
    assert len(weights(small)) - len(weights(mixed)) == 2
    count = Counter(n.op_type for n in onnx.load_from_string(mixed).graph.node)
    assert count["Conv"] == len(made.scope.layers) + 3


def test_no_bytes_are_wasted(tiny_model: nn.Module) -> None:
    """No constant twice or unused, no names of conversions, no notes on shapes."""
    graph = onnx.load_from_string(maker(tiny_model).make("mean")).graph
    contents = []
    for tensor in graph.initializer:
        tensor.name = ""
        contents.append(tensor.SerializeToString())
    assert len(set(contents)) == len(contents) and not graph.value_info
    assert not any(n.name for n in graph.node if "Linear" in n.op_type)
    assert all(n.name for n in graph.node if "Linear" not in n.op_type)


def test_seven_bits(tiny_model: nn.Module) -> None:
    made = onnx_maker(to_onnx(tiny_model, imgsz=64), noise(4), narrow=True, threads=1)
    assert max(np.abs(w.astype(int)).max() for w in weights(made.make("mean"))) <= 64


def test_the_loader_of_the_host_opens_it(tiny_model: nn.Module, tmp_path: Path) -> None:
    from yolo_slim.host.classes import common

    made = maker(tiny_model)
    file = tmp_path / "best-int8.onnx"
    file.write_bytes(made.make("mean"))
    opened = common.DetectMultiBackend(str(file))
    assert opened.names == tiny_model.names and opened.stride == 32
    images = noise(1)[0]
    out = opened(torch.from_numpy(images))
    out = out[0] if isinstance(out, list | tuple) else out
    np.testing.assert_allclose(out.numpy(), run(file.read_bytes(), images)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("top", [64, 127])
def test_biases_make_up_for_rounded_weights(top: int) -> None:
    """Two convs that share a bias: each has its mean output again, with weights in steps."""
    random = np.random.default_rng(0)
    weights = {"v": random.normal(size=(3, 4, 1, 1)), "w": random.normal(size=(3, 4, 1, 1))}
    bias, means = random.normal(size=3), random.normal(2, 1, size=4)
    nodes = [
        onnx.helper.make_node("Conv", ["x", name, "b"], [f"y{name}"], name=name) for name in weights
    ]
    tensors = [
        numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in {**weights, "b": bias}.items()
    ]
    graph = onnx.helper.make_graph(nodes, "two convs", [], [], tensors)
    correct_biases_(graph, {"x": means}, [], top)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        weight = weights[node.name][..., 0, 0]
        scale = np.abs(weight).max(1, keepdims=True) / top
        steps = np.round(weight / scale) * scale
        expected = weight @ means + bias
        assert steps @ means + arrays[node.input[2]] == pytest.approx(expected, abs=1e-5)
        assert steps @ means + bias != pytest.approx(expected, abs=1e-3)
