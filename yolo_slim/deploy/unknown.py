"""An operator that a converter does not know, named with the layer that it is part of."""

from __future__ import annotations

from yolo_slim.errors import InputError


def layer_of(node: str) -> str:
    """The module that a node of an ONNX graph comes from, "" where its name does not say.

    Example:
        >>> layer_of("/model.2/m/m.0/cv1/conv/Conv")
        'model.2.m.0.cv1.conv'
    """
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):  # m.0 stands behind the list m
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def unknown_operator(name: str, operator: str, node: str) -> InputError:
    """That a format has no such operator.

    Args:
        name: of the format.
        operator: and how it is used, in words.
        node: of the ONNX graph.
    """
    layer = layer_of(node) or node or "a layer without a name"
    expected = "layers that its converter knows; --include torchscript takes all"
    return InputError(f"--include {name}, {layer}", f"operator {operator}", expected)
