"""Folders with an .xml and a .bin, in OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.packages import imported
from yolo_slim.runtimes.network import Network, Shape, beside, refused
from yolo_slim.runtimes.signal_stack import signal_stack_kept


def library() -> Any:
    """OpenVINO, without its reporter.

    Raises:
        InputError: it is not there, or cannot be imported.
    """
    return imported("OpenVINO", "openvino")


def read(path: Path, threads: int, exact: bool) -> Network:
    """Open an .xml with its .bin; exact: in float32 on CPUs that OpenVINO takes bfloat16 on.

    Raises:
        InputError: it is damaged, or OpenVINO does not run it.
    """
    if not path.is_file() or not path.read_bytes()[:4096].lstrip().startswith((b"<?xml", b"<net")):
        raise InputError(path, "no network of OpenVINO", "a file that was copied whole")
    openvino = library()
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if exact:
        options["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        with signal_stack_kept():
            model = openvino.Core().read_model(path)
            compiled = openvino.Core().compile_model(model, "CPU", options)
    except Exception as error:  # OpenVINO raises RuntimeError with pages of text
        raise refused(path, "OpenVINO", error) from error
    request = compiled.create_infer_request()

    def run(images: Any) -> list[Any]:
        results = request.infer([images])
        return [results[out] for out in compiled.outputs]

    image, outputs = model.inputs[0], tuple(_shape(out) for out in model.outputs)
    return Network(path, _shape(image), outputs, run, beside(path))


def _shape(port: Any) -> Shape:
    """The sizes of an input or output."""
    return tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
