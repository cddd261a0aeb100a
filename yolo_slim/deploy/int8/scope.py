"""What of a detector's ONNX graph may be in 8 bits, and what must stay float: read from the graph.

Boxes are decoded behind the last convs of the head: in 8 bits a centre would move by pixels. The
outputs of the last convs are what is decoded, so that these convs stay float as well; all before
them may be in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# What ONNX Runtime has in 8 bits, and is fastest with: where SiLU, Concat or an add between two
# convs is float, each conv pays for two conversions more (yolov5n, 640 px: 35 ms in place of 50).
OPERATORS = ("Add", "Concat", "Conv", "MaxPool", "Mul", "Resize", "Sigmoid")


@dataclass(frozen=True)
class Layer:
    """A conv that may be in 8 bits.

    Attributes:
        name: of the module, such as model.2.cv1.conv.
        nodes: names of the conv's node and of those of its activation.
    """

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Scope:
    """A graph in parts.

    Attributes:
        layers: the convs that may be in 8 bits, in the order of the graph.
        head: names of the nodes of the last convs.
        behind: names of the nodes behind them: the decoding.
        before_silu: names of the tensors that x * sigmoid(x) is taken of.
    """

    layers: tuple[Layer, ...]
    head: tuple[str, ...]
    behind: tuple[str, ...]
    before_silu: frozenset[str]

    def nodes(self, names: Iterable[str]) -> list[str]:
        """Names of the nodes of some layers."""
        chosen = set(names)
        return [node for layer in self.layers if layer.name in chosen for node in layer.nodes]


def scope_of(graph: Any) -> Scope:
    """Take a graph apart.

    Args:
        graph: of an ONNX model of a detector; its nodes are sorted and have names.
    """
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    leads_to_a_conv: dict[str, bool] = {}
    for node in reversed(graph.node):
        after = [reader for out in node.output for reader in readers.get(out, ())]
        leads_to_a_conv[node.name] = any(
            reader.op_type == "Conv" or leads_to_a_conv[reader.name] for reader in after
        )
    layers, head, behind, before_silu = [], [], [], []
    for node in graph.node:
        if node.op_type != "Conv":
            if not leads_to_a_conv[node.name]:
                behind.append(node.name)
        elif leads_to_a_conv[node.name]:
            activation = _activation(node, readers)
            layers.append(Layer(_module(node), (node.name, *activation)))
            if len(activation) == 2:
                before_silu.append(node.output[0])
        else:
            head.append(node.name)
    return Scope(tuple(layers), tuple(head), tuple(behind), frozenset(before_silu))


def _module(conv: Any) -> str:
    """The name of a conv's module, which is that of its weights; else that of the node."""
    name, _, end = conv.input[1].rpartition(".")
    return name if end == "weight" else conv.name


def _activation(conv: Any, readers: dict[str, list[Any]]) -> list[str]:
    """Names of the nodes behind a conv that make x * sigmoid(x) of it: the sigmoid, the product."""
    after = readers.get(conv.output[0], [])
    gate = next((node for node in after if node.op_type == "Sigmoid"), None)
    if gate is None:
        return []
    products = [
        node.name for node in after if node.op_type == "Mul" and gate.output[0] in node.input
    ]
    return [gate.name, *products]
