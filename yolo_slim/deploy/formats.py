"""The table of export formats.

A row here and two functions, one that writes and one that runs, are a format; --help, messages and
the docs read the rows. Nothing heavy is imported for them: a row names its functions, which are
imported when a model is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yolo_slim.deploy.options import ExportOptions
from yolo_slim.late import function_at


@dataclass(frozen=True)
class Format:
    """A file that a model is exported to.

    Attributes:
        name: of --include.
        suffix: what follows the name of the checkpoint.
        help: what it is, in a few words.
        writer: module of this package and function: (model, options) to the file's content.
        runner: the same: (content, options) to a function of images (n, 3, h, w), float32 in
            [0, 1], to outputs as numpy arrays.
        sizes: it takes images of other sizes where it was exported as dynamic.
        exact: its outputs are those of the model, to the last bit.
        use: how it is used, a sentence for who has just written it.
    """

    name: str
    suffix: str
    help: str
    writer: str
    runner: str
    sizes: bool = False
    exact: bool = False
    use: str = ""

    def write(self, model: Any, options: ExportOptions) -> bytes:
        """The content of the file."""
        content: bytes = function_at(__package__, self.writer)(model, options)
        return content

    def run(self, content: bytes, options: ExportOptions) -> Callable[[Any], Any]:
        """A function that runs the file's content."""
        function: Callable[[Any], Any] = function_at(__package__, self.runner)(content, options)
        return function


_ROWS = (
    Format(
        "onnx",
        ".onnx",
        "ONNX",
        "export.write_onnx",
        "runners.run_onnx",
        sizes=True,
        use="A short Python program that runs it is in docs/use-onnx.md.",
    ),
    Format(
        "torchscript",
        ".torchscript",
        "TorchScript",
        "export.write_torchscript",
        "runners.run_torchscript",
    ),
    Format(
        "stock",
        "-stock.pt",
        "a checkpoint that plain YOLOv5 opens",
        "stock.write_stock",
        "runners.run_stock",
        exact=True,
    ),
)
FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}
