"""Reading a checkpoint's file: safely, whatever YOLOv5 wrote it, and whatever is wrapped around.

Reading is torch.load(weights_only=True) under an allow-list of classes. The list maps the names
that a YOLOv5 clone gives its classes (models.common.C3) to the classes of the pip package, so the
same mechanism makes a checkpoint harmless and turns both kinds into the same model.

What the pickle says is taken as a description first and made into modules afterwards (see
`unpickle`), so nothing of the host or of torch.nn runs while a file is read. `plain` then takes the
model out of what is around it: DataParallel, AutoShape, the masks of torch.nn.utils.prune.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import load as torch_load
from torch import nn

from yolo_slim import weight_masks
from yolo_slim.errors import InputError
from yolo_slim.files import CHECKPOINT, check_file
from yolo_slim.host import unpickle
from yolo_slim.host.admitted import admitted
from yolo_slim.host.architecture import given
from yolo_slim.host.archive import check_archive
from yolo_slim.host.bare import build_bare, state_in
from yolo_slim.host.classes import OURS, common, experimental, yolo
from yolo_slim.host.clone_classes import settle_, with_clones
from yolo_slim.host.compat import replaced

WRAPPERS = ("AutoShape", "autoShape", "DetectMultiBackend")  # what they hold is taken
_OPENS_FILES = {*WRAPPERS, "Ensemble"}  # never on the list as what they are
CFG = "built by"  # the entry, in memory alone, of what has been built from bare weights
FORMER_HOMES = {  # where our classes were when older checkpoints were written
    "yolo_slim.models.modules": ("yolo_slim.pruning.modules",),
    "yolo_slim.models.model": ("yolo_slim.pruning.model",),
}
HELPERS = ("attempt_load", "attempt_download")  # DetectMultiBackend keeps them as attributes
HELPER_HOMES = ("models.experimental", "utils.downloads", "utils.google_utils")
OUR_HELPERS = ("yolo_slim.host.checkpoint.attempt_load", "yolo_slim.host.compat.local_file")


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
    model, wrapper = unpickle.Name(yolo.DetectionModel), unpickle.Name(unpickle.Wrapper)
    foreign = unpickle.Name(unpickle.Foreign)
    allowed += [(foreign, home) for home in OUR_HELPERS]
    for root in ("", "yolov5."):
        allowed += [(model, f"{root}models.yolo.Model")]
        allowed += [(wrapper, f"{root}models.common.{title}") for title in WRAPPERS]
        allowed += [(foreign, f"{root}{home}.{f}") for home in HELPER_HOMES for f in HELPERS]
    return allowed


def _classes(module: Any) -> list[type[nn.Module]]:
    classes = {v for v in vars(module).values() if isinstance(v, type) and issubclass(v, nn.Module)}
    return sorted(classes, key=lambda cls: cls.__name__)


@contextmanager
def safe_loading() -> Iterator[None]:
    """Within the block torch.load opens YOLOv5 checkpoints safely, in the host's calls too."""
    with replaced(torch, load=_load):
        yield


def _load(file: Any, map_location: Any = None, **_: Any) -> Any:
    return plain(_built(file, map_location), file)


def _built(file: Any, map_location: Any) -> Any:
    allowed = with_clones(allowed_in(file))
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
    """The dict that a checkpoint file holds, as `plain` leaves it.

    Raises:
        InputError: no such file, not a checkpoint, damaged, or it names something that is not on
            the allow-list. Nothing from the file has been run.
    """
    path = check_file(path, path, CHECKPOINT)
    check_archive(path)
    try:
        loaded = _built(path, "cpu")
    except Exception as error:  # torch raises a dozen types on damaged files
        raise InputError(path, *_reason(path, error)) from error
    loaded = plain(loaded, path)
    if not isinstance(loaded, dict):
        raise InputError(path, f"a {type(loaded).__name__}", "a YOLOv5 checkpoint (a dict)")
    return loaded


def plain(loaded: Any, where: object = "checkpoint") -> Any:
    """What a file holds, with models as YOLOv5's code expects them.

    A module becomes {"model": module}. A model comes out of DataParallel, and out of (EMA, updates)
    as before 5.0; masks of torch.nn.utils.prune become zeros and `weight_masks`. A state dict
    without a model is built where a --cfg says how (see `architecture`).

    Args:
        loaded: of `unpickle.build`.
        where: the file, for errors.

    Raises:
        InputError: the --cfg does not fit the weights.
    """
    if isinstance(loaded, nn.Module):
        loaded = {"model": loaded}
    if not isinstance(loaded, dict):
        return loaded
    found = dict(loaded)
    for key in ("model", "ema"):
        value = found.get(key)
        value = value[0] if isinstance(value, tuple) and value else value
        while isinstance(value, nn.DataParallel):
            value = value.module
        if isinstance(value, nn.Module):
            found[key] = weight_masks.bake_(settle_(value))
    modules = [found[key] for key in ("model", "ema") if isinstance(found.get(key), nn.Module)]
    if modules:
        found["model"] = modules[0]  # the EMA, where there is no other
        if not isinstance(found.get("ema"), nn.Module):
            found["ema"] = None  # a state dict, beside its model
        return found
    state, cfg = state_in(found), given()
    if state is None or cfg is None:
        return loaded
    model = build_bare(state, cfg, where, found.get("names"))
    return {**found, "model": weight_masks.bake_(model), "ema": None, CFG: cfg}


def _reason(path: Path, error: Exception) -> tuple[str, str]:
    text, name = str(error), refused_name(error)
    if isinstance(error, InputError):
        return f"refused ({error})", "a checkpoint that holds no code"
    if name and name.startswith("ultralytics."):
        got = "a model of the ultralytics package (YOLOv8 and later, or a u model as yolov5nu.pt)"
        return got, "a model of YOLOv5 7.0 or before, such as the yolov5n.pt of its release v7.0"
    if name:
        title = name.rpartition(".")[2]
        own = f"; --modules FILE admits your own {title}, --clone DIR the classes of a clone"
        own = own if title[0].isupper() else ""
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
