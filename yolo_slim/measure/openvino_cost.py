"""What an OpenVINO folder costs: parameters and MACs, counted from its graph as `onnx_cost` does.

In OpenVINO a bias is an Add behind its conv, and weights in 8 or 16 bits are turned into floats by
a Convert, a Subtract and a Multiply with constants, all before they reach the conv.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.measure.counted import Counted
from yolo_slim.runtimes.openvino import library

CONVS = {"Convolution": 1, "GroupConvolution": 2}  # axes of the weight before those of one output
TRANSPOSED = {"ConvolutionBackpropData": 1, "GroupConvolutionBackpropData": 2}
WEIGHTED = {*CONVS, *TRANSPOSED, "MatMul"}
PASSED = {"Convert", "Subtract", "Multiply", "FakeQuantize", "Reshape", "Transpose"}


def openvino_cost(path: Path, shape: tuple[int, int, int, int]) -> Counted:
    """Count a folder for OpenVINO.

    Args:
        path: the .xml.
        shape: (batch, channels, height, width) of the images.

    Raises:
        InputError: it does not take such images.
    """
    model = library().Core().read_model(path)
    try:
        model.reshape(list(shape))
        nodes = [node for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED]
        macs = sum(node_macs(node) for node in nodes)
    except RuntimeError as error:  # a fixed shape of another size, or one that values decide
        why = " ".join(str(error).split())[-160:]
        expected = f"a network for images of {list(shape)}"
        raise InputError(path, f"its shapes cannot be told ({why})", expected) from error
    weights: dict[str, Any] = {}
    for node in nodes:
        for source in [*node.input_values()[:2], *biases(node)]:
            if constant := stored(source):
                weights[constant.get_friendly_name()] = constant
    sizes = {name: prod(node.get_output_shape(0)) for name, node in weights.items()}
    eight = {n for n, node in weights.items() if node.get_output_element_type(0).size == 1}
    total = sum(sizes.values())
    return Counted(total, macs // shape[0], 2 * sum(sizes[name] for name in eight) > total)


def node_macs(node: Any) -> int:
    """MACs of one operator, for the whole batch."""
    kind, out = node.get_type_name(), node.get_output_shape(0)
    first, second = node.get_input_shape(0), node.get_input_shape(1)
    if kind in CONVS:  # weight ([groups,] c_out, c_in, k_h, k_w)
        return prod(out) * prod(second[CONVS[kind] :])
    if kind in TRANSPOSED:  # weight ([groups,] c_in, c_out, k_h, k_w)
        return prod(first) * prod(second[TRANSPOSED[kind] :])
    transposed = node.get_attributes()["transpose_a"]
    return prod(out) * first[-2 if transposed else -1]


def biases(node: Any) -> list[Any]:
    """The other inputs of each Add that takes what an operator returns, also times a constant."""
    others = []
    for reader in node.output(0).get_target_inputs():
        behind = reader.get_node()
        beside = behind.input_values()[1 - reader.get_index() :][:1]
        if behind.get_type_name() == "Add":
            others += beside
        elif behind.get_type_name() == "Multiply" and stored(beside[0]):
            others += biases(behind)
    return others


def stored(source: Any) -> Any:
    """The constant that an input is, but for its type and its scale; None where it is none."""
    node = source.get_node()
    while node.get_type_name() in PASSED:
        inputs = [value.get_node() for value in node.input_values()]
        node = max(inputs, key=lambda each: prod(each.get_output_shape(0)))  # not a scale
    return node if node.get_type_name() == "Constant" else None
