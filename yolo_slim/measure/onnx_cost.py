"""What an ONNX file costs: parameters and MACs, counted from its graph.

The conventions are those of `cost`, with the shapes that ONNX's own inference finds. Parameters are
the stored weights and biases of convs, linear layers, matrix products and BatchNorms, not the grids
and other constants, nor the scales and zero points of weights in 8 bits. An export has its
BatchNorms folded into the convs, each then has one bias a channel in place of gamma and beta: the
file has fewer parameters than the model that it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from yolo_slim.errors import InputError
from yolo_slim.measure.counted import Counted

WEIGHTED = {  # operator to the places of its inputs: what it multiplies, its bias
    "Conv": (0, 1, 2),
    "ConvTranspose": (0, 1, 2),
    "MatMul": (0, 1),
    "Gemm": (0, 1, 2),
    "QLinearConv": (0, 3, 8),
    "QLinearMatMul": (0, 3),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
}
PASSED = {"Cast", "QuantizeLinear", "DequantizeLinear", "Identity"}  # the same values, other types
EIGHT_BITS = {TensorProto.INT8, TensorProto.UINT8}
SIZES = ("batch", "channels", "height", "width")
Shapes = dict[str, tuple[int, ...]]


def onnx_cost(path: Path, shape: tuple[int, int, int, int]) -> Counted:
    """Count an ONNX file.

    Args:
        path: the file.
        shape: (batch, channels, height, width) of the images.

    Raises:
        InputError: it is damaged, does not take such images, or the shapes in it cannot be told.
    """
    model = read(path)
    for axis, size, want in zip(SIZES, image_shape(model, path), shape, strict=True):
        if size not in (None, want):
            raise InputError(path, f"{axis} {size}", f"{want}")
    shapes, macs = inferred_shapes(model, shape), 0
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            try:
                macs += node_macs(node, shapes)
            except KeyError as error:
                got = f"the shape of {error.args[0]} cannot be told"
                raise InputError(path, got, "shapes that follow from the input's") from error
    sizes, types = parameters(model.graph), stored_types(model.graph)
    eight = sum(size for name, size in sizes.items() if types[name] in EIGHT_BITS)
    total = sum(sizes.values())
    return Counted(total, macs // shape[0], 2 * eight > total)


def read(path: Path) -> Any:
    """An ONNX file, with the files that hold its weights, if any.

    Raises:
        InputError: it is damaged.
    """
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf and onnx raise several types
        first = str(error).strip().partition("\n")[0]
        got = f"not an ONNX file, or damaged ({first[:100]})"
        raise InputError(path, got, "an ONNX file") from error


def image_shape(model: Any, path: Path) -> list[int | None]:
    """(batch, channels, height, width) of the images; None where an axis is open.

    Raises:
        InputError: it has several inputs, or one that is no image.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    shapes = [[d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4:
        got = ", ".join(
            f"{value.name} {[d or '?' for d in shape]}"
            for value, shape in zip(inputs, shapes, strict=True)
        )
        want = "one input of images, (batch, channels, height, width)"
        raise InputError(path, f"inputs {got or 'none'}", want)
    return shapes[0]


def node_macs(node: Any, shapes: Shapes) -> int:
    """MACs of one operator, for the whole batch.

    Raises:
        KeyError: a shape is missing.
    """
    first, second = (shapes[node.input[place]] for place in WEIGHTED[node.op_type][:2])
    out = shapes[node.output[0]]
    if node.op_type == "ConvTranspose":  # weight (c_in, c_out / groups, k_h, k_w)
        return prod(first) * prod(second[1:])
    if "Conv" in node.op_type:  # weight (c_out, c_in / groups, k_h, k_w)
        return prod(out) * prod(second[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(out) * first[0 if transposed else -1]


def inferred_shapes(model: Any, shape: tuple[int, int, int, int]) -> Shapes:
    """Name of a tensor to its shape, for all that can be told; the model is spoilt."""
    stored = {t.name: tuple(t.dims) for t in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in stored)
    for axis, size in zip(image.type.tensor_type.shape.dim, shape, strict=True):
        axis.dim_value = size
    for value in model.graph.output:  # of another batch or image size
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = dict(stored)
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes


def stored_tensors(graph: Any) -> dict[str, Any]:
    """Name to tensor, of each that is stored in the file."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    constants = [node for node in graph.node if node.op_type == "Constant"]
    return stored | {n.output[0]: a.t for n in constants for a in n.attribute if a.HasField("t")}


def stored_types(graph: Any) -> dict[str, int]:
    """Name to type (of TensorProto), of each stored tensor."""
    return {name: tensor.data_type for name, tensor in stored_tensors(graph).items()}


def parameters(graph: Any) -> dict[str, int]:
    """Name to number of elements, of each stored tensor that is a parameter."""
    passed = {n.output[0]: n.input[0] for n in graph.node if n.op_type in PASSED}
    products = {node.output[0] for node in graph.node if "MatMul" in node.op_type}
    used: set[str] = set()
    for node in graph.node:
        inputs = [origin(name, passed) for name in node.input]
        if node.op_type in WEIGHTED:
            used.update(inputs[i] for i in WEIGHTED[node.op_type] if i < len(inputs))
        elif node.op_type == "BatchNormalization":
            used.update(inputs[1:3])  # gamma and beta; mean and variance are no parameters
        elif node.op_type == "Add" and products & set(inputs):
            used.update(inputs)  # the bias of a linear layer on three axes
    stored = stored_tensors(graph)
    return {name: prod(tensor.dims) for name, tensor in stored.items() if name in used}


def origin(name: str, passed: Mapping[str, str]) -> str:
    """The tensor that another one is, but for its type."""
    while name in passed:
        name = passed[name]
    return name
