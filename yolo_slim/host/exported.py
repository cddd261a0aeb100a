"""Files that export.py or YOLOv5 wrote, as val and detect open them: shapes, strides, names.

All is read before YOLOv5 sees the file: it would end in a traceback of its runtime, or evaluate
what stands in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from yolo_slim.errors import InputError
from yolo_slim.host.metadata import check_metadata, literal
from yolo_slim.host.script_options import EXPORTED

BOX = 5  # numbers of a detection before its classes: x, y, w, h, objectness


def onnx_outputs(file: Path) -> list[list[int]]:
    """The shapes of an ONNX file's outputs, 0 where it is open."""
    import onnx

    outputs = onnx.load(file, load_external_data=False).graph.output
    return [[size.dim_value for size in out.type.tensor_type.shape.dim] for out in outputs]


def onnx_input(file: str | Path) -> list[int]:
    """The shape of an ONNX file's images, 0 where it is open.

    Raises:
        InputError: it is no ONNX file.
    """
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
        sizes = model.graph.input[0].type.tensor_type.shape.dim
        outputs = onnx_outputs(Path(file))
    except Exception as error:  # protobuf has a dozen types
        raise InputError(file, "not an ONNX file, or a damaged one", EXPORTED) from error
    _check(file, [(entry.key, entry.value) for entry in model.metadata_props], outputs)
    return [size.dim_value for size in sizes]


def _check(file: str | Path, metadata: list[tuple[str, str]], outputs: list[list[int]]) -> None:
    """See that an ONNX file's metadata are stride and names; a key may stand there twice."""
    try:
        pairs = [(key, literal(text) if key == "names" else text) for key, text in metadata]
    except InputError as error:
        _, got, expected = error.parts
        raise InputError(f"{file}, names", got, expected) from error
    known = dict(pairs)
    if "stride" in known:  # else YOLOv5 takes no notice of the names
        check_metadata(known["stride"], known.get("names"), classes_in(outputs), file)


def classes_in(outputs: list[list[int]]) -> int | None:
    """The number of classes, from the shapes of what a model returns; None where it is open."""
    masks = outputs[1][1] if len(outputs) > 1 and len(outputs[1]) == 4 else 0
    rows = outputs[0][-1] if outputs and len(outputs[0]) == 3 else 0
    return rows - BOX - masks if rows > BOX + masks else None


def torchscript_input(file: str | Path) -> list[int]:
    """The shape of a TorchScript file's images; empty where YOLOv5 did not note it.

    Raises:
        InputError: it is no TorchScript file.
    """
    extra = {"config.txt": ""}
    try:
        torch.jit.load(file, map_location="cpu", _extra_files=extra)
    except Exception as error:  # torch raises RuntimeError and others
        raise InputError(file, "not a TorchScript file, or a damaged one", EXPORTED) from error
    text: Any = extra["config.txt"]
    if not text:
        return []
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    try:
        config = json.loads(text)
        shape = config["shape"]
        if len(shape) != 4 or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}, config.txt", repr(text)[:80], "shape, stride and names"
        ) from error
    names = config.get("names")
    if isinstance(names, dict):  # in JSON each key is a text
        names = {int(key) if key.isdecimal() else key: name for key, name in names.items()}
    check_metadata(config.get("stride"), names, None, file)
    return shape


def torchscript_outputs(file: Path) -> list[list[int]]:
    """The shapes of a TorchScript file's outputs, for an image of the size that is noted in it."""
    extra = {"config.txt": ""}
    script = torch.jit.load(file, map_location="cpu", _extra_files=extra)
    with torch.no_grad():
        outputs = script(torch.zeros(json.loads(extra["config.txt"])["shape"]))
    return [list(out.shape) for out in outputs if isinstance(out, torch.Tensor)]


INPUTS = {".onnx": onnx_input, ".torchscript": torchscript_input}
OUTPUTS = {".onnx": onnx_outputs, ".torchscript": torchscript_outputs}
