"""Ranges by hand-set samples, and samples of a graph against numpy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from torch import nn

from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.int8.qdq import tensors_of
from yolo_slim.deploy.int8.ranges import METHODS, STEPS, least_error
from yolo_slim.deploy.int8.samples import Sample, sampled
from yolo_slim.deploy.int8.scope import scope_of
from yolo_slim.runtimes.onnx import session


def sample(values: np.ndarray) -> Sample:
    low, high = values.min(), values.max()
    return Sample(np.array([low, low + 1]), np.array([high, high - 2]), values, np.zeros(1))


def test_by_hand() -> None:
    values = np.linspace(-1, 9, 10_001)
    ranges = {name: method(sample(values), False) for name, method in METHODS.items()}
    assert ranges["minmax"] == (-1, 9)
    assert ranges["mean"] == (-0.5, 8)
    assert ranges["percentile"] == pytest.approx((-0.999, 8.999))
    assert ranges["error"] == pytest.approx((-1, 9), abs=0.3)


def test_before_a_silu_large_negative_values_get_no_steps() -> None:
    values = np.random.default_rng(0).normal(-8, 4, size=20_000)
    plain, silu = least_error(sample(values), False), least_error(sample(values), True)
    assert plain[0] < -17 and -10 < silu[0] < -3
    assert 4 < silu[1] <= values.max()


def test_range_of_a_tensor_that_is_always_zero() -> None:
    for name, method in METHODS.items():
        low, high = method(sample(np.zeros(100)), True)
        if name != "mean":
            assert (low, high) == (0, 0)
    assert STEPS == 255


def test_samples_are_those_of_the_graph(tiny_model: nn.Module) -> None:
    content = to_onnx(tiny_model, imgsz=64)
    model = onnx.load_from_string(content)
    tensors = tensors_of(model.graph, scope_of(model))
    images = [np.random.default_rng(i).random((1, 3, 64, 64), np.float32) for i in range(3)]
    samples = sampled(content, tensors, images, 1)
    name = "/model.2/Concat_output_0"
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    runtime = session(model.SerializeToString(), 1)
    maps = [runtime.run([name], {"images": batch})[0] for batch in images]
    assert samples.keys() == set(tensors) and samples["images"].values.max() <= 1
    assert samples[name].low == pytest.approx([m.min() for m in maps], rel=1e-4)
    assert samples[name].high == pytest.approx([m.max() for m in maps], rel=1e-4)
    assert samples[name].means == pytest.approx(np.concatenate(maps).mean((0, 2, 3)), abs=1e-4)
    assert samples[name].values.size == 3 * maps[0][:, :, ::4, ::4].size
