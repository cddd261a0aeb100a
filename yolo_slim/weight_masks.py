"""Masks over single weights: from torch.nn.utils.prune to a checkpoint, and held in a training.

torch.nn.utils.prune puts a mask into a module as a parametrization (weight_orig, weight_mask and a
forward hook). A model of ours has plain weights with zeros in them, as exporters and YOLOv5's loop
want, and its masks in an attribute: `model.weight_masks`, parameter name to bool tensor, True =
kept. `bake_` goes from the one to the other, `reapply_` goes back. In a file the masks are bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from yolo_slim.errors import CheckFailed, InputError
from yolo_slim.numerics import copy_of
from yolo_slim.text import counted

WeightMasks = dict[str, torch.Tensor]
ATTRIBUTE, IN_FILE = "weight_masks", "packed_masks"


def masks_of(model: nn.Module) -> WeightMasks:
    """`model.weight_masks`; nothing for a model without."""
    return dict(getattr(model, ATTRIBUTE, None) or {})


def parametrized(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Module name, module and tensor name, wherever torch.nn.utils.prune is at work."""
    for name, module in model.named_modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, torch_prune.BasePruningMethod):
                yield name, module, hook._tensor_name


def baked(model: nn.Module) -> nn.Module:
    """A copy with plain weights, as `bake_` leaves them.

    A plain deepcopy of a model under torch.nn.utils.prune fails: its weight is computed.

    Args:
        model: any model; left untouched.
    """
    memo: dict[int, Any] = {}
    for _, module, tensor in parametrized(model):
        computed = getattr(module, tensor)
        memo[id(computed)] = computed.detach()
        for hook in module._forward_pre_hooks.values():
            memo[id(hook)] = hook  # may be a class of the user's, and is removed from the copy
    return bake_(copy_of(model, memo))


@torch.no_grad()
def bake_(model: nn.Module) -> nn.Module:
    """Take torch.nn.utils.prune's parametrizations off, in place.

    The masked weights are zero, the masks go to `model.weight_masks`, on top of those that lie
    there. A mask that keeps all is dropped.
    """
    masks = masks_of(model)
    for name, module, tensor in list(parametrized(model)):
        key = f"{name}.{tensor}".lstrip(".")
        mask = getattr(module, f"{tensor}_mask").bool().cpu()
        masks[key] = mask & masks[key] if key in masks else mask
        torch_prune.remove(module, tensor)
    model.__dict__.pop(ATTRIBUTE, None)
    masks = {key: mask for key, mask in masks.items() if not mask.all()}
    if masks:
        setattr(model, ATTRIBUTE, masks)
        zero_masked_(model)
    return model


def reapply_(model: nn.Module) -> nn.Module:
    """Make `model.weight_masks` parametrizations of torch.nn.utils.prune again, in place.

    Its functions then go on from there, as if the model had never been saved.
    """
    if not isinstance(model, nn.Module):
        raise InputError("model", f"{model!r:.80}", "an nn.Module")
    modules = dict(model.named_modules())
    for key, mask in masks_of(model).items():
        name, _, tensor = key.rpartition(".")
        weight = getattr(modules[name], tensor)
        torch_prune.custom_from_mask(modules[name], tensor, mask.to(weight.device))
    model.__dict__.pop(ATTRIBUTE, None)
    return model


@torch.no_grad()
def zero_masked_(model: nn.Module) -> nn.Module:
    """Set the masked weights to zero, in place."""
    for weight, mask in _pairs(model):
        weight.mul_(mask)
    return model


def _pairs(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    named = dict(model.named_parameters(remove_duplicate=False))
    return [(named[key], mask.to(named[key])) for key, mask in masks_of(model).items()]


def hold_masks(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Keep masked weights at zero while an optimizer trains the model: now and after each step.

    The mask is put on the weight after the step, so that neither momentum nor weight decay bring a
    weight back; a moving average of zeros is zero. GradScaler skips a step with its hook. The
    gradient of a masked weight is not cut: it counts where the loop clips the norm of them all.

    Args:
        model: with `weight_masks`; one without is trained as ever.
        optimizer: of its parameters.

    Returns:
        A handle, whose remove() ends it.
    """
    weights, masks = zip(*_pairs(zero_masked_(model)), strict=True) if masks_of(model) else ((), ())

    @torch.no_grad()
    def zero(*_: Any) -> None:
        if weights:
            torch._foreach_mul_(weights, masks)

    return optimizer.register_step_post_hook(zero)


def check_zeros(model: nn.Module, masks: Mapping[str, torch.Tensor], where: str) -> None:
    """Fail loudly if a model has not these masks, or a masked weight that is not zero.

    Raises:
        CheckFailed: see above.
    """
    own, named = masks_of(model), dict(model.named_parameters(remove_duplicate=False))
    for key in {**masks, **own}:
        if key not in own or key not in masks or not torch.equal(own[key], masks[key]):
            raise CheckFailed(f"{where}: the mask of {key} is not that of the training's start")
        alive = int(named[key].detach().cpu()[~masks[key]].count_nonzero())
        if alive:
            raise CheckFailed(f"{where}: {counted(alive, 'masked weight')} of {key} not zero")


def inherit_masks_(model: nn.Module, source: nn.Module) -> None:
    """Give a model the masks of another one, of those layers that both have in the same shape."""
    shapes = {k: p.shape for k, p in model.named_parameters(remove_duplicate=False)}
    masks = {k: mask for k, mask in masks_of(source).items() if shapes.get(k) == mask.shape}
    if masks:
        setattr(model, ATTRIBUTE, masks)


def carry_masks_(
    pruned: nn.Module, model: nn.Module, copy_weights: Callable[[nn.Module, nn.Module], None]
) -> None:
    """Give a model with fewer channels the masks of the weights that survived.

    The masks go the way of the weights, so that no layer type needs a rule of its own here.

    Args:
        pruned: gets `weight_masks`.
        model: it was cut from; left untouched.
        copy_weights: (pruned, model): copies the surviving weights, of models like these two.
    """
    masks = masks_of(model)
    if not masks:
        return
    source, target = copy_of(model), copy_of(pruned)
    named = dict(source.named_parameters(remove_duplicate=False))
    for key, mask in masks.items():
        named[key].data = mask.to(named[key])
    copy_weights(target, source)
    survived = dict(target.named_parameters(remove_duplicate=False))
    setattr(pruned, ATTRIBUTE, {key: survived[key].detach().cpu().bool() for key in masks})


def packed(model: Any) -> Any:
    """What goes into a file: the model itself, or a shallow copy with one bit a masked weight."""
    masks = masks_of(model) if isinstance(model, nn.Module) else {}
    if not masks:
        return model
    twin = copy(model)
    bits = np.packbits(np.concatenate([mask.numpy().ravel() for mask in masks.values()]))
    delattr(twin, ATTRIBUTE)
    setattr(twin, IN_FILE, [list(masks), torch.from_numpy(bits)])
    return twin


def unpack_(model: nn.Module) -> None:
    """Undo `packed` on a model that was read, in place.

    Raises:
        InputError: the masks do not fit the model.
    """
    stored = model.__dict__.pop(IN_FILE, None)
    if stored is None:
        return
    named = dict(model.named_parameters(remove_duplicate=False))
    names, bits = stored
    unknown = [name for name in names if name not in named]
    sizes = [named[name].numel() for name in names if name in named]
    if unknown or bits.dtype != torch.uint8 or bits.shape != (-(-sum(sizes) // 8),):
        got = f"a mask of {unknown[0]}" if unknown else f"{tuple(bits.shape)} {bits.dtype}"
        raise InputError(IN_FILE, got, "one bit for each weight of a layer")
    flat = torch.from_numpy(np.unpackbits(bits.numpy(), count=sum(sizes)).astype(bool))
    parts = zip(names, flat.split(sizes), strict=True)
    setattr(model, ATTRIBUTE, {name: part.view_as(named[name]).clone() for name, part in parts})
