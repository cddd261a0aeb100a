"""A quantised ONNX graph in fewer bytes: the same nodes, and nothing that no reader asks for.

ONNX Runtime's quantiser names tensors and nodes by what was done to them, hundreds of names of 60
letters, and writes each zero point again: a third of the file of a small detector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def shrink_(model: Any) -> None:
    """Merge equal constants, shorten the names of what was added, drop notes on shapes.

    Args:
        model: of ONNX; inputs, outputs and the nodes that are no conversions keep their names.
    """
    graph = model.graph
    del graph.value_info[:]
    model.doc_string = graph.doc_string = ""
    used = {name for node in graph.node for name in node.input}
    first: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        if tensor.name not in used:
            continue
        name = tensor.name
        tensor.name = ""
        content = tensor.SerializeToString()
        if content not in first:
            first[content] = short(len(first))
            kept.append(tensor)
        tensor.name = renamed[name] = first[content]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    ends = {value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        node.doc_string = ""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
        for name in node.output:
            renamed.setdefault(name, name if name in ends else short(len(renamed), "t"))
    for node in graph.node:
        _rename_(node.input, lambda name: renamed.get(name, name))
        _rename_(node.output, lambda name: renamed[name])


def short(index: int, letter: str = "c") -> str:
    """A name."""
    return f"{letter}{index:x}"


def _rename_(names: Any, name: Callable[[str], str]) -> None:
    for index, old in enumerate(names):
        names[index] = name(old) if old else old
