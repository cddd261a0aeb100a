"""What each operator of an ONNX graph is in LiteRT.

LiteRT has channels last, ONNX has them first. A feature map is kept channels last from the image to
the heads: `Value.last` says so, and an axis is counted accordingly. What counts in all axes
(reshapes, products of matrices) gets the tensor back in ONNX's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from yolo_slim.deploy.litert_graph import LiteRTGraph

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # from channels first to last, and back
PLACE = (0, 3, 1, 2)  # where an axis of ONNX is with channels last
UNARY = {
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
    "Relu": "RELU",
    "HardSwish": "HARD_SWISH",
    "Elu": "ELU",
    "Exp": "EXP",
    "Sqrt": "SQRT",
    "Abs": "ABS",
    "Neg": "NEG",
}
BINARY = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Pow": "POW"}


class NotInLiteRT(Exception):
    """An operator, or a way to use it, that has no counterpart here."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        tensor: its number in LiteRT.
        last: it is a feature map with its channels last.
    """

    tensor: int
    last: bool = False


@dataclass
class Node:
    """An operator that is converted.

    Attributes:
        kind: of ONNX.
        inputs: a value, a constant, or None for one that is left out.
        attributes: of ONNX.
        shapes: of its outputs, in ONNX's order.
        graph: what it is added to.
    """

    kind: str
    inputs: list[Value | np.ndarray | None]
    attributes: dict[str, Any]
    shapes: list[tuple[int, ...]]
    graph: LiteRTGraph

    def constant(self, place: int) -> np.ndarray | None:
        """An input that has to be a constant; None if it is left out."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(value, Value):
            raise NotInLiteRT(f"with an input {place} that is computed")
        return value

    def last(self, place: int = 0) -> int:
        """An input as a feature map, channels last."""
        value = self.inputs[place]
        if isinstance(value, Value) and value.last:
            return value.tensor
        if isinstance(value, Value):
            if len(self.graph.shape(value.tensor)) != 4:
                raise NotInLiteRT("on what is no feature map")
            return transposed(self.graph, value.tensor, LAST)
        assert value is not None
        lifted = value.reshape((1,) * (4 - value.ndim) + value.shape)
        return self.graph.constant(lifted.transpose(LAST))

    def plain(self, place: int = 0) -> int:
        """An input in ONNX's order."""
        value = self.inputs[place]
        assert value is not None
        return plain(value, self.graph)

    @property
    def maps(self) -> bool:
        """True if one of its inputs is a feature map with its channels last."""
        return any(isinstance(value, Value) and value.last for value in self.inputs)

    def operands(self) -> list[int]:
        """All inputs: channels last if one is so, else in ONNX's order."""
        take = self.last if self.maps else self.plain
        return [take(place) for place in range(len(self.inputs))]

    def axis(self, axis: int) -> int:
        """Where an axis of ONNX is."""
        axis %= len(self.shapes[0])
        return PLACE[axis] if self.maps else axis

    def ordered(self, values: list[Any]) -> list[Any]:
        """What stands for each axis of ONNX, in the order of the axes."""
        return [values[axis] for axis in LAST] if self.maps else values

    def constants(self, values: Sequence[int]) -> int:
        """Integers as a tensor."""
        return self.graph.constant(list(values), np.int32)

    def shape_last(self) -> tuple[int, ...]:
        """The shape of its first output, channels last."""
        return tuple(self.shapes[0][axis] for axis in LAST)

    def in_onnx_order(self, value: Value) -> list[int]:
        """The sizes of a tensor, in ONNX's order."""
        shape = self.graph.shape(value.tensor)
        return [shape[axis] for axis in FIRST] if value.last else list(shape)

    def out(self, operator: str, inputs: list[int], options: Any = None) -> list[Value]:
        """Add an operator with the outputs of this node."""
        shapes = [tuple(shape[a] for a in LAST) if self.maps else shape for shape in self.shapes]
        tensors = self.graph.add_many(operator, inputs, shapes, options)
        return [Value(tensor, self.maps) for tensor in tensors]


def plain(value: Value | np.ndarray, graph: LiteRTGraph) -> int:
    """A tensor in ONNX's order."""
    if isinstance(value, Value):
        return transposed(graph, value.tensor, FIRST) if value.last else value.tensor
    return graph.constant(value)


def transposed(graph: LiteRTGraph, tensor: int, order: tuple[int, ...]) -> int:
    """A tensor with its axes in another order."""
    shape = graph.shape(tensor)
    axes = graph.constant(order, np.int32)
    new = tuple(shape[axis] for axis in order)
    return graph.add("TRANSPOSE", [tensor, axes], new, schema.TransposeOptionsT())


def padded(graph: LiteRTGraph, tensor: int, pads: np.ndarray, value: float) -> int:
    """A tensor with more at its borders; pads (axes, 2)."""
    if not pads.any():
        return tensor
    sizes = zip(graph.shape(tensor), pads.tolist(), strict=True)
    shape = tuple(size + before + after for size, (before, after) in sizes)
    inputs = [tensor, graph.constant(pads, np.int32), graph.constant(np.float32(value))]
    return graph.add("PADV2", inputs, shape, schema.PadV2OptionsT())


def unary(node: Node) -> list[Value]:
    """A function of each number."""
    return node.out(UNARY[node.kind], node.operands())


def binary(node: Node) -> list[Value]:
    """Arithmetic of two tensors."""
    name = BINARY[node.kind]
    return node.out(name, node.operands(), getattr(schema, f"{name.capitalize()}OptionsT")())


def leaky_relu(node: Node) -> list[Value]:
    """A slope below zero."""
    options = schema.LeakyReluOptionsT()
    options.alpha = node.attributes.get("alpha", 0.01)
    return node.out("LEAKY_RELU", node.operands(), options)


def clip(node: Node) -> list[Value]:
    """Numbers between 0 and 6, as ReLU6 has them."""
    low, high = node.constant(1), node.constant(2)
    if low is None or high is None or (float(low), float(high)) != (0.0, 6.0):
        raise NotInLiteRT("with other bounds than 0 and 6")
    node.inputs = node.inputs[:1]
    return node.out("RELU6", node.operands())


def softmax(node: Node) -> list[Value]:
    """Shares of the last axis."""
    if node.axis(node.attributes.get("axis", -1)) != len(node.shapes[0]) - 1:
        raise NotInLiteRT("along another axis than the last")
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return node.out("SOFTMAX", node.operands(), options)


def concat(node: Node) -> list[Value]:
    """Tensors one after the other."""
    options = schema.ConcatenationOptionsT()
    options.axis = node.axis(node.attributes["axis"])
    return node.out("CONCATENATION", node.operands(), options)


def split(node: Node) -> list[Value]:
    """A tensor in parts."""
    sizes = [shape[node.attributes.get("axis", 0)] for shape in node.shapes]
    axis = node.axis(node.attributes.get("axis", 0))
    node.inputs = node.inputs[:1]
    inputs = [*node.operands(), node.constants(sizes), node.graph.constant(axis, np.int32)]
    options = schema.SplitVOptionsT()
    options.numSplits = len(sizes)
    return node.out("SPLIT_V", inputs, options)


def strided_slice(node: Node) -> list[Value]:
    """A part of a tensor, with steps."""
    rank = len(node.shapes[0])
    starts, ends = node.constant(1), node.constant(2)
    assert starts is not None and ends is not None
    axes, steps = node.constant(3), node.constant(4)
    begin, stride = [0] * rank, [1] * rank
    for index, start in enumerate(starts.tolist()):
        axis = (index if axes is None else int(axes[index])) % rank
        begin[axis] = start
        stride[axis] = 1 if steps is None else int(steps[index])
    if min(stride) < 1:
        raise NotInLiteRT("backwards")
    value = node.inputs[0]
    assert isinstance(value, Value)
    node.inputs = [value]
    sizes = node.in_onnx_order(value)
    begin = [start + size if start < 0 else start for start, size in zip(begin, sizes, strict=True)]
    ranges = zip(begin, node.shapes[0], stride, strict=True)
    end = [start + (size - 1) * step + 1 for start, size, step in ranges]
    inputs = [*node.operands(), *(node.constants(node.ordered(v)) for v in (begin, end, stride))]
    return node.out("STRIDED_SLICE", inputs, schema.StridedSliceOptionsT())


def pad(node: Node) -> list[Value]:
    """A tensor with a constant around it."""
    if node.attributes.get("mode", b"constant") != b"constant":
        raise NotInLiteRT("with other than a constant")
    pads, value = node.constant(1), node.constant(2)
    assert pads is not None
    node.inputs = node.inputs[:1]
    sides = np.array(node.ordered(pads.reshape(2, -1).T.tolist()))
    (tensor,) = node.operands()
    return [Value(padded(node.graph, tensor, sides, float(value or 0)), node.maps)]


def reshape(node: Node) -> list[Value]:
    """The same numbers in another shape."""
    shape = node.shapes[0]
    inputs = [node.plain(), node.constants(shape)]
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    return [Value(node.graph.add("RESHAPE", inputs, shape, options))]


def transpose(node: Node) -> list[Value]:
    """Axes in another order."""
    order = node.attributes.get("perm") or tuple(reversed(range(len(node.shapes[0]))))
    return [Value(transposed(node.graph, node.plain(), tuple(order)))]


def matmul(node: Node) -> list[Value]:
    """A product of matrices."""
    options = schema.BatchMatMulOptionsT()
    inputs = [node.plain(0), node.plain(1)]
    return [Value(node.graph.add("BATCH_MATMUL", inputs, node.shapes[0], options))]


def gemm(node: Node) -> list[Value]:
    """A linear layer."""
    weights, bias = node.constant(1), node.constant(2)
    assert weights is not None
    scales = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if node.attributes.get("transA") or scales != (1.0, 1.0):
        raise NotInLiteRT("with a transposed or scaled input")
    weights = weights if node.attributes.get("transB") else weights.T
    inputs = [node.plain(), node.graph.constant(weights)]
    if bias is not None:
        inputs.append(node.graph.constant(np.broadcast_to(bias, weights.shape[:1])))
    options = schema.FullyConnectedOptionsT()
    return [Value(node.graph.add("FULLY_CONNECTED", inputs, node.shapes[0], options))]


def mean(node: Node) -> list[Value]:
    """The mean of each feature map, which keeps its axes."""
    axes: Any = node.attributes.get("axes") or (2, 3)
    axes = node.constant(1) if len(node.inputs) > 1 else axes  # an input since opset 18
    if sorted(int(axis) % 4 for axis in axes) != [2, 3] or not node.attributes.get("keepdims", 1):
        raise NotInLiteRT("over other axes than height and width")
    options = schema.ReducerOptionsT()
    options.keepDims = True
    inputs = [node.last(), node.constants([1, 2])]
    return [Value(node.graph.add("MEAN", inputs, node.shape_last(), options), True)]


def batch_norm(node: Node) -> list[Value]:
    """A scale and a shift of each channel."""
    scale, shift, average, variance = (node.constant(place) for place in range(1, 5))
    assert scale is not None and variance is not None
    scale = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    tensor = node.last()
    shape = node.graph.shape(tensor)
    for name, factor in (("MUL", scale), ("ADD", shift - average * scale)):
        options = getattr(schema, f"{name.capitalize()}OptionsT")()
        tensor = node.graph.add(name, [tensor, node.graph.constant(factor)], shape, options)
    return [Value(tensor, True)]


def resize(node: Node) -> list[Value]:
    """Each pixel several times, as YOLOv5's nn.Upsample does it."""
    read = [node.attributes.get(name) for name in RESIZE]
    if read != list(RESIZE.values()):
        raise NotInLiteRT("other than nn.Upsample(mode='nearest')")
    size = node.shapes[0][2:]
    inputs = [node.last(), node.constants(size)]
    options = schema.ResizeNearestNeighborOptionsT()
    return [
        Value(node.graph.add("RESIZE_NEAREST_NEIGHBOR", inputs, node.shape_last(), options), True)
    ]


def window(node: Node, options: Any, kernel: tuple[int, ...], fill: float) -> int:
    """The input of a convolution or a pooling, with its borders; steps and padding are noted."""
    steps = node.attributes.get("strides", (1, 1))
    dilations = node.attributes.get("dilations", (1, 1))
    pads = np.array(node.attributes.get("pads", (0, 0, 0, 0))).reshape(2, 2).T
    if node.attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or node.attributes.get("ceil_mode"):
        raise NotInLiteRT("with padding that is not given in numbers")
    tensor = node.last()
    sides = node.graph.shape(tensor)[1:3]
    reach = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    same = []  # what SAME would put around
    for side, step, size in zip(sides, steps, reach, strict=True):
        total = max((-(-side // step) - 1) * step + size - side, 0)
        same.append([total // 2, total - total // 2])
    options.strideH, options.strideW = steps
    if pads.any() and pads.tolist() == same:
        options.padding = schema.Padding.SAME
        return tensor
    options.padding = schema.Padding.VALID
    return padded(node.graph, tensor, np.vstack([[[0, 0]], pads, [[0, 0]]]), fill)


def conv(node: Node) -> list[Value]:
    """A convolution: dense, in groups or of each channel by itself."""
    weights, bias = node.constant(1), node.constant(2)
    assert weights is not None
    if weights.ndim != 4:
        raise NotInLiteRT("of other than images")
    groups, (filters, depth, *kernel) = node.attributes.get("group", 1), weights.shape
    single = groups > 1 and depth == 1
    options = schema.DepthwiseConv2DOptionsT() if single else schema.Conv2DOptionsT()
    tensor = window(node, options, tuple(kernel), 0.0)
    options.dilationHFactor, options.dilationWFactor = node.attributes.get("dilations", (1, 1))
    if single:
        options.depthMultiplier = filters // groups
    order = (1, 2, 3, 0) if single else LAST
    bias = np.zeros(filters, np.float32) if bias is None else bias
    inputs = [tensor, node.graph.constant(weights.transpose(order)), node.graph.constant(bias)]
    name = "DEPTHWISE_CONV_2D" if single else "CONV_2D"
    return [Value(node.graph.add(name, inputs, node.shape_last(), options), True)]


def conv_transpose(node: Node) -> list[Value]:
    """A convolution that enlarges, with steps as wide as its filters."""
    weights, bias = node.constant(1), node.constant(2)
    assert weights is not None
    steps = node.attributes.get("strides", (1, 1))
    odd = any(node.attributes.get("pads", ())) or any(node.attributes.get("output_padding", ()))
    if tuple(steps) != weights.shape[2:] or odd or node.attributes.get("group", 1) > 1:
        raise NotInLiteRT("whose steps are not as wide as its filters")
    options = schema.TransposeConvOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH, options.strideW = steps
    shape = node.shape_last()
    filters = node.graph.constant(weights.transpose(1, 2, 3, 0))
    inputs = [node.constants(shape), filters, node.last()]
    tensor = node.graph.add("TRANSPOSE_CONV", inputs, shape, options)
    if bias is not None:
        inputs = [tensor, node.graph.constant(bias)]
        tensor = node.graph.add("ADD", inputs, shape, schema.AddOptionsT())
    return [Value(tensor, True)]


def max_pool(node: Node) -> list[Value]:
    """The largest number of each window."""
    kernel, options = node.attributes["kernel_shape"], schema.Pool2DOptionsT()
    if any(step != 1 for step in node.attributes.get("dilations", ())):
        raise NotInLiteRT("with gaps in its window")
    options.filterHeight, options.filterWidth = kernel
    tensor = window(node, options, kernel, LOWEST)
    return [Value(node.graph.add("MAX_POOL_2D", [tensor], node.shape_last(), options), True)]


RESIZE = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric"}
RESIZE["nearest_mode"] = b"floor"
LOWEST = float(np.finfo(np.float32).min)
OPERATORS: dict[str, Callable[[Node], list[Value]]] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), mean),
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "LeakyRelu": leaky_relu,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Pad": pad,
    "Resize": resize,
    "Slice": strided_slice,
    "Softmax": softmax,
    "Split": split,
    "Transpose": transpose,
}
