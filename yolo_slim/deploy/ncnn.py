"""A folder for ncnn, converted from the ONNX graph by pnnx, ncnn's own converter."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import onnx
from torch import nn

from yolo_slim.deploy.described import described
from yolo_slim.deploy.export import metadata, write_onnx
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.deploy.room import no_room, working_folder
from yolo_slim.deploy.unknown import layer_with, unknown_operator
from yolo_slim.errors import InputError
from yolo_slim.packages import check_imports
from yolo_slim.runtimes.network import unheard

NETWORK = "net.onnx"
MADE = ("net.ncnn.param", "net_ncnn.py")  # the second is written last
WEIGHTS = "net.ncnn.bin"
UNWRITTEN = re.compile(r"write .*failed|No space left|cannot write")
AXES = "0={3} 1={2} 2={1}"  # width, height and channels of an input, as ncnn writes them


def write_ncnn(model: nn.Module, options: ExportOptions) -> dict[str, bytes]:
    """The files of a folder: network, weights in float32, stride and names.

    Raises:
        InputError: pnnx or ncnn does not know an operator, or the temporary folder is full.
    """
    options = replace(options, batch=1, simplify=True)  # ncnn has no batches
    files = converted(write_onnx(model, options))
    return files | {".yaml": described(metadata(model), options, files[".bin"])}


def converted(content: bytes) -> dict[str, bytes]:
    """An ONNX file's content as ncnn's two files; the network knows the sizes of its images.

    Raises:
        InputError: pnnx is not installed, ncnn does not know an operator, or the temporary folder
            is full.
    """
    check_imports("--include ncnn", ("ncnn", "pnnx"))
    graph = onnx.load_from_string(content).graph
    with working_folder("pnnx") as folder:
        (folder / NETWORK).write_bytes(content)
        run_pnnx(folder)
        files = {end: (folder / f"net.ncnn{end}").read_bytes() for end in (".param", ".bin")}
        check_known(files[".param"].decode(), graph)
        check_whole(folder / "net.ncnn.param")
    files[".param"] = with_sizes(files[".param"].decode(), graph).encode()
    return files


def run_pnnx(folder: Path) -> None:
    """Convert the `NETWORK` of a folder; pnnx writes `MADE`, `WEIGHTS` and more into the folder.

    On a full disk pnnx may end with code 0 and leave files that are empty or cut off.

    Raises:
        InputError: the disk is full, or pnnx does not convert the network.
    """
    import pnnx

    program = [pnnx.EXEC_PATH, NETWORK, "fp16=0"]
    run = subprocess.run(program, cwd=folder, capture_output=True, text=True, errors="replace")
    unwritten = UNWRITTEN.search(run.stderr)
    sizes = [file.stat().st_size if file.is_file() else 0 for file in map(folder.joinpath, MADE)]
    there = all(sizes) and (folder / WEIGHTS).is_file()  # of a network without weights it is empty
    if run.returncode == 0 and there and not unwritten:
        return
    if unwritten or shutil.disk_usage(folder).free < (folder / NETWORK).stat().st_size:
        raise no_room("pnnx", unwritten[0] if unwritten else "files are missing or empty")
    text = " ".join((run.stderr or run.stdout).split())[-160:]
    got = f"pnnx ended with code {run.returncode}: {text}"
    raise InputError("--include ncnn", got, "a network that pnnx knows")


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


def check_whole(param: Path) -> None:
    """See that ncnn opens what pnnx wrote: it refuses weights that are cut off.

    Raises:
        InputError: it does not.
    """
    import ncnn

    net, weights = ncnn.Net(), param.with_suffix(".bin")
    with unheard():
        opened = net.load_param(str(param)) == 0 and net.load_model(str(weights)) == 0
    if not opened:
        raise no_room("pnnx", "ncnn refuses what it wrote")


def with_sizes(param: str, graph: onnx.GraphProto) -> str:
    """The text of a network whose inputs have the sizes of those of an ONNX graph."""
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input]
    rows = []
    for row in param.splitlines():
        if row.startswith("Input"):
            row += f" {AXES.format(*shapes[int(row.split()[1].removeprefix('in'))])}"
        rows.append(row)
    return "\n".join(rows) + "\n"
