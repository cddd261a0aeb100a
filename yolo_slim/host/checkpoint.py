"""Reading and writing checkpoints: safely, from whichever YOLOv5 wrote them.

Reading is torch.load(weights_only=True) under an allow-list of classes. The list maps the names
that a YOLOv5 clone gives its classes (models.common.C3) to the classes of the pip package, so the
same mechanism makes a checkpoint harmless and turns both kinds into the same model.

What the pickle says is taken as a description first and made into modules afterwards (see
`unpickle`), so nothing of the host or of torch.nn runs while a file is read. The host evaluates
the yaml that a checkpoint carries: its parse_model is replaced by one that checks it first (see
`yamls`).
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import load as torch_load
from torch import nn
from torch import save as torch_save

from yolo_slim import weight_masks
from yolo_slim.errors import InputError
from yolo_slim.files import CHECKPOINT, check_file, write_aside
from yolo_slim.host import unpickle
from yolo_slim.host.admitted import admitted
from yolo_slim.host.classes import OURS, class_names, common, experimental, known_modules, yolo
from yolo_slim.host.compat import replaced
from yolo_slim.host.yamls import check_model_yaml
from yolo_slim.numerics import survives_half

STATE = "yolo_slim"  # the entry of a file that holds what the hooks of a training kept
_OPENS_FILES = {"DetectMultiBackend", "AutoShape", "Ensemble"}  # never on the list
FORMER_HOMES = {  # where our classes were when older checkpoints were written
    "yolo_slim.models.modules": ("yolo_slim.pruning.modules",),
    "yolo_slim.models.model": ("yolo_slim.pruning.model",),
}


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
    """

    path: Path
    model: nn.Module
    names: dict[int, str]
    yaml: dict[str, Any]
    train: dict[str, Any] = field(default_factory=dict)
    epoch: int = -1
    kept: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        params = sum(p.numel() for p in self.model.parameters())
        return f"{self.path}: {len(self.names)} classes, {params:,} parameters"


def allow_list() -> list[unpickle.Pair]:
    """What a checkpoint may name: for torch.serialization.safe_globals."""
    return _allow_list(tuple(OURS.values()))


@lru_cache(maxsize=1)
def _allow_list(ours: tuple[type[nn.Module], ...]) -> list[unpickle.Pair]:
    allowed = unpickle.data_names()
    attention = nn.modules.linear.NonDynamicallyQuantizableLinear  # in nn.MultiheadAttention
    for cls in _classes(nn.modules) + [nn.DataParallel, attention]:
        name = unpickle.Name(cls)
        allowed += [(name, f"{cls.__module__}.{cls.__name__}")]
        allowed += [(name, f"torch.nn.modules.{cls.__module__.split('.')[-1]}.{cls.__name__}")]
    for cls in ours:
        homes = (cls.__module__, *FORMER_HOMES.get(cls.__module__, ()))
        allowed += [(unpickle.Name(cls), f"{home}.{cls.__name__}") for home in homes]
    for cls in _classes(common) + _classes(experimental) + _classes(yolo):
        if cls.__name__ in _OPENS_FILES:
            continue
        name = unpickle.Name(cls)
        for module in ("common", "experimental", "yolo"):  # classes moved between these
            allowed += [(name, f"{root}models.{module}.{cls.__name__}") for root in ("", "yolov5.")]
    model = unpickle.Name(yolo.DetectionModel)
    return allowed + [(model, f"{root}models.yolo.Model") for root in ("", "yolov5.")]


def _classes(module: Any) -> list[type[nn.Module]]:
    classes = {v for v in vars(module).values() if isinstance(v, type) and issubclass(v, nn.Module)}
    return sorted(classes, key=lambda cls: cls.__name__)


@contextmanager
def safe_loading() -> Iterator[None]:
    """Within the block torch.load opens YOLOv5 checkpoints safely, in the host's calls too."""
    with replaced(torch, load=_load):
        yield


def _load(file: Any, map_location: Any = None, **_: Any) -> Any:
    allowed = allowed_in(file)
    while True:
        try:
            with torch.serialization.safe_globals(allowed):
                loaded = torch_load(file, map_location=map_location, weights_only=True)
            return unpickle.build(loaded)
        except pickle.UnpicklingError as error:
            name = refused_name(error)
            cls = admitted(name) if name else None
            if name is None or cls is None or any(name == known for _, known in allowed):
                raise
            allowed.append((unpickle.Name(cls), name))
            if hasattr(file, "seek"):
                file.seek(0)


def allowed_in(file: Any) -> list[unpickle.Pair]:
    """Of the allow-list, what a file names: torch goes through all of a list for each object.

    Args:
        file: a path, or an open file, which is left at its start.
    """
    try:
        named = set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # it is damaged, or of an older format: its loading says so
        return list(allow_list())
    finally:
        if hasattr(file, "seek"):
            file.seek(0)
    return [pair for pair in allow_list() if pair[1] in named or "." not in pair[1]]


def refused_name(error: Exception) -> str | None:
    """The global that torch.load refused, from its message."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    match = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"global ([\w.]+) ", text)
    return match[1] if match else None


def read(path: str | Path) -> dict[str, Any]:
    """The dict that a checkpoint file holds, or {"model": module} for a bare module.

    Raises:
        InputError: no such file, not a checkpoint, damaged, or it names something that is not on
            the allow-list. Nothing from the file has been run.
    """
    path = check_file(path, path, CHECKPOINT)
    try:
        loaded = _load(path, map_location="cpu")
    except Exception as error:  # torch raises a dozen types on damaged files
        raise InputError(path, *_reason(path, error)) from error
    if isinstance(loaded, nn.Module):
        loaded = {"model": loaded}
    if not isinstance(loaded, dict):
        raise InputError(path, f"a {type(loaded).__name__}", "a YOLOv5 checkpoint (a dict)")
    return loaded


def _reason(path: Path, error: Exception) -> tuple[str, str]:
    text, name = str(error), refused_name(error)
    if isinstance(error, InputError):
        return f"refused ({error})", "a checkpoint that holds no code"
    if name:
        title = name.rpartition(".")[2]
        own = f"; --modules FILE admits your own {title}" if title[0].isupper() else ""
        return f"refused, it names {name}", f"classes of YOLOv5, torch.nn and yolo_slim alone{own}"
    if "persistent_load" in text:  # modules by their source, which torch does not read safely
        again = "torch 1.6 or later (torch.save of what torch.load gives)"
        return "refused, in the file format of torch before 1.6", f"a checkpoint saved by {again}"
    if "TorchScript" in text:
        return "a TorchScript archive", "a YOLOv5 checkpoint (.pt), not an export of one"
    if zipfile.is_zipfile(path):
        text = text.partition("WeightsUnpickler error:")[2] or text
        return f"refused ({type(error).__name__}: {text[:120]})", CHECKPOINT
    return "not a checkpoint, or a damaged one", CHECKPOINT


def load(path: str | Path) -> Checkpoint:
    """Open a checkpoint of any YOLOv5, or of yolo_slim.

    Args:
        path: a .pt file written by a YOLOv5 clone, by the pip package or by `save`.

    Returns:
        The checkpoint; its model is fp32, unfused, in eval mode, EMA where there is one.

    Raises:
        InputError: see `read`; also a classification model, a fused one, bare weights.

    Example:
        >>> from yolo_slim import load, save
        >>> from yolo_slim.files import shipped
        >>> from yolo_slim.models.model import build_model
        >>> model = build_model(shipped("cfg/yolov5n.yaml"))
        >>> checkpoint = load(save(model, "dense.pt"))
        >>> len(checkpoint.names), checkpoint.yaml["width_multiple"]
        (80, 0.25)
    """
    data = read(path)
    model = data.get("model") if data.get("ema") is None else data["ema"]
    model = model[0] if isinstance(model, tuple) and model else model  # (EMA, updates) before 5.0
    model = getattr(model, "module", model)  # DataParallel
    if not isinstance(model, nn.Module):
        raise InputError(path, "weights without a model", "a checkpoint with a 'model' entry")
    layers = getattr(model, "model", None)
    if isinstance(model, yolo.ClassificationModel):
        raise InputError(path, "a classification model", "a detection model")
    head = layers[-1] if isinstance(layers, nn.Sequential) and len(layers) else None
    if not isinstance(model, yolo.DetectionModel) or not isinstance(head, yolo.Detect):
        raise InputError(path, f"a {type(model).__name__} with no Detect head", "a detection model")
    convs = [(n, m) for n, m in model.named_modules() if isinstance(m, common.Conv)]
    fused = [n for n, m in convs if "bn" not in m._modules]
    if fused:
        raise InputError(path, f"a fused model ({fused[0]} has no BatchNorm)", "an unfused one")
    try:
        check_model_yaml(getattr(model, "yaml", None), namespace=known_modules())
    except InputError as error:
        raise InputError(path, f"refused ({error})", "a checkpoint that holds no code") from error
    try:
        modernise_(model)
        weight_masks.unpack_(model)
        train, epoch = data.get("opt") or {}, data.get("epoch")
        train = dict(vars(train) if isinstance(train, argparse.Namespace) else train)
        epoch = -1 if epoch is None else int(epoch)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise InputError(path, f"damaged ({error})", CHECKPOINT) from error
    if not isinstance(train.get("imgsz", 0), int):
        del train["imgsz"]
    kept = data.get(STATE)
    return Checkpoint(
        path=Path(path),
        model=model,
        names=model.names,
        yaml=model.yaml,
        train=train,
        epoch=epoch,
        kept=kept if isinstance(kept, dict) else {},
    )


def modernise_(model: nn.Module) -> None:
    """Bring a model of an older YOLOv5 to the form that 7.0 expects; fp32 and eval, in place.

    Mends: list names (before 6.2), Detect.anchor_grid as a buffer (before 6.1), a grid cached for
    another image size, Upsample without recompute_scale_factor (torch < 1.11), no `inplace`; and
    the SyncBatchNorm of a training on several GPUs.
    """
    detect = model.model[-1]
    if "anchor_grid" in detect._buffers:
        del detect._buffers["anchor_grid"]
    detect.grid = [torch.empty(0) for _ in range(detect.nl)]
    detect.anchor_grid = [torch.empty(0) for _ in range(detect.nl)]
    if not isinstance(getattr(model, "stride", None), torch.Tensor):
        model.stride = detect.stride
    model.names = class_names(model)
    model.nc = int(getattr(model, "nc", detect.nc))
    model.inplace = getattr(model, "inplace", True)
    for module in model.modules():
        if type(module) is nn.SyncBatchNorm:  # --sync-bn: it needs GPUs, its numbers do not
            module.__class__ = nn.BatchNorm2d
        if isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None
        if isinstance(
            module, yolo.Detect | nn.SiLU | nn.Hardswish | nn.LeakyReLU | nn.ReLU | nn.ReLU6
        ):
            module.inplace = getattr(module, "inplace", True)
    model.float().eval()


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
