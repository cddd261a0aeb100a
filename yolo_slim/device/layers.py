"""What a detector is made of once it is exported: convs, maps that are moved, and the decoding.

Read from the ONNX file, since that is what a runtime is given: BatchNorms are gone, activations are
operators of their own, and what YOLOv5 computes around the layers shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from yolo_slim.channels.graph import FREE, ChannelGraph, Ids

MAPS = {"MaxPool", "AveragePool", "Resize", "Concat", "Add", "Sum"}  # cost grows with the channels
ACTIVATIONS = {"Relu", "LeakyRelu", "HardSwish", "Sigmoid", "Elu", "Selu", "Softplus", "Tanh"}


@dataclass(frozen=True)
class Conv:
    """A conv with its activation.

    Attributes:
        name: of the module, such as "model.2.cv1.conv".
        kernel, strides, dilations: (height, width).
        pads: top, left, bottom, right.
        groups: of the conv.
        activation: ONNX operator, "SiLU", or "" for none.
        map: (height, width) of its input, px.
        inputs, outputs: channels.
    """

    name: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    activation: str
    map: tuple[int, ...]
    inputs: int
    outputs: int

    @property
    def key(self) -> str:
        """What convs have in common that differ in their widths alone."""
        height, width = self.map
        text = f"conv {self.kernel[0]}x{self.kernel[1]} s{self.strides[0]} at {height}x{width}"
        text += f" g{self.groups}" if self.groups > 1 else ""
        text += f" d{self.dilations[0]}" if self.dilations[0] > 1 else ""
        text += f" p{self.pads[0]}" if self.pads[0] != self.kernel[0] // 2 else ""
        return f"{text} {self.activation or 'linear'}"


@dataclass(frozen=True)
class Op:
    """An operator, or several, that are no conv.

    Attributes:
        key: such as "Concat at 40x40"; what costs the same at the same width has the same.
        ids: (C,) the channels that it moves; empty where a cut does not change its time.
        inputs, outputs: names of tensors.
        convs: names of the convs that it reads at once.
    """

    key: str
    ids: Ids
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    convs: tuple[str, ...] = ()


class Exported:
    """The layers of an exported detector, in the words of its channel graph.

    Args:
        content: an ONNX file that `to_onnx` made of the model.
        graph: the channel graph of the model.
    """

    def __init__(self, content: bytes, graph: ChannelGraph) -> None:
        self.model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
        self._graph = graph
        body = self.model.graph
        self.constants = {tensor.name: tensor for tensor in body.initializer}
        self.shapes = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in [*body.value_info, *body.input, *body.output]
        }
        self.nodes = [node for node in body.node if node.op_type != "Constant"]
        self._readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    @cached_property
    def convs(self) -> dict[str, Conv]:
        """Module name to Conv, in the order of the file."""
        return {conv.name: conv for conv, _ in self._convs}

    @cached_property
    def ends(self) -> set[str]:
        """The convs whose outputs no BatchNorm scales: of the head."""
        return {
            name
            for name in self.convs
            if name in self._graph.convs and (self._graph.convs[name].outputs == FREE).all()
        }

    @cached_property
    def _convs(self) -> list[tuple[Conv, list[Any]]]:
        """Each conv, and the nodes that belong to it."""
        rows = []
        for node in self.nodes:
            if node.op_type == "Conv":
                attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                shape = self.constants[node.input[1]].dims
                activation, nodes = self._activation(node.output[0])
                conv = Conv(
                    node.input[1].removesuffix(".weight"),
                    tuple(shape[2:]),
                    tuple(attributes.get("strides", (1, 1))),
                    tuple(attributes.get("pads", (0, 0, 0, 0))),
                    tuple(attributes.get("dilations", (1, 1))),
                    attributes.get("group", 1),
                    activation,
                    self.shapes[node.input[0]][2:],
                    shape[1] * attributes.get("group", 1),
                    shape[0],
                )
                rows.append((conv, [node, *nodes]))
        return rows

    def _activation(self, output: str) -> tuple[str, list[Any]]:
        """The activation that reads a conv alone, and its nodes."""
        readers = self._readers.get(output, [])
        kinds = sorted(node.op_type for node in readers)
        if kinds == ["Mul", "Sigmoid"]:
            sigmoid, product = sorted(readers, key=lambda node: node.op_type, reverse=True)
            if set(product.input) == {output, sigmoid.output[0]}:
                return "SiLU", [sigmoid, product]
        if len(readers) == 1 and kinds[0] in ACTIVATIONS:
            return kinds[0], readers
        return "", []

    @cached_property
    def ids(self) -> dict[str, Ids]:
        """Tensor name to the ids of its channels, for maps that follow from the convs."""
        ids: dict[str, Ids] = {}
        for conv, nodes in self._convs:
            if conv.name in self._graph.convs:
                for node in nodes:
                    ids[node.output[0]] = self._graph.convs[conv.name].outputs
        for node in self.nodes:
            first = [ids[name] for name in node.input if name in ids]
            if node.op_type in MAPS and node.output[0] not in ids and first:
                whole = node.op_type == "Concat" and len(first) == len(node.input)
                ids[node.output[0]] = np.concatenate(first) if whole else first[0]
        return ids

    @cached_property
    def ops(self) -> list[Op]:
        """All that is no conv: maps one by one, the rest in connected pieces."""
        taken = {id(node) for _, nodes in self._convs for node in nodes}
        written = {nodes[-1].output[0]: conv.name for conv, nodes in self._convs}
        ops, rest = [], []
        for node in self.nodes:
            shape = self.shapes.get(node.output[0], ())
            if id(node) in taken:
                continue
            if node.op_type in MAPS and len(shape) == 4 and node.output[0] in self.ids:
                moved = tuple(name for name in node.input if name not in self.constants and name)
                key = f"{node.op_type} of {len(moved)} at {shape[2]}x{shape[3]}"
                convs = tuple(written[name] for name in moved if name in written)
                ops.append(Op(key, self.ids[node.output[0]], moved, tuple(node.output), convs))
            else:
                rest.append(node)
        return [*ops, *self._pieces(rest)]

    def _pieces(self, nodes: list[Any]) -> Iterable[Op]:
        """Connected pieces of nodes; what leads to an output of the network is the decoding."""
        owner: dict[str, int] = {}
        pieces: dict[int, list[Any]] = {}
        for index, node in enumerate(nodes):
            joined = {owner[name] for name in [*node.input, *node.output] if name in owner}
            pieces[index] = [n for piece in sorted(joined) for n in pieces.pop(piece)] + [node]
            for member in pieces[index]:
                for name in [*member.input, *member.output]:
                    if name not in self.constants:
                        owner[name] = index
        ends = {value.name for value in self.model.graph.output}
        for number, piece in enumerate(pieces.values()):
            made = {name for node in piece for name in node.output}
            read = {name for node in piece for name in node.input if name}
            inputs = tuple(sorted(read - made - set(self.constants)))
            inside = {id(node) for node in piece}
            outputs = tuple(
                sorted(
                    name
                    for name in made
                    if name in ends
                    or any(id(reader) not in inside for reader in self._readers.get(name, []))
                )
            )
            if inputs and outputs:
                key = "decoding" if ends & set(outputs) else f"rest {number}"
                yield Op(key, np.zeros(0, int), inputs, outputs)

    def widths(self, keep: np.ndarray) -> dict[str, tuple[int, int]]:
        """Conv name to its inputs and outputs that are left.

        Args:
            keep: (ids + 1,) bool; the last entry stands for channels that no BatchNorm scales.
        """
        nodes = self._graph.convs
        return {
            name: (
                (int(keep[nodes[name].inputs].sum()), int(keep[nodes[name].outputs].sum()))
                if name in nodes
                else (conv.inputs, conv.outputs)
            )
            for name, conv in self.convs.items()
        }


def cut_sides(graph: ChannelGraph, name: str) -> tuple[bool, bool]:
    """Whether the inputs, and the outputs, of a conv may become fewer."""
    if name not in graph.convs:
        return False, False
    free = np.zeros(graph.channels + 1, dtype=bool)
    for norm in graph.prunable:
        free[norm.ids] = True
    node = graph.convs[name]
    return bool(free[node.inputs].any()), bool(free[node.outputs].any())


def network_inputs(model: Any) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of what a network reads."""
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in model.graph.input
    }


__all__ = ["FREE", "Conv", "Exported", "Op", "cut_sides", "network_inputs"]
