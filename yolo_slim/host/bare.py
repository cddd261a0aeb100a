"""Weights without their model, as other tools save them: a state dict, and a model yaml beside it.

The yaml (--cfg) gives the architecture, the state dict the number of classes (from the shape of the
head) and all values, the anchors too. Prefixes (module., _orig_mod., model.) fall away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from yolo_slim.errors import InputError
from yolo_slim.host.architecture import Cfg, read_cfg, title
from yolo_slim.host.compat import mend, replaced

mend()

from yolov5.models import yolo  # noqa: E402
from yolov5.utils import general  # noqa: E402

State = Mapping[str, torch.Tensor]
ENTRIES = ["ema", "model", "state_dict", "model_state_dict", "model_state", "ema_state_dict"]
ENTRIES += ["weights", "net", "params", "params_ema", "module"]  # where tools put a state dict
JUNK = ("total_ops", "total_params", "anchor_grid", "num_batches_tracked")  # may be there or not
WIDTHS = {16: "yolov5n", 32: "yolov5s", 48: "yolov5m", 64: "yolov5l", 80: "yolov5x"}
PARTS = {
    "weight_g": "under weight_norm; take it off before saving",
    "parametrizations": "under torch.nn.utils.parametrize; take it off before saving",
}
_builders: list[Callable[..., nn.Module]] = []


def builds_models(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Decorator: this function builds a model from any yaml, those of pruned models too."""
    _builders[:] = [function]
    return function


def state_in(data: Mapping[Any, Any]) -> State | None:
    """The state dict in what a file holds: itself, or one of its entries, the EMA's before others.

    Args:
        data: the dict of the file.
    """
    if _is_state(data):
        return data
    for name in ENTRIES:
        inside = data.get(name)
        if isinstance(inside, Mapping):
            found = inside if _is_state(inside) else state_in(inside)
            if found is not None:
                return found
    return None


def _is_state(value: Any) -> bool:
    return bool(value) and all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in value.items()
    )


def advice(state: State) -> str:
    """Which model yaml may fit, for who gave none."""
    first = next((t for key, t in state.items() if key.endswith("model.0.conv.weight")), None)
    name = WIDTHS.get(len(first) if first is not None and first.ndim == 4 else 0, "yolov5n")
    return f"--cfg with the model yaml that they belong to, such as --cfg {name}.yaml"


def build_bare(state: State, cfg: Cfg, where: object, names: Any = None) -> nn.Module:
    """The model of a yaml with these weights.

    Args:
        state: the state dict.
        cfg: the model yaml.
        where: the file, for errors.
        names: of the classes, as the file has them; None: class0, class1, ...

    Raises:
        InputError: the yaml is none, or does not fit the weights: which tensor, and how many.
    """
    state = plain_names(state, where)
    yaml = deepcopy(read_cfg(cfg))
    names = names or yaml.pop("names", None)
    nc = classes_of(state, yaml)
    first = next((t for k, t in state.items() if k == "model.0.conv.weight" and t.ndim == 4), None)
    if first is not None:
        yaml["ch"] = int(first.shape[1])
    model = _built(yaml, nc, cfg)
    _load_(model, state, cfg, where)
    head = model.model[-1]
    nc, pixels = int(head.nc), head.anchors * head.stride.view(-1, 1, 1)
    model.yaml["anchors"] = [[round(a, 4) for a in row] for row in pixels.flatten(1).tolist()]
    model.names = names or {i: f"class{i}" for i in range(nc)}
    return model


def plain_names(state: State, where: object) -> dict[str, torch.Tensor]:
    """A state dict without the prefix of a wrapper, its masks (torch.nn.utils.prune) kept.

    Raises:
        InputError: its weights are computed from others, or have no BatchNorm any more.
    """
    keys = [k for k in state if "model.0." in k]
    prefix = min((k[: k.rindex("model.0.")] for k in keys), key=len, default="")
    found = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    for part, text in PARTS.items():
        odd = next((k for k in found if part in k.split(".")), None)
        if odd:
            raise InputError(where, f"{odd}: {text}", "plain weights")
    if any(k.endswith(".conv.bias") for k in found) and not any(".bn." in k for k in found):
        raise InputError(where, "the weights of a fused model (without BatchNorm)", "unfused ones")
    return found


def classes_of(state: State, yaml: Mapping[str, Any]) -> int | None:
    """The number of classes, from the shape of the head; None where it has none."""
    last = len([*_rows(yaml, "backbone"), *_rows(yaml, "head")]) - 1
    weight, anchors = state.get(f"model.{last}.m.0.weight"), state.get(f"model.{last}.anchors")
    if weight is None or anchors is None or anchors.ndim != 3 or not anchors.shape[1]:
        return None
    masks = state.get(f"model.{last}.proto.cv3.conv.weight")
    outputs = weight.shape[0] // anchors.shape[1] - 5 - (len(masks) if masks is not None else 0)
    return outputs if outputs > 0 else None


def _rows(yaml: Mapping[str, Any], part: str) -> list[Any]:
    rows = yaml.get(part)
    return list(rows) if isinstance(rows, list) else []


def _built(yaml: dict[str, Any], nc: int | None, cfg: Cfg) -> nn.Module:
    build = _builders[0] if _builders else yolo.Model
    with replaced(general.LOGGER, disabled=True), torch.random.fork_rng(devices=[]):
        try:
            return build(yaml, nc=nc)
        except InputError as error:
            raise InputError(title(cfg), f"refused ({error})", "a model yaml") from error
        except Exception as error:  # whatever a layer makes of its arguments
            text = f"cannot be built ({type(error).__name__}: {str(error)[:120]})"
            raise InputError(title(cfg), text, "layers that fit together") from error


def _load_(model: nn.Module, state: dict[str, torch.Tensor], cfg: Cfg, where: object) -> None:
    """Load a state dict whose names and shapes are those of the model, in place."""
    for key in [k for k in state if k.endswith("_mask") and f"{k[:-5]}_orig" in state]:
        name, _, tensor = key.removesuffix("_mask").rpartition(".")
        module = dict(model.named_modules()).get(name)
        if isinstance(getattr(module, tensor, None), nn.Parameter):
            torch_prune.identity(module, tensor)
    own = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.endswith(JUNK)}
    theirs = {k: tuple(v.shape) for k, v in state.items() if not k.endswith(JUNK)}
    wrong = [k for k in {**own, **theirs} if own.get(k) != theirs.get(k)]
    if wrong:
        there, here = (shapes.get(wrong[0], "missing") for shapes in (own, theirs))
        count = f"{len(wrong)} of {len({**own, **theirs})} tensors differ"
        got = f"weights that {title(cfg)} does not fit: {count}, the first is {wrong[0]}"
        raise InputError(where, f"{got}: {here}, in the model {there}", "the yaml of these weights")
    known = model.state_dict()
    for key, value in known.items():
        theirs_too = state.get(key, value)
        odd = not theirs_too.is_floating_point() and not key.endswith((*JUNK, "_mask"))
        if theirs_too.is_meta or odd:
            kind = "on the meta device" if theirs_too.is_meta else f"of {theirs_too.dtype}"
            raise InputError(where, f"{key} {kind}", "floating-point weights, not quantised ones")
    model.load_state_dict({k: v for k, v in state.items() if k in known}, strict=False)
