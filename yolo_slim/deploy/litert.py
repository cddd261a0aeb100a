"""A .tflite file for LiteRT: the ONNX graph operator by operator, in LiteRT's own schema.

No converter of others does this beside YOLOv5 and today's PyTorch (docs/how-it-works.md). A YOLOv5
model has two dozen kinds of operators, and LiteRT's package has the schema.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from yolo_slim.deploy.export import metadata, to_onnx
from yolo_slim.deploy.litert_graph import LiteRTGraph
from yolo_slim.deploy.litert_operators import OPERATORS, Node, NotInLiteRT, Value, plain
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.deploy.unknown import layer_of, unknown_operator


def write_litert(model: nn.Module, options: ExportOptions) -> bytes:
    """The content of a .tflite file as YOLOv5 writes one: images (batch, height, width, 3) in
    [0, 1] to rows whose boxes are shares of the image's sides; behind it stride and names.

    Raises:
        InputError: an operator has no counterpart.
    """
    content = to_onnx(model, imgsz=options.imgsz, batch=options.batch)
    about = metadata(model) | {"imgsz": list(options.imgsz), "batch": options.batch}
    return with_metadata(converted(content, shares=True), about)


def converted(content: bytes, *, shares: bool) -> bytes:
    """An ONNX file with fixed sizes as a .tflite file.

    Args:
        content: of an ONNX file; its one input are images.
        shares: the first four numbers of a row are made shares of the image's sides.

    Raises:
        InputError: an operator has no counterpart.
    """
    source = onnx.shape_inference.infer_shapes(onnx.load_from_string(content), data_prop=True).graph
    shapes = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*source.value_info, *source.input, *source.output)
    }
    graph = LiteRTGraph()
    values: dict[str, Value | np.ndarray] = {
        weight.name: onnx.numpy_helper.to_array(weight) for weight in source.initializer
    }
    images, *_ = (value.name for value in source.input)
    batch, channels, height, width = shapes[images]
    image = graph.tensor(images, (batch, height, width, channels))
    values[images] = Value(image, last=True)
    for node in source.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.numpy_helper.to_array(attributes["value"])
            continue
        try:
            if node.op_type not in OPERATORS:
                raise NotInLiteRT("")
            inputs = [values[name] if name else None for name in node.input]
            outputs = [shapes[name] for name in node.output]
            results = OPERATORS[node.op_type](
                Node(node.op_type, inputs, attributes, outputs, graph)
            )
        except NotInLiteRT as error:
            kind = f"{node.op_type} {error}".strip()
            raise unknown_operator("litert", kind, layer_of(node.name)) from None
        values.update(zip(node.output, results, strict=True))
    tensors = [plain(values[out.name], graph) for out in source.output]
    if shares:
        shape = graph.shape(tensors[0])
        sides = np.ones(shape[-1], np.float32)
        sides[:4] = width, height, width, height
        unit = graph.constant(1 / sides)
        tensors[0] = graph.add("MUL", [tensors[0], unit], shape, schema.MulOptionsT())
    for tensor, out in zip(tensors, source.output, strict=True):
        graph.tensors[tensor].name = out.name
    return graph.content([image], tensors)


def with_metadata(content: bytes, about: dict[str, Any]) -> bytes:
    """A .tflite file with a zip archive behind it, in whose first file YOLOv5 looks for names."""
    buffer = io.BytesIO(content)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("temp_meta.txt", str(about))
    return buffer.getvalue()
