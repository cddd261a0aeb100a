"""ModelPruned: a YOLOv5 model built from pruned.yaml, with no mask and no eval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.bare import builds_models
from yolo_slim.host.classes import known_modules, register, yolo
from yolo_slim.host.compat import replaced
from yolo_slim.host.head import inherit_boxes_
from yolo_slim.host.running import layers_named
from yolo_slim.host.tasks import SEGMENTATION, task_of_yaml
from yolo_slim.host.yamls import (
    activation_text,
    check_model_yaml,
    check_structure,
)
from yolo_slim.models.layers import build_layers, default_activation
from yolo_slim.models.modules import HEADS
from yolo_slim.models.pruned_yaml import read_yaml
from yolo_slim.models.resize import check_settings
from yolo_slim.models.sharing import share_, shared_in
from yolo_slim.weight_masks import inherit_masks_


@register
class ModelPruned(yolo.DetectionModel):
    """A detector with explicit channel counts; to the host it is a DetectionModel.

    Args:
        cfg: a pruned yaml, as a path or a dict. It is not changed.
        ch: image channels, where the yaml does not say.
        nc: number of classes, to override the yaml's.
        anchors: anchors a layer (int), to override the yaml's with AutoAnchor's.

    Attributes:
        maskbndict: BN name of the dense model to bool (C,), True = kept; empty before pruning.
        ancestry: one dict a cut: what it was cut from and how (see report.json).

    Raises:
        InputError: the yaml is not that of a pruned model.
    """

    def __init__(
        self,
        cfg: str | Path | Mapping = "pruned.yaml",
        ch: int = 3,
        nc: int | None = None,
        anchors: Any = None,
    ) -> None:
        where = "pruned yaml" if isinstance(cfg, Mapping) else str(cfg)
        data = deepcopy(dict(cfg)) if isinstance(cfg, Mapping) else read_yaml(cfg)
        check_model_yaml(data, where, known_modules())
        check_structure(data, lambda name: name in HEADS or name == "Segment", where)
        with replaced(yolo, parse_model=build_layers):
            super().__init__(data, ch=ch, nc=nc, anchors=anchors)
        self.nc = self.yaml["nc"]
        names = data.get("names") or {}
        same = len(names) == self.nc
        self.names = (
            {int(k): str(v) for k, v in names.items()}
            if same
            else {i: str(i) for i in range(self.nc)}
        )
        self.maskbndict: dict[str, torch.Tensor] = {}
        self.ancestry: list[dict[str, Any]] = []


@register
class SegmentationModelPruned(ModelPruned, yolo.SegmentationModel):
    """A ModelPruned with a Segment head; to the host it is a SegmentationModel."""


def is_pruned_yaml(data: Any) -> bool:
    """True if a model yaml gives explicit counts."""
    rows = [*data.get("backbone", []), *data.get("head", [])] if isinstance(data, Mapping) else []
    named = any(isinstance(row[2], str) and row[2].endswith("Pruned") for row in rows)
    return named or bool(rows and data.get("pruned"))


@builds_models
def build_model(cfg: str | Path | Mapping, **kwargs: Any) -> nn.Module:
    """The host's Model(cfg, ...) or SegmentationModel(cfg, ...), for any model yaml."""
    data = cfg if isinstance(cfg, Mapping) else read_yaml(cfg)
    segmentation = task_of_yaml(data) is SEGMENTATION
    where = "model yaml" if isinstance(cfg, Mapping) else str(cfg)
    if is_pruned_yaml(data):
        model: Any = SegmentationModelPruned if segmentation else ModelPruned
    else:
        model = yolo.SegmentationModel if segmentation else yolo.Model
    try:
        with default_activation(None), layers_named(where):  # an `activation` would stay for others
            return model(data if isinstance(data, dict) else dict(data), **kwargs)
    except InputError as error:
        first, *rest = error.parts
        for name in ("model yaml", "pruned yaml"):
            first = first.replace(name, where, 1) if where != "model yaml" else first
        raise InputError(first, *rest) from error


def build_heir(source: nn.Module | None, *, boxes: bool = False) -> Callable[..., nn.Module]:
    """`build_model`, and what it builds from the yaml of a source has the source's activations,
    which a yaml of an older YOLOv5 does not name, shares what the source shares, has its masks and
    ancestry if it is pruned, and its weight masks.

    Args:
        source: the model of a checkpoint, whose weights the host then loads; None: there is none.
        boxes: for other classes than the source's, the head has what that one's knows of boxes; the
            host begins with a whole new one.
    """

    def build(cfg: Any, **kwargs: Any) -> nn.Module:
        model = build_model(cfg, **kwargs)
        if source is not None and isinstance(cfg, Mapping):
            copy_activations_(model, source)
            copy_bare_norms_(model, source)
            check_settings(source, model)
            share_(model, shared_in(source))
        if isinstance(model, ModelPruned) and isinstance(source, ModelPruned):
            model.maskbndict, model.ancestry = dict(source.maskbndict), list(source.ancestry)
        if source is not None:
            inherit_masks_(model, source)
        if source is not None and boxes:
            inherit_boxes_(model, source)
        return model

    return build


def copy_activations_(model: nn.Module, source: nn.Module) -> None:
    """Give a model the activations of another one with the same layers."""
    theirs = dict(source.named_modules(remove_duplicate=False))
    for name, module in model.named_modules():
        act = getattr(theirs.get(name), "act", None)
        if isinstance(act, nn.Module) and hasattr(module, "act"):
            same = type(act) is type(module.act) and activation_text(act) == (
                activation_text(module.act)
            )
            module.act = module.act if same else deepcopy(act)


def copy_bare_norms_(model: nn.Module, source: nn.Module) -> None:
    """Give a model the BatchNorms of another one that have no gamma or no running statistics.

    No yaml names them. They are not cut: the sizes are the same.
    """
    ours = dict(model.named_modules())
    for name, norm in source.named_modules():
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(ours.get(name), nn.BatchNorm2d):
            continue
        if norm.weight is None or norm.running_mean is None:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, deepcopy(norm))
