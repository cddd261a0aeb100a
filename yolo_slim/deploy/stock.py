"""A checkpoint that plain YOLOv5 opens: its own classes alone, under the names of a clone.

A pruned C3 differs from the host's C3 in its constructor, not in its forward; a pickle calls no
constructor. So each pruned class is put back to the class that it comes from, and classes are named
models.* (the pip package, which puts its folder on sys.path, opens these too; its export.py leaves
the three maps of Detect in the file, as it does with each checkpoint that has these names).

YOLOv5's train.py calls constructors: it builds the model anew from the yaml and keeps the weights
that happen to fit. A yaml with C3Pruned stops it; from one that it could build, with other counts,
the multiples are taken away, which stops it as well.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn
from torch import save as torch_save

from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.host.checkpoint import finished
from yolo_slim.host.classes import common, yolo
from yolo_slim.models import model as pruned_models
from yolo_slim.models import modules as pruned_modules
from yolo_slim.weight_masks import baked

PLAIN: dict[type, type] = {
    pruned_modules.BottleneckPruned: common.Bottleneck,
    pruned_modules.C3Pruned: common.C3,
    pruned_modules.SPPFPruned: common.SPPF,
    pruned_modules.SPPPruned: common.SPP,
    pruned_modules.SegmentPruned: yolo.Segment,
    pruned_models.ModelPruned: yolo.DetectionModel,
    pruned_models.SegmentationModelPruned: yolo.SegmentationModel,
}
OURS = ("maskbndict", "ancestry", "weight_masks")
# fuse() asks for the Conv that models/yolo.py knows. In a clone that is models.common.Conv too; in
# the pip package it is another class, and a file that names models.common.Conv is never fused.
KNOWN_TO_YOLO = (common.Conv, common.DWConv)
ALLOWED = ("models.", "torch.", "collections.OrderedDict", "__builtin__.getattr", "__builtin__.set")


def stock(model: nn.Module) -> nn.Module:
    """A copy of a model in YOLOv5's own classes.

    Args:
        model: any model of yolo_slim; left untouched.

    Raises:
        InputError: it has a module that YOLOv5 does not have.
    """
    copy = baked(model)
    for name, module in copy.named_modules():
        module.__class__ = PLAIN.get(type(module), type(module))
        home = type(module).__module__
        if not home.startswith(("yolov5.models.", "torch.nn.")):
            got = f"a {type(module).__name__} of {home}"
            raise InputError(f"--include stock, {name}", got, "modules of YOLOv5 and torch.nn")
    for attribute in OURS:
        copy.__dict__.pop(attribute, None)
    copy.yaml = stock_yaml(copy.yaml)
    for layer in copy.model:
        layer.type = f"{type(layer).__module__}.{type(layer).__name__}".removeprefix("yolov5.")
    head = copy.model[-1]  # its grids are of the last image, and not for half precision
    head.grid, head.anchor_grid = ([torch.empty(0) for _ in range(head.nl)] for _ in range(2))
    return copy


def stock_yaml(yaml: Mapping[str, Any]) -> dict[str, Any]:
    """The yaml of a model, from which YOLOv5 builds this model or none."""
    rows = [*yaml["backbone"], *yaml["head"]]
    if not yaml.get("pruned") or any(row[2].endswith("Pruned") for row in rows):
        return dict(yaml)
    return {k: v for k, v in yaml.items() if k not in ("depth_multiple", "width_multiple")}


def to_stock(model: nn.Module) -> bytes:
    """The content of a .pt file as YOLOv5 leaves one at the end of a training.

    Raises:
        InputError: see `stock`.
        CheckFailed: the file names something besides YOLOv5's and torch's classes.
    """
    buffer = io.BytesIO()
    data = finished(stock(model)) | {"git": None}
    torch_save(data, buffer, pickle_module=_clone_pickle(), pickle_protocol=2)
    content = buffer.getvalue()
    foreign = [name for name in names(content) if not name.startswith(ALLOWED)]
    if foreign:
        raise CheckFailed(f"the stock checkpoint names {', '.join(foreign)}")
    return content


def write_stock(model: nn.Module, options: ExportOptions) -> bytes:
    """`to_stock` as an export format."""
    return to_stock(model)


def names(content: bytes | Path) -> list[str]:
    """Every class and function that a .pt file names, sorted; nothing is loaded."""
    with zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content) as archive:
        inside = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        operations = pickletools.genops(archive.read(inside))  # protocol 2 names by GLOBAL
        return sorted(
            {str(arg).replace(" ", ".") for op, arg, _ in operations if op.name == "GLOBAL"}
        )


_Pickler: Any = pickle._Pickler  # in Python: the one in C does not ask save_global


class _ClonePickler(_Pickler):
    """Names the classes of yolov5.models as a clone does."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        home, title = getattr(obj, "__module__", ""), obj.__qualname__
        home = "yolov5.models.yolo" if obj in KNOWN_TO_YOLO else home
        if home.startswith("yolov5.") and "." not in title:
            self.write(pickle.GLOBAL + f"{home.removeprefix('yolov5.')}\n{title}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch = {**_Pickler.dispatch, FunctionType: save_global}


def _clone_pickle() -> ModuleType:
    module = ModuleType("clone_pickle")
    module.__dict__.update(vars(pickle), Pickler=_ClonePickler)
    return module
