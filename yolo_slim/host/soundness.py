"""What a model cannot be used with: weights and statistics that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.text import counted

FINITE = "finite weights and statistics; a training that diverged leaves such a file"


@torch.no_grad()
def check_finite(model: nn.Module, where: object) -> None:
    """See that all parameters and buffers are numbers, and no variance is negative.

    Args:
        model: fp32; on the CPU.
        where: what the error calls it.

    Raises:
        InputError: NaN or Inf in a tensor, or a negative running_var. It names the first one.
    """
    wrong = [name for name, tensor in _tensors(model) if not _is_finite(tensor)]
    if wrong:
        tensor = dict(_tensors(model))[wrong[0]]
        bad = int((~torch.isfinite(tensor)).sum())
        kind = "NaN" if torch.isnan(tensor).any() else "Inf"
        got = f"{kind} in {wrong[0]} ({bad} of {counted(tensor.numel(), 'value')})"
        more = f", and in {counted(len(wrong) - 1, 'tensor')} more" if len(wrong) > 1 else ""
        raise InputError(where, got + more, FINITE)
    for name, module in model.named_modules():
        variance = getattr(module, "running_var", None)
        if isinstance(variance, torch.Tensor) and variance.numel() and float(variance.min()) < 0:
            got = f"a negative variance in {name}.running_var ({float(variance.min()):.3g})"
            raise InputError(where, got, "variances of 0 or more")


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all of a tensor are numbers: its sum says so, since one NaN or Inf is in it too."""
    if not tensor.is_floating_point():
        return True
    total = float(tensor.sum(dtype=torch.float64))
    return total - total == 0  # not of NaN, nor of Inf
