"""How a model is exported: what the writers of all formats are given."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_IMAGES = 16  # to calibrate 8 bits on


@dataclass(frozen=True)
class Nms:
    """How boxes are suppressed; the thresholds are those of YOLOv5's detect, max_det of its NMS.

    Attributes:
        conf_thres: boxes of lower scores go.
        iou_thres: overlap (IoU) with a better box above which a box goes.
        max_det: boxes an image, at most.
        agnostic: boxes suppress those of other classes, too.
    """

    conf_thres: float = 0.25
    iou_thres: float = 0.45
    max_det: int = 300
    agnostic: bool = False


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        imgsz: height and width of the image, px.
        batch: images a call.
        dynamic: batch and image size may change from call to call.
        simplify: the ONNX graph is simplified.
        opset: ONNX operator set.
        nms: non-maximum suppression is in the file; None: it is not.
        half: weights and arithmetic in float16, as far as the format has that.
    """

    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    dynamic: bool = False
    simplify: bool = True
    opset: int = 17
    half: bool = False
    nms: Nms | None = None
