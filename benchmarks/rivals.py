"""What yolo_slim is compared with: torch-pruning 1.6.1, and network slimming as YOLOv5 pruners do.

Both end in a model that the host's loop trains and that yolo_slim saves, so that everything after
the cut is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from yolo_slim.calibration import Calibration
from yolo_slim.host.image import smallest_image
from yolo_slim.measure.cost import cost
from yolo_slim.models.model import build_model
from yolo_slim.pruning.rebuild.plan import pruned_yaml

IMPORTANCE: dict[str, Callable[[], Any]] = {
    "l2": lambda: tp.importance.MagnitudeImportance(p=2),
    "lamp": lambda: tp.importance.LAMPImportance(p=2),
    "taylor": lambda: tp.importance.TaylorImportance(),
    "bn": lambda: tp.importance.BNScaleImportance(),
}
TRIALS = 12  # of the bisection for a share of MACs


def torch_pruning(
    model: nn.Module,
    name: str,
    macs: float,
    calibration: Calibration,
    *,
    imgsz: int,
    round_to: int | None = 8,
) -> nn.Module:
    """A model cut by torch-pruning: global ranking, all layers but the head.

    Args:
        model: left untouched.
        name: of `IMPORTANCE`.
        macs: share of the MACs that is left; the largest that it reaches at or below this is taken.
        calibration: images and loss, for Taylor's gradients.
        imgsz: px, that MACs are for.
        round_to: kept channels are multiples of it.

    Returns:
        A ModelPruned with the weights and BN statistics that survive.
    """
    tagged = deepcopy(model).float().eval().requires_grad_(True)
    if name == "taylor":
        assert calibration.loss is not None
        for batch in calibration.batches:
            calibration.loss(tagged, batch).backward()
    tag_channels_(tagged)
    whole, low, high, best = cost(model, imgsz).macs, 0.0, 1.0, None
    for _ in range(TRIALS):
        ratio = (low + high) / 2
        try:
            trial = cut_once(tagged, name, ratio, round_to)
        except Exception:  # it lets a layer run out of channels
            high = ratio
            continue
        if cost(trial, imgsz).macs <= macs * whole:
            best, high = trial, ratio
        else:
            low = ratio
    assert best is not None, f"torch-pruning, {name}: {macs:g} of the MACs is out of its reach"
    return best


def cut_once(tagged: nn.Module, name: str, ratio: float, round_to: int | None) -> nn.Module:
    """One cut at torch-pruning's own ratio of channels."""
    copy = deepcopy(tagged)
    for mine, theirs in zip(copy.parameters(), tagged.parameters(), strict=True):
        mine.grad = None if theirs.grad is None else theirs.grad.clone()
    channels, height, width = smallest_image(copy)
    pruner = tp.pruner.BasePruner(
        copy,
        torch.zeros(1, channels, 2 * height, 2 * width),
        importance=IMPORTANCE[name](),
        global_pruning=True,
        pruning_ratio=ratio,
        round_to=round_to,
        ignored_layers=[copy.model[-1]],
    )
    pruner.step()
    return copy


def tag_channels_(model: nn.Module) -> nn.Module:
    """Write the number of each channel into its BN's running mean: what survives is read off it."""
    for norm in norms(model).values():
        norm.statistics = norm.running_mean.clone(), norm.running_var.clone()
        norm.running_mean.copy_(torch.arange(norm.num_features))
    return model


def kept_channels_(model: nn.Module) -> dict[str, torch.Tensor]:
    """BN name to (C,) the numbers of the channels that survive; their statistics are put back."""
    found = {}
    for name, norm in norms(model).items():
        kept = norm.running_mean.long()
        mean, var = norm.__dict__.pop("statistics")
        norm.running_mean.copy_(mean[kept])
        norm.running_var.copy_(var[kept])
        found[name] = kept
    return found


def as_pruned(model: nn.Module) -> nn.Module:
    """A model whose convs were cut by something else, as a ModelPruned that loads anywhere."""
    rebuilt = build_model(pruned_yaml(model))
    rebuilt.load_state_dict(model.state_dict())
    rebuilt.hyp = deepcopy(getattr(model, "hyp", {}))
    return rebuilt.eval()


def norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
