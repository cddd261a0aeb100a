"""What of a detector's ONNX graph may be in 8 bits, and what must stay float: read from the graph.

Boxes are decoded behind the last convs of the head: in 8 bits a centre would move by pixels. The
outputs of the last convs are what is decoded, so that these convs stay float as well; all before
them may be in 8 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# What ONNX Runtime has in 8 bits, and is fastest with: where SiLU, Concat or an add between two
# convs is float, each conv pays for two conversions more (yolov5n, 640 px: 50 ms in place of 35).
OPERATORS = [
    *("Add", "Clip", "Concat", "Conv", "LeakyRelu"),
    *("MaxPool", "Mul", "Relu", "Resize", "Sigmoid"),
]


@dataclass(frozen=True)
class Scope:
    """A graph in parts; nodes are told by their names.

    Attributes:
        layers: the convs that may be in 8 bits, by the names of their modules, in the order of the
            graph: each with the nodes of the conv and of its activation.
        between: what stands between layers, such as a Concat: each node with the layers it feeds.
        head: the last convs.
        behind: what follows them, the decoding, and what computes with other things than maps
            (n, channels, height, width), as a transformer does.
        before_silu: names of the tensors that x * sigmoid(x) is taken of.
    """

    layers: Mapping[str, tuple[str, ...]]
    between: Mapping[str, frozenset[str]]
    head: tuple[str, ...]
    behind: tuple[str, ...]
    before_silu: frozenset[str]

    def apart(self, float_layers: Collection[str] = ()) -> list[str]:
        """The nodes that stay float.

        Args:
            float_layers: names of layers that do; what feeds only them does, too.
        """
        chosen = frozenset(float_layers)
        inside = [node for name in chosen for node in self.layers[name]]
        feeding = [node for node, layers in self.between.items() if layers <= chosen]
        return [*self.head, *self.behind, *inside, *feeding]


def scope_of(model: Any) -> Scope:
    """Take a graph apart.

    Args:
        model: an ONNX model of a detector; its nodes are sorted and have names.
    """
    graph, maps = model.graph, _maps(model)
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    convs: dict[
        str, frozenset[str]
    ] = {}  # of each node: the convs that read it, by other nodes too
    for node in reversed(graph.node):
        after = [reader for out in node.output for reader in readers.get(out, ())]
        reached = (
            frozenset({reader.name}) if reader.op_type == "Conv" else convs[reader.name]
            for reader in after
        )
        convs[node.name] = frozenset().union(*reached)
    every = [node for node in graph.node if node.op_type == "Conv"]
    module = {conv.name: _module(conv) for conv in every if convs[conv.name]}
    activations = {conv.name: _activation(conv, readers) for conv in every if convs[conv.name]}
    inside = {name for nodes in activations.values() for name in nodes}
    others = [n for n in graph.node if n.op_type != "Conv" and n.name not in inside]
    behind = {n.name for n in others if not convs[n.name] or not maps.issuperset(n.output)}
    return Scope(
        layers={module[name]: (name, *nodes) for name, nodes in activations.items()},
        between={
            node.name: frozenset(module[conv] for conv in convs[node.name] if conv in module)
            for node in others
            if node.name not in behind
        },
        head=tuple(conv.name for conv in every if not convs[conv.name]),
        behind=tuple(node.name for node in others if node.name in behind),
        before_silu=frozenset(c.output[0] for c in every if len(activations.get(c.name, ())) == 2),
    )


def _maps(model: Any) -> set[str]:
    """Names of the tensors of four dimensions."""
    import onnx

    known = onnx.shape_inference.infer_shapes(model).graph
    values = (*known.value_info, *known.output)
    return {v.name for v in values if len(v.type.tensor_type.shape.dim) == 4}


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
