"""What an ONNX file costs: parameters and MACs, counted from its graph.

The conventions are those of `cost`, with the shapes that ONNX's own inference finds. Parameters are
the stored weights and biases of convs, linear layers, matrix products and BatchNorms, not the grids
and other constants. An export has its BatchNorms folded into the convs, each then has one bias a
channel in place of gamma and beta: the file has fewer parameters than the model that it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from yolo_slim.errors import InputError
from yolo_slim.measure.cost import Cost

CONVS = {"Conv", "ConvTranspose"}
PRODUCTS = {"MatMul", "Gemm"}
SIZES = ("batch", "channels", "height", "width")
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX model that takes images.

    Attributes:
        path: the file.
        model: what it holds (onnx.ModelProto).
        shape: (batch, channels, height, width) of its input; None where an axis is dynamic.
        dtype: of its input.
    """

    path: Path
    model: Any
    shape: tuple[int | None, ...]
    dtype: np.dtype

    @property
    def content(self) -> bytes:
        """The model with all its weights."""
        return self.model.SerializeToString()

    def images(self, batch: int, side: int) -> tuple[int, int, int, int]:
        """Shape of square images for it; three channels where the file does not say."""
        return batch, self.shape[1] or 3, side, side


def read_onnx(path: str | Path) -> OnnxFile:
    """Open an ONNX file, with the files that hold its weights, if any.

    Raises:
        InputError: no such file, damaged, or not a model with one input of images.
    """
    path, expected = Path(path), "an ONNX file"
    if not path.is_file():
        raise InputError(path, "a folder" if path.is_dir() else "no such file", expected)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf and onnx raise several types
        first = str(error).strip().partition("\n")[0]
        raise InputError(path, f"not an ONNX file, or damaged ({first[:100]})", expected) from error
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    kinds = [value.type.tensor_type for value in inputs]
    shapes = [[d.dim_value or None for d in kind.shape.dim] for kind in kinds]
    dtypes = [onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) for kind in kinds]
    if len(inputs) != 1 or len(shapes[0]) != 4 or dtypes[0] not in (np.float32, np.float16):
        got = ", ".join(
            f"{value.name} {[d or '?' for d in shape]} {dtype}"
            for value, shape, dtype in zip(inputs, shapes, dtypes, strict=True)
        )
        want = "one input of images, (batch, channels, height, width) float"
        raise InputError(path, f"inputs {got or 'none'}", want)
    return OnnxFile(path, model, tuple(shapes[0]), dtypes[0])


def onnx_cost(file: OnnxFile, shape: tuple[int, int, int, int]) -> Cost:
    """Count an ONNX file.

    Args:
        file: as `read_onnx` opened it; left untouched.
        shape: (batch, channels, side, side) of the images.

    Raises:
        InputError: the file does not take such images, or the shapes in it cannot be told.
    """
    for axis, size, want in zip(SIZES, file.shape, shape, strict=True):
        if size not in (None, want):
            raise InputError(file.path, f"{axis} {size}", f"{want}")
    shapes, macs = inferred_shapes(file, shape), 0
    for node in file.model.graph.node:
        if node.op_type in CONVS | PRODUCTS:
            try:
                macs += node_macs(node, shapes)
            except KeyError as error:
                got = f"the shape of {error.args[0]} cannot be told"
                raise InputError(file.path, got, "shapes that follow from the input's") from error
    params = sum(parameters(file.model.graph).values())
    return Cost(params, macs // shape[0], shape[2], file.path.stat().st_size)


def node_macs(node: Any, shapes: Shapes) -> int:
    """MACs of one operator, for the whole batch.

    Raises:
        KeyError: a shape is missing.
    """
    first, second, out = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "Conv":  # weight (c_out, c_in / groups, k_h, k_w)
        return prod(out) * prod(second[1:])
    if node.op_type == "ConvTranspose":  # weight (c_in, c_out / groups, k_h, k_w)
        return prod(first) * prod(second[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(out) * first[0 if transposed else -1]


def inferred_shapes(file: OnnxFile, shape: tuple[int, int, int, int]) -> Shapes:
    """Name of a tensor to its shape, for all that can be told."""
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
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


def parameters(graph: Any) -> dict[str, int]:
    """Name to number of elements, of each stored tensor that is a parameter."""
    constants = [node for node in graph.node if node.op_type == "Constant"]
    stored = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    stored |= {
        node.output[0]: prod(a.t.dims)
        for node in constants
        for a in node.attribute
        if a.HasField("t")
    }
    products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
    used: set[str] = set()
    for node in graph.node:
        if node.op_type in CONVS | PRODUCTS:
            used.update(node.input)
        elif node.op_type == "BatchNormalization":
            used.update(node.input[1:3])  # gamma and beta; mean and variance are no parameters
        elif node.op_type == "Add" and products & set(node.input):
            used.update(node.input)  # the bias of a linear layer on three axes
    return {name: size for name, size in stored.items() if name in used}
