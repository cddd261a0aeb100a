"""An operator that a converter does not know, named with the layer that it is part of."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import InputError


def unknown_operator(name: str, operator: str, layer: str) -> InputError:
    """That a format has no such operator.

    Args:
        name: of the format.
        operator: and how it is used, in words.
        layer: a module of the model; "" where it is not known.
    """
    where = f"--include {name}, {layer}" if layer else f"--include {name}"
    expected = "layers that its converter knows; --include torchscript takes all"
    return InputError(where, f"operator {operator}", expected)


def layer_of(node: str) -> str:
    """The module that a node of an ONNX graph comes from; "" where its name does not say.

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


def layer_with(graph: Any, kinds: Collection[str]) -> str:
    """The layer of the first node of an ONNX graph that is of one of these kinds; "": none is."""
    names = (node.name for node in graph.node if node.op_type in kinds)
    return layer_of(next(names, ""))


def refused_by_torch(error: Exception, model: nn.Module, image: torch.Tensor) -> InputError:
    """What torch's ONNX exporter does not know: its operator, and the first layer that has it.

    Args:
        error: the exporter's.
        model: what it was given.
        image: of the size of the export.
    """
    text = " ".join(str(error).split())
    named = re.search(r"operator '?([\w:]+)", text) or re.search(r"\b(\w+::\w+)", text)
    if not named:
        return unknown_operator("onnx", text[:160], "")
    operator = named[1] if "::" in named[1] else f"aten::{named[1]}"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, image, strict=False, check_trace=False)
    scopes = [n.scopeName() for n in traced.inlined_graph.nodes() if n.kind() == operator]
    layer = scopes[0].rpartition("/")[2].removeprefix("__module.") if scopes else ""
    return unknown_operator("onnx", operator, layer)
