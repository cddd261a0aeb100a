"""ONNX and TorchScript as YOLOv5 writes them: same inputs, outputs and metadata."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from yolo_slim.deploy.head import decode_by_planes_
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.deploy.unknown import refused_by_torch
from yolo_slim.host.classes import class_names, yolo
from yolo_slim.host.compat import replaced
from yolo_slim.host.image import sides
from yolo_slim.packages import MAKERS, imported
from yolo_slim.runtimes.network import unheard
from yolo_slim.weight_masks import baked

LOGGER = logging.getLogger("yolov5")


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed in the block but by ourselves.

    Tracing warns at each shape that Detect looks at, and that the legacy exporter is legacy; the
    host prints the model that it builds or fuses. torch.onnx.export(dynamo=True) fails on this
    model in torch 2.14, so the legacy one it is.
    """
    level = logging.getLogger("torch.onnx").level
    try:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with replaced(LOGGER, disabled=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def exportable(model: nn.Module, dynamic: bool = False, half: bool = False) -> nn.Module:
    """A copy in the form that exporters take: fused, eval, fp32, Detect in export mode.

    Args:
        model: a detector; left untouched. Masks over its weights are zeros in the copy.
        dynamic: the image size may change from call to call.
        half: all up to the last convs is in float16; images, boxes and scores stay float32.
    """
    with quiet():
        copy = baked(model).cpu().float().eval().fuse()
    for module in copy.modules():
        if isinstance(module, yolo.Detect):
            module.inplace, module.dynamic, module.export = False, dynamic, True
    for parameter in copy.parameters():
        parameter.requires_grad = False
    return half_up_to_decoding_(copy) if half else copy


def half_up_to_decoding_(model: nn.Module) -> nn.Module:
    """Let a model compute in float16, in place, but for its images, boxes, scores and prototypes.

    Boxes of 640 px have steps of 0.5 px in float16: the anchors stay as they are, and the heads
    decode in float32, see `decode_by_planes_`.
    """
    heads = [module for module in model.modules() if isinstance(module, yolo.Detect)]
    anchors = [head.anchors for head in heads]
    model.half().register_forward_pre_hook(lambda _, images: (images[0].half(),))
    for head, exact in zip(heads, anchors, strict=True):
        head.anchors = exact
        if isinstance(head, yolo.Segment):
            head.proto.register_forward_hook(lambda _module, _maps, out: out.float())
    return model


@torch.no_grad()
def to_onnx(
    model: nn.Module,
    *,
    imgsz: int | tuple[int, int] = 640,
    batch: int = 1,
    dynamic: bool = False,
    simplify: bool = True,
    opset: int = 17,
    half: bool = False,
) -> bytes:
    """Export to ONNX.

    Args:
        model: a detector; left untouched.
        imgsz: side of the image, or height and width, px.
        batch: images a call.
        dynamic: batch and image size may change (by multiples of the stride).
        simplify: run onnxslim over the graph.
        opset: ONNX operator set.
        half: weights and arithmetic in float16, but for the decoding; see `exportable`.

    Returns:
        The file's content. Input images (batch, 3, height, width) in [0, 1]; output0 (batch,
        anchors, 5 + nc): x, y, w, h in px, objectness, class scores. Metadata: stride, names.
        Of a segmentation model output0 goes on with nm mask coefficients, and output1 has the
        prototypes (batch, nm, height / 4, width / 4): a mask is sigmoid(coefficients @ prototypes).
    """
    onnx, onnxslim = (imported("ONNX", name) for name in MAKERS)
    copy = exportable(model, dynamic, half)
    decode_by_planes_(copy)
    image = torch.zeros(batch, 3, *sides(imgsz))
    copy(image)  # makes the grids
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 1: "anchors"}}
    if isinstance(model, yolo.SegmentationModel):
        axes["output1"] = {0: "batch", 2: "mask_height", 3: "mask_width"}
    buffer = io.BytesIO()
    with quiet(), onnx_errors_told(copy, image):
        torch.onnx.export(
            copy,
            (image,),
            buffer,
            opset_version=opset,
            do_constant_folding=True,
            input_names=["images"],
            output_names=[name for name in axes if name != "images"],
            dynamic_axes=axes if dynamic else None,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    if simplify:
        graph = onnxslim.slim(graph)
    onnx.checker.check_model(graph)
    del graph.metadata_props[:]
    for key, value in metadata(model).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, str(value)
    return graph.SerializeToString()


@contextmanager
def onnx_errors_told(model: nn.Module, image: torch.Tensor) -> Iterator[None]:
    """In the block an operator that the exporter does not know is one line.

    Raises:
        InputError: there is one.
    """
    try:
        with unheard(1):  # it prints the whole graph before it fails, from C++
            yield
    except torch.onnx.errors.OnnxExporterError as error:
        raise refused_by_torch(error, model, image) from error


@torch.no_grad()
def to_torchscript(
    model: nn.Module, *, imgsz: int | tuple[int, int] = 640, batch: int = 1
) -> bytes:
    """Export to TorchScript by tracing; config.txt holds shape, stride and names as in YOLOv5.

    Returns:
        The file's content.
    """
    copy = exportable(model)
    image = torch.zeros(batch, 3, *sides(imgsz))
    copy(image)
    buffer = io.BytesIO()
    with quiet():
        traced = torch.jit.trace(copy, image, strict=False)
        config = json.dumps({"shape": list(image.shape), **metadata(model)})
        torch.jit.save(traced, buffer, _extra_files={"config.txt": config})
    return buffer.getvalue()


def write_onnx(model: nn.Module, options: ExportOptions) -> bytes:
    """`to_onnx` as an export format, with `with_nms` where the options ask for it."""
    content = to_onnx(
        model,
        imgsz=options.imgsz,
        batch=options.batch,
        dynamic=options.dynamic,
        simplify=options.simplify,
        opset=options.opset,
        half=options.half,
    )
    if options.nms is None:
        return content
    from yolo_slim.deploy.nms import with_nms

    return with_nms(content, model, options.nms)


def write_torchscript(model: nn.Module, options: ExportOptions) -> bytes:
    """`to_torchscript` as an export format."""
    return to_torchscript(model, imgsz=options.imgsz, batch=options.batch)


def metadata(model: nn.Module) -> dict[str, Any]:
    """What YOLOv5 writes into an export: stride and names."""
    return {"stride": int(max(model.stride)), "names": class_names(model)}
