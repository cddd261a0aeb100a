"""One rule a module type: how channels go through it.

A rule is `rule(module, name, x, tracer) -> ids of its output`. `x` is the ids (C,) of what it
reads, a list of them where a YOLOv5 layer has several inputs. A subclass has a rule of its own or
none: its forward may differ from its parent's. A module without a rule is left as it is, and what
it reads keeps all its channels. To add a type, write a rule: nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from yolo_slim.channels.graph import Ids
from yolo_slim.channels.tracer import Tracer
from yolo_slim.errors import InputError
from yolo_slim.text import counted

Rule = Callable[[Any, str, Any, Tracer], Ids]
RULES: dict[type[nn.Module], Rule] = {}
SIZED = (nn.Flatten, nn.GLU)  # how many channels come out is a matter of what comes in


def rule(*types: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Decorator: the function is the rule of these module types.

    A rule is called with a module, its name, the ids (C,) of the channels that it reads and the
    `Tracer`; it returns the ids of its output. What is inside it is left to their rules (`walk`).

    Example:
        >>> from torch import nn
        >>> from yolo_slim import channel_graph, rule, walk
        >>> class Scaled(nn.Module):
        ...     image = (3, 8, 8)
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        ...         self.last = nn.Conv2d(4, 2, 1)
        ...     def forward(self, x):
        ...         return self.last(0.5 * self.layers(x))
        >>> @rule(Scaled)
        ... def scaled(module, name, x, tracer):
        ...     x = walk(module.layers, f"{name}.layers", x, tracer)
        ...     return walk(module.last, f"{name}.last", x, tracer)
        >>> channel_graph(Scaled()).norms["layers.1"].readers
        ('last',)
    """

    wrong = [cls for cls in types if not (isinstance(cls, type) and issubclass(cls, nn.Module))]
    if wrong or not types:
        raise InputError("rule", f"{wrong[0]!r:.80}" if wrong else "no class", "nn.Module classes")

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(types, function))
        return function

    return register


def walk(module: nn.Module, name: str, x: Any, tracer: Tracer) -> Any:
    """Apply the rule of a module, or leave a module that has none dense.

    Raises:
        InputError: a rule from outside the package fails, or returns what cannot be.
    """
    apply_rule, name = RULES.get(type(module)), name.removeprefix(".")
    if apply_rule is None:
        return tracer.dense(name, module, x)
    if not from_outside(type(module)):
        return apply_rule(module, name, x, tracer)
    where = f"the rule of {type(module).__name__} for {name or 'the model'}"
    try:
        out = apply_rule(module, name, x, tracer)
    except InputError:
        raise
    except Exception as error:  # whatever the rule does
        got = f"{type(error).__name__} ({str(error)[:120]})"
        raise InputError(where, got, "a rule as in docs/own-modules.md") from error
    if not isinstance(out, np.ndarray) or out.ndim != 1:
        raise InputError(where, f"a {type(out).__name__} returned", "the ids of its output, (C,)")
    channels = tracer.channels().get(name)
    if isinstance(channels, int) and len(out) != channels:
        raise InputError(
            where, counted(len(out), "id"), f"{counted(channels, 'channel')}, those of its output"
        )
    return out


def from_outside(cls: type[nn.Module]) -> bool:
    """True if the rule of this type is not of this package."""
    return cls in RULES and not RULES[cls].__module__.startswith("yolo_slim.")
