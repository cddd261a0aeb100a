"""How a model is exported: what the writers of all formats are given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        imgsz: height and width of the image, px.
        batch: images a call.
        dynamic: batch and image size may change from call to call.
        simplify: the ONNX graph is simplified.
        opset: ONNX operator set.
        half: weights and arithmetic in float16, as far as the format has that.
    """

    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    dynamic: bool = False
    simplify: bool = True
    opset: int = 17
    half: bool = False
