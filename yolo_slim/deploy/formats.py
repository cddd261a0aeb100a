"""The table of export formats.

A row here and two functions, one that writes and one that runs, are a format; --help, messages and
the docs read the rows. Nothing heavy is imported for them: a row names its functions, which are
imported when a model is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolo_slim.deploy.options import ExportOptions
from yolo_slim.files import write_aside, write_folder_aside
from yolo_slim.late import function_at
from yolo_slim.packages import MAKERS

Content = bytes | dict[str, bytes]


def length(content: Content) -> int:
    """Bytes of a file, or of all files in a folder.

    Example:
        >>> length({".xml": b"123", ".bin": b"45"})
        5
    """
    return len(content) if isinstance(content, bytes) else sum(map(len, content.values()))


@dataclass(frozen=True)
class Format:
    """A file, or a folder of files, that a model is exported to.

    Attributes:
        name: of --include.
        suffix: what follows the name of the checkpoint.
        help: what it is, in a few words.
        runtime: what runs it, as people call it.
        writer: module of this package and function: (model, options) to the file's content; of a
            folder, to the content of each file by the end of its name.
        runner: the same: (path, threads, exact) to a function of images (n, 3, h, w), float32 in
            [0, 1], to outputs as numpy arrays; exact: in float32 whatever the runtime prefers.
        needs: packages that are imported to write it or to run it.
        options: of the export, that it has: those of `OPTIONS`.
        exact: its outputs are those of the model, to the last bit.
        use: how it is used, a sentence for who has just written it.
    """

    name: str
    suffix: str
    help: str
    runtime: str
    writer: str
    runner: str = "runners.run_file"
    needs: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    exact: bool = False
    use: str = ""

    def write(self, model: Any, options: ExportOptions) -> Content:
        """The content of the file, or of each file in the folder."""
        content: Content = function_at(__package__, self.writer)(model, options)
        return content

    def own(self, options: ExportOptions) -> ExportOptions:
        """Of an export's options those that the format has."""
        return replace(
            options,
            batch=options.batch if "batch" in self.options else 1,
            dynamic=options.dynamic and "dynamic" in self.options,
            half=options.half and "half" in self.options,
            nms=options.nms if "nms" in self.options else None,
        )

    def file(self, folder: Path, stem: str) -> Path:
        """Where a model of this name lies in a folder."""
        return folder / f"{stem}{self.suffix}"

    def put(self, folder: Path, stem: str, content: Content) -> Path:
        """Write what `write` made into a folder.

        Raises:
            InputError: it cannot be written.
        """
        file = self.file(folder, stem)
        if isinstance(content, bytes):
            return write_aside(file, content)
        return write_folder_aside(file, {f"{stem}{end}": part for end, part in content.items()})

    @property
    def timed(self) -> bool:
        """False for what is run as any checkpoint."""
        return not self.exact

    def open(self, path: Path, threads: int, *, exact: bool) -> Callable[[Any], Any]:
        """A function that runs the file."""
        function: Callable[[Any], Any] = function_at(__package__, self.runner)(path, threads, exact)
        return function


OPTIONS = frozenset({"batch", "dynamic", "half", "int8", "nms"})  # those that some formats have
_ROWS = (
    Format(
        "onnx",
        ".onnx",
        "ONNX",
        "ONNX Runtime",
        "export.write_onnx",
        needs=(*MAKERS, "onnxruntime"),
        options=OPTIONS,
        use="A short Python program that runs it is in docs/use-onnx.md.",
    ),
    Format(
        "torchscript",
        ".torchscript",
        "TorchScript",
        "PyTorch",
        "export.write_torchscript",
        options=frozenset({"batch"}),
    ),
    Format(
        "stock",
        "-stock.pt",
        "a checkpoint that plain YOLOv5 opens",
        "YOLOv5",
        "stock.write_stock",
        "runners.run_stock",
        exact=True,
    ),
    Format(
        "openvino",
        "_openvino_model",
        "a folder for OpenVINO",
        "OpenVINO",
        "openvino.write_openvino",
        needs=(*MAKERS, "openvino"),
        use="A few lines that run it are in docs/openvino.md.",
        options=frozenset({"batch", "dynamic", "half", "int8"}),
    ),
    Format(
        "ncnn",
        "_ncnn_model",
        "a folder for ncnn",
        "ncnn",
        "ncnn.write_ncnn",
        needs=(*MAKERS, "ncnn", "pnnx"),
        use="A few lines that run it are in docs/ncnn.md.",
    ),
    Format(
        "litert",
        ".tflite",
        "a .tflite file for LiteRT",
        "LiteRT",
        "litert.write_litert",
        needs=(*MAKERS, "ai_edge_litert"),
        options=frozenset({"batch"}),
        use="A few lines that run it are in docs/litert.md.",
    ),
)
FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}
