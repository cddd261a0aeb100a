"""From masks to pruned.yaml: a YOLOv5 model yaml with explicit counts that a person can read."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.channels.rules import channel_graph
from yolo_slim.errors import InputError
from yolo_slim.host.classes import class_names, common, known_modules
from yolo_slim.host.compat import replaced
from yolo_slim.host.yamls import activation_text, parse_activation
from yolo_slim.models.modules import spec
from yolo_slim.models.resize import (
    SELF,
    UNBUILT,
    Sizes,
    activations,
    build_resized,
    identities,
    same_structure,
    sized,
)
from yolo_slim.pruning.masks import removed

ARGUMENTS = {"None": None, "True": True, "False": False}


def pruned_yaml(
    model: nn.Module, graph: ChannelGraph | None = None, keep: np.ndarray | None = None
) -> dict[str, Any]:
    """The yaml of what remains of a model.

    Args:
        model: a YOLOv5 model with trained anchors, names and strides.
        graph: its channel graph; None: it is read.
        keep: (ids + 1,) bool of `keep_vector`; None: all is kept.

    Returns:
        A dict as in models/*.yaml: nc, names, anchors in pixels, activation, ch, backbone, head.

    Raises:
        InputError: a module cannot be built anew from what the model's yaml says of it.
    """
    graph = channel_graph(model) if graph is None else graph
    keep = np.ones(graph.channels + 1, dtype=bool) if keep is None else keep
    acts = [m.act for m in model.modules() if isinstance(m, common.Conv)]
    acts = [activation_text(a) for a in acts if not isinstance(a, nn.Identity) and not _sized(a)]
    activation = Counter(acts).most_common(1)[0][0] if acts else "nn.SiLU()"
    rows = [layer_row(model, layer, activation, graph, keep) for layer in model.model]
    detect = model.model[-1]
    anchors = (detect.anchors * detect.stride.view(-1, 1, 1)).flatten(1).tolist()
    split = len(model.yaml["backbone"])
    return {
        "pruned": True,
        "nc": int(detect.nc),
        "ch": int(model.yaml.get("ch", 3)),
        "depth_multiple": 1.0,
        "width_multiple": 1.0,
        "activation": activation,
        "names": class_names(model),
        "anchors": [[round(a, 4) for a in row] for row in anchors],
        "backbone": rows[:split],
        "head": rows[split:],
    }


def layer_row(
    model: nn.Module, layer: nn.Module, activation: str, graph: ChannelGraph, keep: np.ndarray
) -> list[Any]:
    """The row of one layer: by its spec, else by its class, its arguments and the new sizes."""
    name = f"model.{layer.i}"
    first = {id(module): full for full, module in model.named_modules()}  # of several names

    def kept(bn: str) -> int:
        """Channels that a BN in the layer keeps; 0 where its block is gone, now or before."""
        try:
            norm = graph.norms[first[id(layer.get_submodule(bn))]]
        except (AttributeError, KeyError) as error:  # something else was put in its place
            got = f"a {type(layer).__name__} in which {bn} is no BatchNorm"
            raise InputError(name, got, UNBUILT) from error
        return int(keep[norm.ids].sum())

    named = spec(layer, activation, kept)
    if named is not None:
        return [layer.f, 1, *named]
    cls, number, args = how_built(model, layer, graph)
    with replaced(common.Conv, default_act=parse_activation(activation)):
        skeleton = build_resized(cls, number, args, {})
    gone = [full.removeprefix(f"{name}.") for full in removed(graph, keep)]
    gone = [child for child in gone if f"{name}.{child}" in graph.branches]
    gone += [c for c in identities(layer) if c not in set(identities(skeleton))]
    inside = tuple(f"{child}." for child in gone)
    sizes: Sizes = dict.fromkeys(gone)
    for child, module in sized(layer):
        if child.startswith(inside):
            continue
        full = first[id(module)]
        node = graph.convs.get(first[id(getattr(module, "conv", module))])
        if node is not None:
            sizes[child] = [int(keep[node.inputs].sum()), int(keep[node.outputs].sum())]
        elif isinstance(module, nn.BatchNorm2d):
            sizes[child] = int(keep[graph.norms[full].ids].sum())
    dense = build_resized(cls, number, args, sizes)
    if same_structure(dense, skeleton):
        sizes = {}
    for full, rows in graph.rows.items():
        child = SELF if full == name else full.removeprefix(f"{name}.")
        if keep[rows].any() and not keep[rows].all() and child != full:
            sizes[child] = int(keep[rows].sum())
    old = activations(skeleton)
    acts = {k: v for k, v in activations(layer).items() if not k.startswith(inside)}
    sizes |= {k: v for k, v in acts.items() if old.get(k) != v}
    for child in filter(sizes.__contains__, acts):  # slopes a channel
        if f"{name}.{child}" in graph.rows:
            kept_rows = int(keep[graph.rows[f"{name}.{child}"]].sum())
            sizes[child] = activation_text(nn.PReLU(kept_rows))
    out = graph.outputs.get(name)
    count = int(keep[out].sum()) if out is not None else 0
    return [layer.f, number, class_name(cls), [count, args, sizes]]


def _sized(activation: nn.Module) -> bool:
    """True for a PReLU with a slope a channel: no other conv can have the same."""
    return getattr(activation, "num_parameters", 1) > 1


def class_name(cls: type) -> str:
    """What a model yaml calls a class: those of torch.nn begin with "nn."."""
    return f"nn.{cls.__name__}" if getattr(nn, cls.__name__, None) is cls else cls.__name__


def how_built(model: nn.Module, layer: nn.Module, graph: ChannelGraph) -> tuple[Any, int, list]:
    """Class, number and arguments that build a layer of this model, before any cut.

    The model's yaml names them, but what YOLOv5's parser (or that of a clone) makes of them is not
    in it: input and output channels before the others, the number of repeats after these. The ways
    that are known are tried; the one that builds the layer as it is wins.

    Raises:
        InputError: none does.
    """
    name = f"model.{layer.i}"
    _, number, title, args = [*model.yaml["backbone"], *model.yaml["head"]][layer.i]
    cls = getattr(nn, title[3:]) if title.startswith("nn.") else known_modules().get(title)
    if model.yaml.get("pruned") and args and isinstance(args[-1], dict):
        ways = [(number, args[1], args[2])]
    else:
        sources = [layer.f] if isinstance(layer.f, int) else layer.f
        read = [graph.outputs.get(f"model.{s % layer.i}") if layer.i else None for s in sources]
        inputs = [int(model.yaml.get("ch", 3)) if ids is None else len(ids) for ids in read]
        c2 = len(graph.outputs.get(name, ()))
        depth = model.yaml["depth_multiple"]
        number = max(round(number * depth), 1) if number > 1 else number
        args = [ARGUMENTS.get(a, a) if isinstance(a, str) else a for a in args]
        ways = [(number, args, {})]
        for c1 in [inputs[0], inputs][: len(inputs)]:  # one number, or one a layer
            ways += [(number, [c1, c2, *args[1:]], {}), (1, [c1, c2, number, *args[1:]], {})]
            ways += [(number, [c1, *args], {}), (number, [c1, *args[1:]], {})]
            ways += [(1, [c1, c2, number, *args], {})]
        ways += [(number, [len(inputs), *args], {})]
    for count, values, sizes in ways:
        with suppress(Exception), torch.random.fork_rng(devices=[]):  # a constructor may do all
            if same_structure(build_resized(cls, count, values, sizes), layer):
                return cls, count, values
    kind = type(layer).__name__
    raise InputError(
        name,
        f"a {kind}, which {title} {args} in the model's yaml does not build",
        "a module whose constructor takes (c1, c2, ...) or what stands in the yaml",
    )
