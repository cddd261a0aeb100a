"""How a model is exported: what writers and runners of all formats are given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        imgsz: side of the image, px.
        batch: images a call.
        dynamic: batch and image size may change from call to call.
        simplify: the graph is simplified.
        opset: ONNX operator set.
        threads: of what runs the file, to compare it.
    """

    imgsz: int = 640
    batch: int = 1
    dynamic: bool = False
    simplify: bool = True
    opset: int = 17
    threads: int = 2
