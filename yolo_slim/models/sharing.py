"""Modules and parameters that a model has under several names: what is one stays one.

A yaml says how layers are built, not that one of them uses another's conv. So a model that is built
anew is told by the one that it stands for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain

from torch import nn


@dataclass(frozen=True)
class Shared:
    """What a model has under several names, each a list of names.

    Attributes:
        modules: with a parameter or a buffer in them.
        parameters: of different modules.
    """

    modules: tuple[tuple[str, ...], ...]
    parameters: tuple[tuple[str, ...], ...]


def shared_in(model: nn.Module) -> Shared:
    """What a model has under several names."""
    modules, parameters = defaultdict[int, list[str]](list), defaultdict[int, list[str]](list)
    for name, module in model.named_modules(remove_duplicate=False):
        if next(chain(module.parameters(), module.buffers()), None) is not None:
            modules[id(module)].append(name)
    for name, value in model.named_parameters(remove_duplicate=False):
        parameters[id(value)].append(name)
    return Shared(*(tuple(tuple(n) for n in g.values() if n[1:]) for g in (modules, parameters)))


def share_(model: nn.Module, shared: Shared) -> nn.Module:
    """What one model shares another shares too, in place, where its shapes are the same."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for first, *others in shared.modules:
        for name in others:
            if first in modules and name in modules and _same(modules[first], modules[name]):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, modules[first])
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for first, *others in shared.parameters:
        for name in others:
            ours, theirs = parameters.get(first), parameters.get(name)
            if ours is not None and theirs is not None and ours.shape == theirs.shape:
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, ours)
    return model


def _same(a: nn.Module, b: nn.Module) -> bool:
    shapes = [{k: v.shape for k, v in module.state_dict().items()} for module in (a, b)]
    return type(a) is type(b) and shapes[0] == shapes[1]
