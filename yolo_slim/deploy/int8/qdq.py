"""An ONNX file in 8 bits, by ONNX Runtime's own quantiser: QuantizeLinear, DequantizeLinear.

Weights are int8 by output channel and symmetric, so that zeros stay zeros; activations are uint8.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from yolo_slim.deploy.int8.ranges import Range
from yolo_slim.deploy.int8.scope import OPERATORS, Scope
from yolo_slim.deploy.int8.thrift import shrink_


def in_8_bits(
    content: bytes,
    scope: Scope,
    ranges: Mapping[str, Range],
    *,
    means: Mapping[str, np.ndarray] | None = None,
    float_layers: Collection[str] = (),
    narrow: bool = False,
) -> bytes:
    """Quantise an ONNX file.

    Args:
        content: of the float file.
        scope: of its graph.
        ranges: of each tensor that `tensors_of` names.
        means: of each channel of the inputs of convs: biases make up for what the rounding of
            weights changes on average; None: they do not.
        float_layers: names of layers of the scope that stay float.
        narrow: weights in 7 bits: a CPU without VNNI adds two products in 16 bits, which may
            overflow.

    Returns:
        The content of a file with the same inputs, outputs and metadata.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.load_from_string(content)
    apart = scope.apart(float_layers)
    if means is not None:
        correct_biases_(model.graph, means, apart, 64 if narrow else 127)
    bounds = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    with _quiet():
        quantiser = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel=True,
            reduce_range=narrow,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, bounds),
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(apart),
            op_types_to_quantize=OPERATORS,
            extra_options={},
        )
        quantiser.quantize_model()
    quantiser.model.topological_sort()
    made = quantiser.model.model
    shrink_(made)
    del made.metadata_props[:]  # the quantiser adds a note of its own
    made.metadata_props.extend(onnx.load_from_string(content).metadata_props)
    onnx.checker.check_model(made)
    written: bytes = made.SerializeToString()
    return written


def correct_biases_(
    graph: Any, means: Mapping[str, np.ndarray], apart: Collection[str], top: int
) -> None:
    """Add to biases, in place, what the rounding of weights takes from a conv's mean output.

    Args:
        graph: of the float file.
        means: of each channel of the inputs of convs.
        apart: names of nodes that stay float.
        top: the largest step of a weight.
    """
    from onnx import numpy_helper

    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        constant = len(node.input) == 3 and tensors.keys() >= set(node.input[1:])
        if node.op_type != "Conv" or node.name in apart or not constant:
            continue
        weight, bias = (tensors[name] for name in node.input[1:])
        scale = np.abs(weight).max((1, 2, 3), keepdims=True) / top
        lost = weight - np.round(weight / np.where(scale, scale, 1)) * scale
        groups = len(means[node.input[0]]) // weight.shape[1]
        inputs = np.repeat(means[node.input[0]].reshape(groups, -1), len(weight) // groups, 0)
        corrected = (bias + (lost.sum((2, 3)) * inputs).sum(1)).astype(np.float32)
        node.input[2] = f"{node.name} corrected"  # convs may share a bias
        graph.initializer.append(numpy_helper.from_array(corrected, node.input[2]))


def tensors_of(graph: Any, scope: Scope) -> list[str]:
    """Names of the tensors that are in 8 bits when all layers are."""
    apart = set(scope.apart())
    constants = {tensor.name for tensor in graph.initializer}
    names: dict[str, None] = {}
    for node in graph.node:
        if node.op_type in OPERATORS and node.name not in apart:
            inputs = node.input[:1] if node.op_type in ("Conv", "Resize") else node.input
            names.update(dict.fromkeys(n for n in (*inputs, *node.output) if n not in constants))
    return list(names)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser warns of what it leaves out through the root logger."""
    root = logging.getLogger()
    before = root.level
    try:
        root.setLevel(logging.ERROR)
        yield
    finally:
        root.setLevel(before)
