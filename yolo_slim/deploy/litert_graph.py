"""A LiteRT file (.tflite), put together tensor by tensor and operator by operator.

The classes of the file come with LiteRT itself (ai_edge_litert.schema_py_generated); the format is
FlatBuffers with the schema of TensorFlow Lite.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ALIGNED = 16  # bytes: what the file format promises of where the data of a tensor begin
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
}


class _Buffer(schema.BufferT):
    """The data of a tensor, at a multiple of ALIGNED, which the generated class has no regard for.

    Can go when flatbuffers' Python honours force_align in vectors.
    """

    def Pack(self, builder: Any) -> Any:
        """Put it into a file."""
        data = None
        if self.data is not None:
            builder.StartVector(1, len(self.data), ALIGNED)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class LiteRTGraph:
    """A graph that grows; a tensor is known by its number.

    Example:
        >>> graph = LiteRTGraph()
        >>> image = graph.tensor("images", (1, 4, 4, 3))
        >>> twice = graph.add("ADD", [image, image], (1, 4, 4, 3))
        >>> graph.content([image], [twice])[4:8]
        b'TFL3'
    """

    def __init__(self) -> None:
        """Begin with nothing in it."""
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[int, int] = {}
        self.buffers = [_Buffer()]  # the first is that of all tensors without data

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The sizes of a tensor."""
        return tuple(self.tensors[tensor].shape)

    def tensor(self, name: str, shape: tuple[int, ...], data: np.ndarray | None = None) -> int:
        """A new tensor: float32, or of the type of its data."""
        new = schema.TensorT()
        new.name, new.shape = name, [int(size) for size in shape]
        new.type = TYPES[data.dtype] if data is not None else schema.TensorType.FLOAT32
        new.buffer = 0
        if data is not None:
            buffer = _Buffer()
            buffer.data = np.ascontiguousarray(data).tobytes()
            new.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(new)
        return len(self.tensors) - 1

    def constant(self, values: Any, dtype: Any = np.float32) -> int:
        """A tensor of given values."""
        data = np.asarray(values, dtype=dtype)
        return self.tensor(f"constant {len(self.tensors)}", data.shape, data)

    def add(
        self, operator: str, inputs: list[int], shape: tuple[int, ...], options: Any = None
    ) -> int:
        """An operator with one output; returns that.

        Args:
            operator: of schema.BuiltinOperator.
            inputs: tensors.
            shape: of the output.
            options: an object of the operator's options, where it has some.
        """
        return self.add_many(operator, inputs, [shape], options)[0]

    def add_many(
        self, operator: str, inputs: list[int], shapes: list[tuple[int, ...]], options: Any = None
    ) -> list[int]:
        """An operator with several outputs."""
        code = getattr(schema.BuiltinOperator, operator)
        new = schema.OperatorT()
        new.opcodeIndex = self.codes.setdefault(code, len(self.codes))
        outputs = [self.tensor(f"{operator.lower()} {len(self.operators)}", s) for s in shapes]
        new.inputs, new.outputs = inputs, outputs
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            new.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            new.builtinOptions = options
        self.operators.append(new)
        return outputs

    def content(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file's content."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        model.operatorCodes = []
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.version = code, 1
            entry.deprecatedBuiltinCode = min(code, 127)  # one byte: what old readers look at
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())
