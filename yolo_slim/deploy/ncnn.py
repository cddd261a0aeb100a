"""A folder for ncnn, converted from the ONNX graph by pnnx, ncnn's own converter."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import onnx
from torch import nn

from yolo_slim.deploy.described import described
from yolo_slim.deploy.export import metadata, write_onnx
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.deploy.unknown import layer_with, unknown_operator
from yolo_slim.errors import InputError
from yolo_slim.runtimes import check_installed

AXES = "0={3} 1={2} 2={1}"  # width, height and channels of an input, as ncnn writes them


def write_ncnn(model: nn.Module, options: ExportOptions) -> dict[str, bytes]:
    """The files of a folder: network, weights in float32, stride and names.

    Raises:
        InputError: pnnx or ncnn does not know an operator.
    """
    options = replace(options, batch=1, simplify=True)  # ncnn has no batches
    files = converted(write_onnx(model, options))
    return files | {".yaml": described(metadata(model), options, files[".bin"])}


def converted(content: bytes) -> dict[str, bytes]:
    """An ONNX file's content as ncnn's two files; the network knows the sizes of its images.

    Raises:
        InputError: pnnx is not installed, or ncnn does not know an operator.
    """
    check_installed("ncnn", ("ncnn", "pnnx"), "ncnn")
    import pnnx

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        file.write_bytes(content)
        program = [pnnx.EXEC_PATH, file.name, "fp16=0"]
        run = subprocess.run(program, cwd=folder, capture_output=True, text=True)
        made = {end: file.with_name(f"net.ncnn{end}") for end in (".param", ".bin")}
        if not all(part.is_file() for part in made.values()):
            why = " ".join((run.stderr or run.stdout).split())[-160:]
            raise InputError("--include ncnn", why, "a network that pnnx knows")
        files = {end: part.read_bytes() for end, part in made.items()}
    graph = onnx.load_from_string(content).graph
    check_known(files[".param"].decode(), graph)
    files[".param"] = with_sizes(files[".param"].decode(), graph).encode()
    return files


def to_ncnn(content: bytes) -> bytes:
    """The network of an ONNX file without its weights: what times it."""
    return converted(content)[".param"]


def check_known(param: str, graph: onnx.GraphProto) -> None:
    """See that ncnn has each of a network's layers: pnnx writes down what it does not know, too.

    Raises:
        InputError: it has not.
    """
    import ncnn

    kinds = [row.split()[0] for row in param.splitlines()[2:] if row.strip()]
    unknown = [kind for kind in dict.fromkeys(kinds) if ncnn.layer_to_index(kind) < 0]
    for kind in sorted(unknown, key=lambda kind: kind.startswith("pnnx.")):  # pnnx's rest last
        name = kind.rpartition(".")[2].lower()  # Tensor.slice was a Slice
        kinds = [node.op_type for node in graph.node if node.op_type.lower() == name]
        raise unknown_operator("ncnn", kind, layer_with(graph, kinds))


def with_sizes(param: str, graph: onnx.GraphProto) -> str:
    """The text of a network whose inputs have the sizes of those of an ONNX graph."""
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input]
    rows = []
    for row in param.splitlines():
        if row.startswith("Input"):
            row += f" {AXES.format(*shapes[int(row.split()[1].removeprefix('in'))])}"
        rows.append(row)
    return "\n".join(rows) + "\n"
