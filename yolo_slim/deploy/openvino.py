"""A folder for OpenVINO, converted from the ONNX graph by OpenVINO itself."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import onnx
from torch import nn

from yolo_slim.deploy.described import described
from yolo_slim.deploy.export import metadata, write_onnx
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.deploy.room import no_room, working_folder
from yolo_slim.deploy.unknown import layer_of, layer_with, unknown_operator
from yolo_slim.errors import InputError
from yolo_slim.runtimes.openvino import library


def write_openvino(model: nn.Module, options: ExportOptions) -> dict[str, bytes]:
    """The files of a folder that YOLOv5's loader opens: graph, weights, stride and names.

    Raises:
        InputError: OpenVINO does not know an operator, or the temporary folder is full.
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
        raise _unknown(str(error), onnx.load_from_string(content).graph) from error


def _unknown(text: str, graph: onnx.GraphProto) -> InputError:
    """What OpenVINO's pages of text say: operators without a rule, else the first that fails."""
    missing = re.search(r"No conversion rule found for operations: (.*)", text)
    if missing:
        kinds = re.findall(r"(\w+)-\d+", missing[1])
        return unknown_operator("openvino", ", ".join(kinds), layer_with(graph, kinds))
    failed = re.search(r"<Node\((\w+)\): ([^>]*)>", text)
    if failed:
        return unknown_operator("openvino", failed[1], layer_of(failed[2]))
    return unknown_operator("openvino", f"not named ({' '.join(text.split())[-160:]})", "")


def saved(model: Any, about: dict[str, Any], options: ExportOptions) -> dict[str, bytes]:
    """The files of a model: weights in float16 where the options ask for it.

    Args:
        model: of OpenVINO.
        about: stride and names.
        options: of the export.

    Raises:
        InputError: the temporary folder, through which OpenVINO hands them over, is full.
    """
    with working_folder("OpenVINO") as folder:
        file = folder / "model.xml"
        try:
            library().save_model(model, file, compress_to_fp16=options.half)
        except RuntimeError as error:  # a full disk is "basic_ios::clear: iostream error"
            raise no_room("OpenVINO", " ".join(str(error).split())[-160:]) from error
        files = {suffix: file.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}
    return files | {".yaml": described(about, options, files[".bin"])}
