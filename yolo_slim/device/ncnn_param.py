"""A network in ncnn's text, by pnnx, its own converter; the weights are left out."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import onnx

from yolo_slim.errors import InputError


def to_ncnn(content: bytes) -> bytes:
    """The .param of an ONNX file, its inputs with their sizes.

    Raises:
        InputError: pnnx is not installed, or it cannot convert the file.
    """
    try:
        import pnnx
    except ImportError:
        raise InputError("ncnn", "pnnx is not installed", "pip install pnnx ncnn") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        file.write_bytes(content)
        program = [pnnx.EXEC_PATH, file.name, "fp16=0"]
        run = subprocess.run(program, cwd=folder, capture_output=True, text=True)
        made = file.with_name("net.ncnn.param")
        if not made.exists():
            raise InputError("ncnn", (run.stderr or run.stdout)[-200:], "a network that pnnx knows")
        text = made.read_text()
    shapes = [
        [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in onnx.load_from_string(content).graph.input
    ]
    rows = []
    for row in text.splitlines():
        if row.startswith("Input"):
            place = int(row.split()[1].removeprefix("in"))
            _, channels, height, width = shapes[place]
            row += f" 0={width} 1={height} 2={channels}"
        rows.append(row)
    return ("\n".join(rows) + "\n").encode()
