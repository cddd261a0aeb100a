"""Non-maximum suppression put behind an ONNX graph: boxes, scores and classes come out of the file.

It is YOLOv5's, as its detect does it: a box has its best class, a score is objectness times class
score, and boxes of different classes do not suppress each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from tqdm import tqdm

from yolo_slim.deploy.options import Nms
from yolo_slim.host.classes import yolo
from yolo_slim.host.compat import mend
from yolo_slim.text import counted

mend()

from yolov5.utils.general import non_max_suppression  # noqa: E402

APART = 7680.0  # px, as in YOLOv5: boxes of different classes are moved so far from each other
NAMES = ("count", "boxes", "scores", "classes", "coefficients")


def with_nms(content: bytes, model: nn.Module, settings: Nms) -> bytes:
    """An ONNX file with non-maximum suppression at its end.

    Args:
        content: of a file that returns (batch, anchors, 5 + nc + nm), and prototypes of a
            segmentation model.
        model: that it was exported from.
        settings: thresholds.

    Returns:
        The content of a file that returns, for max_det detections an image, the best first:
        count (batch,) int64, how many of them there are, and
        boxes (batch, max_det, 4) float32: left, top, right, bottom, px, beyond the count 0;
        scores (batch, max_det) float32, beyond the count 0;
        classes (batch, max_det) int64, beyond the count -1;
        of a segmentation model also coefficients (batch, max_det, nm) float32, and the prototypes
        as before (output1): a mask is sigmoid(coefficients @ prototypes).
    """
    proto = onnx.load_from_string(content)
    classes = int(model.model[-1].nc)
    masks = int(model.model[-1].nm) if isinstance(model, yolo.SegmentationModel) else 0
    graph = _Graph(proto)
    raw = proto.graph.output[0].name
    xy, wh = graph.cut(raw, 0, 2), graph.cut(raw, 2, 4)
    objectness, known = graph.cut(raw, 4, 5), graph.cut(raw, 5, 5 + classes)
    half = graph.add("Mul", wh, graph.constant(0.5))
    boxes = graph.add("Concat", graph.add("Sub", xy, half), graph.add("Add", xy, half), axis=2)
    scores = graph.add("Mul", known, objectness)
    best = graph.add("ArgMax", scores, axis=2, keepdims=1)
    top = graph.largest(scores)
    own = boxes
    if not settings.agnostic:
        shift = graph.add("Mul", graph.cast(best, TensorProto.FLOAT), graph.constant(APART))
        own = graph.add("Add", boxes, shift)
    chosen = graph.add(
        "NonMaxSuppression",
        own,
        graph.add("Transpose", top, perm=[0, 2, 1]),
        graph.ints(settings.max_det),
        graph.constant([settings.iou_thres]),
        graph.constant([settings.conf_thres]),
    )  # (found, 3): image, 0, anchor
    image, anchor = graph.column(chosen, 0), graph.column(chosen, 2)
    place, count = graph.places(image, raw)
    where = graph.add("Concat", graph.rows(image), graph.rows(place), axis=1)
    source = graph.add("Concat", graph.rows(image), graph.rows(anchor), axis=1)
    flat = {
        "boxes": (boxes, 4, np.float32(0)),
        "scores": (top, 1, np.float32(0)),
        "classes": (best, 1, np.int64(-1)),
    }
    if masks:
        columns = graph.cut(raw, 5 + classes, 5 + classes + masks)
        flat["coefficients"] = graph.add("Mul", columns, objectness), masks, np.float32(0)
    outputs = [graph.output("count", count, TensorProto.INT64, [None])]
    for name, (values, size, empty) in flat.items():
        found = graph.add("GatherND", values, source)  # (found, size)
        padded = graph.scatter(empty, size, count, settings.max_det, where, found)
        shape = [None, settings.max_det, *([size] if name in ("boxes", "coefficients") else [])]
        if name in ("scores", "classes"):
            padded = graph.squeezed(padded, 2)
        kind = TensorProto.INT64 if name == "classes" else TensorProto.FLOAT
        outputs.append(graph.output(name, padded, kind, shape))
    kept = list(proto.graph.output)[1:]  # prototypes
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    for out in outputs:
        out.type.tensor_type.shape.dim[0].CopyFrom(batch)
    del proto.graph.output[:]
    proto.graph.output.extend([*outputs, *kept])
    entry = proto.metadata_props.add()
    entry.key, entry.value = "nms", str(settings)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


class _Graph:
    """Nodes that are added to the end of an ONNX graph."""

    def __init__(self, proto: Any) -> None:
        self.graph, self.count = proto.graph, 0
        self.opset = next(
            each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")
        )

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output; its name."""
        self.count += 1
        name = f"nms/{kind}_{self.count}"
        self.graph.node.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """A stored tensor; its name."""
        self.count += 1
        name = f"nms/constant_{self.count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def ints(self, *values: int) -> str:
        """A stored list of whole numbers; its name."""
        return self.constant(values, np.int64)

    def output(self, name: str, value: str, kind: int, shape: Sequence[int | None]) -> Any:
        """A value under the name of an output."""
        self.graph.node.append(helper.make_node("Identity", [value], [name], f"nms/{name}"))
        return helper.make_tensor_value_info(name, kind, shape)

    def cut(self, value: str, start: int, end: int) -> str:
        """Columns of (batch, anchors, columns)."""
        ends = [self.ints(number) for number in (start, end, 2)]
        return self.add("Slice", value, *ends)

    def cast(self, value: str, kind: int) -> str:
        """As another type."""
        return self.add("Cast", value, to=kind)

    def largest(self, value: str) -> str:
        """The largest of the columns: (batch, anchors, 1)."""
        if self.opset < 18:
            return self.add("ReduceMax", value, axes=[2], keepdims=1)
        return self.add("ReduceMax", value, self.ints(2), keepdims=1)

    def squeezed(self, value: str, axis: int) -> str:
        """Without an axis of length 1."""
        if self.opset < 13:
            return self.add("Squeeze", value, axes=[axis])
        return self.add("Squeeze", value, self.ints(axis))

    def rows(self, value: str) -> str:
        """(n,) as (n, 1)."""
        return self.add("Reshape", value, self.ints(-1, 1))

    def column(self, value: str, index: int) -> str:
        """One of the columns of (n, columns): (n,)."""
        return self.add("Gather", value, self.constant(index, np.int64), axis=1)

    def places(self, image: str, raw: str) -> tuple[str, str]:
        """Of each box its place in its image's list, and how many boxes each image has.

        Args:
            image: (found,), which begins with those of the first image.
            raw: what the model returns, (batch, ...).
        """
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        batch = self.add("Gather", self.add("Shape", raw), zero, axis=0)
        each = self.rows(self.add("Range", zero, batch, one))  # (batch, 1)
        same = self.cast(self.add("Equal", each, image), TensorProto.INT64)  # (batch, found)
        if self.opset < 13:
            count = self.add("ReduceSum", same, axes=[1], keepdims=0)
        else:
            count = self.add("ReduceSum", same, self.ints(1), keepdims=0)
        start = self.add("CumSum", count, zero, exclusive=1)
        found = self.add("Gather", self.add("Shape", image), zero, axis=0)
        order = self.add("Range", zero, found, one)
        return self.add("Sub", order, self.add("Gather", start, image, axis=0)), count

    def scatter(self, empty: Any, size: int, count: str, most: int, where: str, rows: str) -> str:
        """Rows in their places, (batch, most, size), the others empty."""
        rest = self.ints(most, size)
        shape = self.add("Concat", self.add("Shape", count), rest, axis=0)
        value = numpy_helper.from_array(np.asarray([empty]))
        blank = self.add("ConstantOfShape", shape, value=value)
        return self.add("ScatterND", blank, where, rows)


def compare_nms(
    raw: Callable[[np.ndarray], Sequence[np.ndarray]],
    suppressed: Callable[[np.ndarray], Sequence[np.ndarray]],
    batches: Sequence[np.ndarray],
    settings: Nms,
    masks: int = 0,
) -> str:
    """Run two files on the same images: one with suppression in it, and one without.

    Args:
        raw: images to (n, anchors, 5 + nc + nm).
        suppressed: the same images to what `with_nms` returns.
        batches: images.
        settings: of the file.
        masks: nm.

    Returns:
        What is not as YOLOv5's own suppression of the raw rows has it; "" where all is. Of boxes
        with the same score either may stay: images in which scores are the same are let pass.
    """
    nc_end = -masks or None
    for number, batch in enumerate(tqdm(batches, desc="comparing NMS", unit="batch", leave=False)):
        rows = raw(batch)[0]
        scores = (rows[..., 5:nc_end] * rows[..., 4:5]).max(-1)
        expected = non_max_suppression(
            torch.from_numpy(rows.copy()),  # it is changed
            settings.conf_thres,
            settings.iou_thres,
            agnostic=settings.agnostic,
            max_det=settings.max_det,
            nm=masks,
        )
        count, *values = suppressed(batch)
        for index, boxes in enumerate(expected):
            found = [value[index][: int(count[index])] for value in values[: 4 if masks else 3]]
            fault = unlike(found, boxes.numpy())
            candidates = scores[index][scores[index] > settings.conf_thres]
            if fault and len(np.unique(candidates)) == len(candidates):
                return f"{fault} in batch {number}"
    return ""


def unlike(found: Sequence[np.ndarray], expected: np.ndarray) -> str:
    """What of an image's boxes, scores, classes and coefficients is not as expected; "" if nothing.

    Args:
        found: (n, 4), (n,), (n,) and perhaps (n, nm).
        expected: (n, 6 + nm), as YOLOv5 returns them.
    """
    if len(found[0]) != len(expected):
        return f"{len(found[0])} in place of {counted(len(expected), 'box')}"
    wanted = (expected[:, :4], expected[:, 4], expected[:, 5], expected[:, 6:])
    for name, want, got in zip(NAMES[1:], wanted, found, strict=False):
        if not np.allclose(got, want, atol=1e-3, rtol=1e-4):
            return f"other {name}"
    return ""
