"""A clone's classes that bear a name of YOLOv5's: which of the two a model gets.

YOLOv5 versions differ in words more often than in what they compute. So both are tried on the model
itself: where YOLOv5's class gives the same outputs it is taken, and its channels can be cut. Where
it does not, the model was trained with the clone's, which is kept and named in a line; it has no
rule, so it stays dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import InputError, note
from yolo_slim.host.admitted import ADMITTED, CLONES
from yolo_slim.host.classes import yolo
from yolo_slim.host.clone import HOST, Clone
from yolo_slim.host.modernise import modernise_
from yolo_slim.host.unpickle import Name, Pair

NEEDED = (yolo.BaseModel, yolo.Detect)  # what is asked for by type everywhere


def with_clones(allowed: list[Pair]) -> list[Pair]:
    """An allow-list in which the names of a clone's changed classes mean these."""
    return [(_of_a_clone(name) or meant, name) for meant, name in allowed]


def _of_a_clone(name: str) -> Name | None:
    title = name.rpartition(".")[2]
    if not name.startswith("models.") or title not in HOST or title in ("Ensemble", "AutoShape"):
        return None
    for clone in CLONES:
        cls = None if title == "DetectMultiBackend" else clone.find(name)
        if cls is not None and cls.__module__.startswith(clone.package):
            return Name(cls)
    return None


def settle_(model: nn.Module) -> nn.Module:
    """Give modules of a clone's changed classes YOLOv5's class where that computes the same.

    Args:
        model: as it was read; changed in place.

    Raises:
        InputError: the clone's head or its model computes something else.
    """
    for clone in CLONES:
        open_ = {type(m).__name__: type(m) for m in _changed(model, clone)}
        open_ = {name: cls for name, cls in open_.items() if clone.kept.get(name) is not cls}
        if not open_:
            continue
        kept = _differing(model, clone, set(open_))
        for name in sorted(kept):
            told = f"its {name} computes other values than YOLOv5's"
            if issubclass(HOST[name], NEEDED):
                text = "YOLOv5's model and head, with modules of your own in them"
                raise InputError(f"--clone {clone.root}", told, text)
            note(clone.root, f"{told}: it is kept, and is not cut without a rule")
            clone.kept[name] = ADMITTED[name] = open_[name]
        _take_hosts_(model, clone, open_.keys() - kept)
        clone.take_hosts_(open_.keys() - kept)
    return model


def take_hosts_(module: nn.Module) -> nn.Module:
    """The same for a module that was just built, without a trial: what is not kept is YOLOv5's."""
    for clone in CLONES:
        names = {type(m).__name__ for m in _changed(module, clone)}
        _take_hosts_(module, clone, names - clone.kept.keys())
    return module


def _changed(model: nn.Module, clone: Clone) -> Iterator[nn.Module]:
    for module in model.modules():
        cls = type(module)
        if cls.__name__ in HOST and cls.__module__.startswith(f"{clone.package}."):
            yield module


def _take_hosts_(model: nn.Module, clone: Clone, names: Any) -> None:
    for module in list(_changed(model, clone)):
        if type(module).__name__ in names:
            module.__class__ = HOST[type(module).__name__]


def _differing(model: nn.Module, clone: Clone, names: set[str]) -> set[str]:
    """Of the changed classes, those without which the model computes something else."""
    try:
        expected = _outputs(deepcopy(model).float().eval())
    except Exception as error:  # an older clone's code on today's torch
        text = f"its own forward fails here ({type(error).__name__}: {str(error)[:80]})"
        note(clone.root, f"{text}; YOLOv5's classes are taken")
        return set()

    def same(kept: set[str]) -> bool:
        trial = deepcopy(model)
        _take_hosts_(trial, clone, names - kept)
        try:
            modernise_(trial)
            return _alike(expected, _outputs(trial))
        except Exception:  # it lacks what the clone's class works with
            return False

    if same(set()):
        return set()
    kept = set(names)
    for name in sorted(names):
        if same(kept - {name}):
            kept -= {name}
    return kept


@torch.no_grad()
def _outputs(model: nn.Module) -> list[torch.Tensor]:
    """What a model makes of an image of noise, of four cells of its largest stride."""
    stride = getattr(model, "stride", None)
    size = 4 * max(32, int(stride.max())) if isinstance(stride, torch.Tensor) else 128
    channels = int(getattr(model, "yaml", {}).get("ch", 3))
    noise = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))
    return list(_tensors(model(noise)))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _alike(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-5)
        for x, y in zip(a, b, strict=True)
    )
