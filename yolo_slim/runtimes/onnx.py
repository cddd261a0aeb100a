"""ONNX files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.packages import imported
from yolo_slim.runtimes.network import Network, Shape, refused

TYPES = {"tensor(float16)": np.float16}


def session(model: bytes | str, threads: int = 2) -> Any:
    """An ONNX Runtime CPU session that does not spin.

    Spinning threads of one session take the cores from the other that it is compared with.

    Args:
        model: an ONNX file's content, or its path.
        threads: of one operator.

    Raises:
        InputError: ONNX Runtime is not there, or cannot be imported.
    """
    onnxruntime = imported("ONNX Runtime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its errors are raised as well
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read(path: Path, threads: int, exact: bool) -> Network:
    """Open an ONNX file; its arithmetic is that of the file.

    Raises:
        InputError: it is damaged, or ONNX Runtime does not run it.
    """
    try:
        runtime = session(str(path), threads)
        image, *_ = runtime.get_inputs()
    except Exception as error:  # ONNX Runtime raises a dozen types
        raise refused(path, "ONNX Runtime", error) from error
    dtype = TYPES.get(image.type, np.float32)
    return Network(
        path,
        _shape(image.shape),
        tuple(_shape(out.shape) for out in runtime.get_outputs()),
        lambda images: runtime.run(None, {image.name: images.astype(dtype, copy=False)}),
        dict(runtime.get_modelmeta().custom_metadata_map),
        len(runtime.get_inputs()),
        {image.type, runtime.get_outputs()[0].type} == {"tensor(float)"},
    )


def _shape(sizes: list[Any]) -> Shape:
    """Sizes, of which those that are open have a name."""
    return tuple(size if isinstance(size, int) else None for size in sizes)
