"""A folder for OpenVINO, converted from the ONNX graph by OpenVINO itself."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from yolo_slim.deploy.export import metadata, write_onnx
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import InputError
from yolo_slim.runtimes.openvino import library


def write_openvino(model: nn.Module, options: ExportOptions) -> dict[str, bytes]:
    """The files of a folder that YOLOv5's loader opens: graph, weights, stride and names.

    Raises:
        InputError: OpenVINO does not know an operator.
    """
    content = write_onnx(model, replace(options, half=False))  # OpenVINO halves the weights itself
    return saved(converted(content), metadata(model), options)


def converted(content: bytes) -> Any:
    """An ONNX file's content as OpenVINO's model; the layers keep their names.

    Raises:
        InputError: OpenVINO does not know an operator.
    """
    openvino = library()
    try:
        return openvino.Core().read_model(content)
    except Exception as error:  # OpenVINO raises RuntimeError with pages of text
        why = " ".join(str(error).split())[-160:]
        expected = "layers that OpenVINO knows; --include torchscript takes all"
        raise InputError("--include openvino", why, expected) from error


def saved(model: Any, about: dict[str, Any], options: ExportOptions) -> dict[str, bytes]:
    """The files of a model: weights in float16 where the options ask for it.

    Args:
        model: of OpenVINO.
        about: stride and names.
        options: of the export.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        library().save_model(model, file, compress_to_fp16=options.half)
        files = {suffix: file.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}
    return files | {".yaml": described(about, options)}


def described(about: dict[str, Any], options: ExportOptions) -> bytes:
    """The yaml beside a file: what YOLOv5 reads, and what the images are."""
    sizes = {"batch": options.batch, "imgsz": list(options.imgsz), "dynamic": options.dynamic}
    text: str = yaml.safe_dump({**about, **sizes}, sort_keys=False, allow_unicode=True)
    return text.encode()
