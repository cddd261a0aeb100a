"""Exported files, opened in the runtimes that they are made for.

A row of `RUNTIMES` and a module with one function, `read`, are a runtime. Nothing of PyTorch or
YOLOv5 is imported here, but for a TorchScript file: what a file needs of memory and time is then
its runtime's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.errors import InputError
from yolo_slim.late import function_at
from yolo_slim.packages import check_imports, check_installed
from yolo_slim.runtimes.network import Network
from yolo_slim.text import counted


@dataclass(frozen=True)
class Runtime:
    """What runs files of one kind.

    Attributes:
        name: as people call it.
        suffix: how the names of its files, or folders, end.
        reader: module of this package and function: (path, threads, exact) to a `Network`.
        needs: modules that it imports.
        inside: how the name of the file ends that stands for the folder; "" where it is one file.
    """

    name: str
    suffix: str
    reader: str
    needs: tuple[str, ...]
    inside: str = ""


_ROWS = (
    Runtime("ONNX Runtime", ".onnx", "onnx.read", ("onnxruntime",)),
    Runtime("TorchScript", ".torchscript", "torchscript.read", ("torch",)),
    Runtime("OpenVINO", "_openvino_model", "openvino.read", ("openvino",), ".xml"),
    Runtime("ncnn", "_ncnn_model", "ncnn.read", ("ncnn",), ".param"),
    Runtime("LiteRT", ".tflite", "litert.read", ("ai_edge_litert",)),
)
RUNTIMES: dict[str, Runtime] = {row.suffix: row for row in _ROWS}


def runtime_of(path: str | Path) -> Runtime | None:
    """What runs a file, by its name; a file that stands for its folder counts as the folder.

    Example:
        >>> runtime_of("runs/best_openvino_model/").name
        'OpenVINO'
    """
    path = Path(path)
    for row in RUNTIMES.values():
        if path.name.endswith((row.suffix, row.inside) if row.inside else row.suffix):
            return row
    return None


def opened(path: str | Path, threads: int = 2, *, exact: bool = False) -> Network:
    """Open an exported file in its runtime.

    Args:
        path: a file or folder whose name ends as one of RUNTIMES.
        threads: of the runtime.
        exact: float32 arithmetic, also where the runtime takes less by itself (bfloat16).

    Raises:
        InputError: no runtime of ours runs it, it is not installed or cannot be
            imported, or it refuses the file.

    Example:
        opened("runs/export/exp/best.onnx")(images)[0]  # (n, anchors, 5 + nc)
    """
    path = Path(path)
    row = runtime_of(path)
    if row is None:
        kinds = ", ".join(f"*{suffix}" for suffix in RUNTIMES)
        raise InputError(path, "no exported file", f"one of {kinds}")
    check_installed(path, row.needs)
    if not path.exists():
        raise InputError(path, "no such file", "an exported file")
    check_imports(path, row.needs)
    if row.inside:
        path = inner(path, row)
    network: Network = function_at(__package__, row.reader)(path, threads, exact)
    return network


def inner(path: Path, row: Runtime) -> Path:
    """The file that stands for an exported folder.

    Raises:
        InputError: there is none in it, or there are several.
    """
    if path.is_file():
        return path
    files = sorted(path.glob(f"*{row.inside}"))
    if len(files) != 1:
        got = f"{counted(len(files), 'file')} *{row.inside} in it"
        raise InputError(path, got, "one, as the export writes")
    return files[0]
