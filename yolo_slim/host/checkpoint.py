"""Checkpoints: a detector from a file, whichever YOLOv5 wrote it, and back into one.

How the file is read is in `reading`; nothing of it runs. The host evaluates the yaml that a
checkpoint carries: its parse_model is replaced by one that checks it first (see `yamls`).
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn
from torch import save as torch_save

from yolo_slim import weight_masks
from yolo_slim.errors import InputError, note
from yolo_slim.files import CHECKPOINT, write_aside
from yolo_slim.host.architecture import Cfg, architecture, unused
from yolo_slim.host.bare import advice, state_in
from yolo_slim.host.classes import class_names, common, experimental, known_modules, yolo
from yolo_slim.host.modernise import modernise_
from yolo_slim.host.reading import CFG, allow_list, allowed_in, read, refused_name, safe_loading
from yolo_slim.host.soundness import check_detector, check_finite
from yolo_slim.host.yamls import check_model_yaml
from yolo_slim.numerics import survives_half
from yolo_slim.text import counted

__all__ = ["Checkpoint", "allow_list", "allowed_in", "attempt_load", "finished", "load", "packed"]
__all__ += ["read", "refused_name", "safe_loading", "save_model", "write"]

STATE = "yolo_slim"  # the entry of a file that holds what the hooks of a training kept


@dataclass(frozen=True)
class Checkpoint:
    """A detector as it came from a file.

    Attributes:
        path: the file.
        model: fp32, unfused, in eval mode; the EMA where the file has one.
        names: class index to class name.
        yaml: the model yaml that it was built from.
        train: the options that it was trained with (`opt` of the host), empty where unknown.
        epoch: the last epoch, -1 for a finished training.
        kept: what the hooks of the training kept, see `hooks.Hooks.state`; empty for none.
        cfg: the model yaml (--cfg) that bare weights were opened with; None for a whole model.
    """

    path: Path
    model: nn.Module
    names: dict[int, str]
    yaml: dict[str, Any]
    train: dict[str, Any] = field(default_factory=dict)
    epoch: int = -1
    kept: dict[str, Any] = field(default_factory=dict)
    cfg: Cfg | None = None

    def __str__(self) -> str:
        params = sum(p.numel() for p in self.model.parameters())
        return f"{self.path}: {counted(len(self.names), 'class')}, {params:,} parameters"


def load(path: str | Path, cfg: Cfg | None = None) -> Checkpoint:
    """Open a checkpoint of any YOLOv5, or of yolo_slim.

    Args:
        path: a .pt file written by a YOLOv5 clone, by the pip package or by `save`; also an
            AutoShape around a model, or a state dict if there is a cfg.
        cfg: a model yaml for weights without a model: its path, the name of one that ships with us
            or YOLOv5, or its content.

    Returns:
        The checkpoint; its model is fp32, unfused, in eval mode, EMA where there is one.

    Raises:
        InputError: see `read`; also a classification model, a fused one, bare weights without a
            cfg, NaN or Inf in a tensor.

    Example:
        >>> from yolo_slim import load, save
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> checkpoint = load(save(model, "dense.pt"))
        >>> len(checkpoint.names), checkpoint.yaml["width_multiple"]
        (80, 0.25)
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError("load", f"{path!r:.80}", "the path of a checkpoint")
    path = Path(path)
    with architecture(cfg) if cfg else nullcontext():
        data = read(path)
    model = data.get("model") if data.get("ema") is None else data["ema"]
    if not isinstance(model, nn.Module):
        state = state_in(data)
        if state is None:
            raise InputError(path, "neither a model nor weights in it", CHECKPOINT)
        got = f"weights without an architecture (a state dict of {counted(len(state), 'tensor')})"
        raise InputError(path, got, advice(state))
    if CFG not in data and unused() is not None:
        note(path, f"holds its model; --cfg {unused()} is not used")
    _check_kind(model, path)
    try:
        check_model_yaml(getattr(model, "yaml", None), namespace=known_modules())
    except InputError as error:
        raise InputError(path, f"refused ({error})", "a checkpoint that holds no code") from error
    check_detector(model, path)
    try:
        weight_masks.unpack_(model)
        modernise_(model)
        model.names = complete_names(class_names(model), model.nc, path)
        train, epoch = data.get("opt") or {}, data.get("epoch")
        train = dict(vars(train) if isinstance(train, argparse.Namespace) else train)
        epoch = -1 if epoch is None else int(epoch)
    except Exception as error:  # what is in the file is not what its names say
        raise InputError(path, f"damaged ({error})", CHECKPOINT) from error
    check_finite(model, path)
    if not isinstance(train.get("imgsz", 0), int):
        del train["imgsz"]
    kept = data.get(STATE)
    return Checkpoint(
        path=path,
        model=model,
        names=model.names,
        yaml=model.yaml,
        train=train,
        epoch=epoch,
        kept=kept if isinstance(kept, dict) else {},
        cfg=data.get(CFG),
    )


def _check_kind(model: nn.Module, path: Path) -> None:
    """See that it is a detector with its BatchNorms.

    Raises:
        InputError: it is something else.
    """
    layers = getattr(model, "model", None)
    if isinstance(model, yolo.ClassificationModel):
        raise InputError(path, "a classification model", "a detection model")
    head = layers[-1] if isinstance(layers, nn.Sequential) and len(layers) else None
    if not isinstance(model, yolo.DetectionModel) or not isinstance(head, yolo.Detect):
        raise InputError(path, f"a {type(model).__name__} with no Detect head", "a detection model")
    convs = [(n, m) for n, m in model.named_modules() if isinstance(m, common.Conv)]
    fused = [n for n, m in convs if "bn" not in m._modules]
    if fused:
        got = f"a fused model ({fused[0]} has no BatchNorm), as torch.hub and exports have it"
        raise InputError(path, got, "an unfused one: the .pt that was fused")


def complete_names(names: Mapping[int, str], nc: int, where: object) -> dict[int, str]:
    """One name for each class; what is missing or too much is told in a line.

    Args:
        names: class index to name.
        nc: number of classes of the head.
        where: the file, for the line.
    """
    missing = [index for index in range(nc) if index not in names]
    if missing or len(names) > nc:
        filled = f"class{missing[0]}" if missing else ""
        filled += f" to class{missing[-1]}" if len(missing) > 1 else ""
        if missing:
            text = f"the other{'s are' if len(missing) > 1 else ' is'} called {filled}"
        else:
            text = f"the first {nc} are taken" if nc > 1 else "the first is taken"
        note(where, f"{counted(len(names), 'name')} for {counted(nc, 'class')}; {text}")
    return {index: names.get(index, f"class{index}") for index in range(nc)}


def attempt_load(
    weights: Any, device: Any = None, inplace: bool = True, fuse: bool = True
) -> nn.Module:
    """The host's attempt_load for one model, by `load`: safe, and it knows pruned models."""
    paths = weights if isinstance(weights, list) else [weights]
    if len(paths) != 1:
        raise InputError("weights", f"{len(paths)} files", "one (ensembles are not supported)")
    model = load(paths[0]).model.to(device)
    for module in model.modules():
        if hasattr(module, "inplace") and not isinstance(module, nn.Dropout):
            module.inplace = inplace
    return model.fuse().eval() if fuse else model.eval()


experimental.attempt_load = attempt_load


def write(path: str | Path, data: dict[str, Any]) -> Path:
    """torch.save through `write_aside`."""
    return write_aside(path, packed(data))


def packed(data: dict[str, Any]) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch_save({key: weight_masks.packed(value) for key, value in data.items()}, buffer)
    return buffer.getvalue()


def save_model(model: nn.Module, path: str | Path, **extra: Any) -> Path:
    """Write a model as YOLOv5 does, in half precision where every weight survives that.

    Args:
        model: any model on the allow-list; left untouched. What torch.nn.utils.prune made of it is
            written as zeros and masks.
        path: the file.
        extra: further entries of the checkpoint.
    """
    return write(path, finished(model) | extra)


def finished(model: nn.Module) -> dict[str, Any]:
    """What YOLOv5 writes at the end of a training: a copy in eval mode, half where lossless."""
    copy = weight_masks.baked(model).cpu().eval()
    copy = copy.half() if survives_half(copy) else copy.float()
    data = {"epoch": -1, "best_fitness": None, "model": copy, "ema": None, "updates": None}
    return data | {"optimizer": None, "opt": None, "date": datetime.now().isoformat()}
