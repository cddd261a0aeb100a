"""Fine-grained (unstructured) pruning: single weights are set to zero, the shapes stay.

Han et al. 2015, section 3, with a share by layer and its threshold, the k-th smallest |w|, as in
MIT 6.5940, lab 1. All of it goes through torch.nn.utils.prune, whose methods follow one another on
a tensor; what it leaves is put into plain weights and `model.weight_masks` (see `weight_masks`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from yolo_slim.errors import InputError, check_seed, check_share
from yolo_slim.finegrained.report import LayerSparsity, SparsityReport
from yolo_slim.host.image import check_module
from yolo_slim.models.resize import LINEAR
from yolo_slim.pruning.budget.globs import matching
from yolo_slim.weight_masks import bake_, masks_of, reapply_

Method = Literal["l1", "l2", "random", "global"]
DEFAULT = 0.5  # share of the weights, where nothing is asked for


def magnitude_mask(weight: torch.Tensor, share: float) -> torch.Tensor:
    """Cut the weights with the smallest magnitude.

    Args:
        weight: any shape; left untouched.
        share: of the weights that are cut, in [0, 1].

    Returns:
        bool, of the shape of `weight`, True = kept; round(share * weights) are False. Of weights
        of equal magnitude the first are cut.

    Raises:
        InputError: the share is out of range.
    """
    if not 0 <= share <= 1:
        raise InputError("share", f"{share:g}", "a share in [0, 1]")
    return ~smallest(weight, round(share * weight.numel()))


def smallest(weight: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` weights with the smallest magnitude: True where they are."""
    if count == 0:
        return torch.zeros_like(weight, dtype=torch.bool)
    size = weight.detach().abs().flatten()
    threshold = size.kthvalue(count).values
    mask = size < threshold
    equal = (size == threshold).nonzero().flatten()
    mask[equal[: count - int(mask.sum())]] = True
    return mask.view_as(weight)


class Magnitude(torch_prune.BasePruningMethod):
    """`magnitude_mask` for torch.nn.utils.prune: the same share however many weights are equal.

    Args:
        amount: number of weights that are cut of those that earlier methods kept.
    """

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def compute_mask(self, t: torch.Tensor, default_mask: torch.Tensor) -> torch.Tensor:
        return default_mask.masked_fill(smallest(t, self.amount), 0)


def sparsify_(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    ratios: Mapping[str, float] | None = None,
    method: Method = "global",
    seed: int = 0,
) -> SparsityReport:
    """Set weights of convs and linear layers to zero, in place; the masks go to `weight_masks`.

    Masks that are there (of an earlier call, of a checkpoint, of torch.nn.utils.prune) stay, and
    count: the shares are those of the result. BNs and biases are left as they are.

    Args:
        model: any model.
        sparsity: share of the weights, in [0, 1). None: 0.5, or 0 with `ratios`.
        ratios: glob over the names of layers, or of modules around them, to a share of its own; the
            last glob that matches decides.
        method: global (the smallest |w| of all layers without a ratio, together; the others by l1),
            l1 (the smallest |w| of each layer), l2 (whole filters, by their norm), or random.
        seed: of the random method.

    Raises:
        InputError: a share is out of range, a glob matches nothing, there is no such method, the
            model has no such layer or weights that are not finite. Nothing was changed.
    """
    check_module(model)
    if not isinstance(method, str) or method not in get_args(Method):
        raise InputError("method", repr(method)[:80], f"one of {', '.join(get_args(Method))}")
    layers = weight_layers(model)
    if sparsity is None:
        sparsity = 0.0 if ratios else DEFAULT
    sparsity, seed = check_share("sparsity", sparsity, one=False), check_seed("seed", seed)
    if not isinstance(ratios or {}, Mapping):
        raise InputError("ratios", repr(ratios)[:80], "a dict of globs and shares")
    own = own_shares(layers, ratios or {})
    shares = {name: own.get(name, sparsity) for name in layers}
    reapply_(model)
    together = [name for name in layers if name not in own] if method == "global" else []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, layer in layers.items():
            if name not in together:
                _cut_(layer, shares[name], method)
        _cut_together_([layers[name] for name in together], sparsity)
    masks = masks_of(bake_(model))
    rows = []
    for name, layer in layers.items():
        mask = masks.get(f"{name}.weight")
        zeros = 0 if mask is None else int((~mask).sum())
        rows.append(LayerSparsity(name, layer.weight.numel(), zeros, shares[name]))
    return SparsityReport(method, tuple(rows))


def weight_layers(model: nn.Module) -> dict[str, Any]:
    """Name to layer, of convs and linear layers.

    Raises:
        InputError: there is none, or one has weights that are not finite.
    """
    weighted = {
        name: module for name, module in model.named_modules() if isinstance(module, LINEAR)
    }
    if not weighted:
        raise InputError("model", "no conv or linear layer", "at least one")
    for name, layer in weighted.items():
        if not layer.weight.isfinite().all():
            raise InputError(name, "weights that are not finite", "numbers")
    return weighted


def own_shares(names: Collection[str], ratios: Mapping[str, float]) -> dict[str, float]:
    """Layer to the share that `ratios` give it; the last glob that matches decides.

    Raises:
        InputError: a glob matches nothing, or a share is not in [0, 1).
    """
    by_layer: dict[str, float] = {}
    for glob, share in ratios.items():
        share = check_share(f"ratio of {glob}", share, one=False)
        by_layer.update(dict.fromkeys(matching(names, str(glob), "ratio", "a conv"), share))
    return by_layer


def _cut_(layer: Any, share: float, method: Method) -> None:
    kept = _mask(layer)
    amount = round(share * kept.numel()) - int((~kept).sum())
    if method == "l2":
        dim = 1 if getattr(layer, "transposed", False) and layer.groups == 1 else 0
        alive = kept.transpose(0, dim).flatten(1).any(1)
        amount = round(share * len(alive)) - int((~alive).sum())
    if amount <= 0:
        return
    if method == "l2":
        torch_prune.ln_structured(layer, "weight", amount, n=2, dim=dim)
    elif method == "random":
        torch_prune.random_unstructured(layer, "weight", amount)
    else:
        Magnitude.apply(layer, "weight", amount)


def _cut_together_(layers: list[Any], share: float) -> None:
    kept = [_mask(layer) for layer in layers]
    amount = round(share * sum(m.numel() for m in kept)) - sum(int((~m).sum()) for m in kept)
    if amount > 0:
        pairs = [(layer, "weight") for layer in layers]
        torch_prune.global_unstructured(pairs, Magnitude, amount=amount)


def _mask(layer: Any) -> torch.Tensor:
    mask = getattr(layer, "weight_mask", None)
    return torch.ones_like(layer.weight, dtype=torch.bool) if mask is None else mask.bool()
