"""From a pruned yaml to layers: what the host's parse_model does, from explicit counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.classes import common, known_modules
from yolo_slim.host.compat import replaced
from yolo_slim.host.yamls import parse_activation
from yolo_slim.models.modules import BUILT, HEADS, PASSING
from yolo_slim.models.resize import build_resized


def build_layers(data: dict[str, Any], ch: list[int]) -> tuple[nn.Sequential, list[int]]:
    """The layers of a pruned yaml.

    Args:
        data: a pruned yaml.
        ch: [image channels].

    Returns:
        The layers, and the indices of those whose output is needed later.
    """
    layers: list[nn.Module] = []
    counts: list[int] = []  # output channels of each layer
    save: set[int] = set()
    with default_activation(data.get("activation")):
        for i, (f, number, name, args) in enumerate(data["backbone"] + data["head"]):
            sources = [f] if isinstance(f, int) else list(f)
            inputs = [(counts[s] if counts else ch[0]) for s in sources]
            try:
                module, out = build_layer(data, number, name, args, inputs)
            except Exception as error:  # a yaml that was changed by hand
                if isinstance(error, InputError):
                    raise
                text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
                got = f"{args!s:.60} on {inputs} channels, which cannot be built ({text})"
                where = f"pruned yaml, layer {i}, {name}"
                raise InputError(where, got, "a row as in a pruned.yaml") from error
            module.i, module.f = i, f
            module.type = str(type(module))[8:-2]
            module.np = sum(p.numel() for p in module.parameters())
            save |= {s % i for s in sources if s != -1}
            layers.append(module)
            counts.append(out)
    return nn.Sequential(*layers), sorted(save)


def build_layer(
    data: Mapping[str, Any], number: int, name: str, args: Any, inputs: list[int]
) -> tuple[nn.Module, int]:
    """One layer of a pruned yaml, and the channels that it hands on."""
    if args and isinstance(args[-1], dict):
        out, values, sizes = args
        cls = getattr(nn, name[3:]) if name.startswith("nn.") else known_modules()[name]
        return build_resized(cls, number, values, sizes), out
    if name in BUILT:
        return BUILT[name](inputs[0], *args), args[0]
    if name in PASSING:
        return PASSING[name](*args), inputs[0]
    if name == "Concat":
        return common.Concat(*args), sum(inputs)
    if name in HEADS:
        anchors = data["anchors"]
        if isinstance(anchors, int):
            anchors = [list(range(anchors * 2))] * len(inputs)
        return HEADS[name](data["nc"], anchors, *args[2:], inputs), 0
    known = ", ".join([*BUILT, *PASSING, "Concat", *HEADS])
    raise InputError(f"pruned yaml, {name}", "a module without sizes", f"one of {known}")


@contextmanager
def default_activation(text: str | None) -> Iterator[None]:
    """Convs made in the block have this activation; the host's default is put back after it."""
    act = parse_activation(text) if text else common.Conv.default_act
    with replaced(common.Conv, default_act=act):
        yield
