"""Small numerical helpers: precision, threads, copies, and what tells weights apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from hashlib import sha256
from typing import Any

import torch
from torch import nn


def survives_half(model: nn.Module) -> bool:
    """True if every weight of a model is the same in half precision."""
    tensors = [t for t in model.state_dict().values() if t.is_floating_point()]
    return all(torch.equal(t.half().to(t.dtype), t) for t in tensors)


def copy_of(model: nn.Module, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy of a model, in two thirds of the time.

    Each module has a dozen dicts for hooks. deepcopy looks into each of them; here the empty ones
    are made anew.

    Args:
        model: left untouched.
        memo: id of an object to what stands for it in the copy, as deepcopy takes it.
    """
    memo = {} if memo is None else memo
    for module in model.modules():
        for value in vars(module).values():
            if type(value) in (dict, OrderedDict, set) and not value:
                memo[id(value)] = type(value)()
    return deepcopy(model, memo)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch works on one thread in the block.

    Hundreds of small operations: on cores that others use too, their threads wait for each other
    five times longer than they work.
    """
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Squared error of a map as a share of the energy of the wanted one; both (n, C, h, w)."""
    wanted = theirs.float()
    return (ours.float() - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)


def digest(model: nn.Module) -> str:
    """What tells a model's weights from others: 12 hex digits of SHA-256 over its state dict."""
    sha = sha256()
    for name, tensor in model.state_dict().items():
        value = tensor.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        sha.update(f"{name} {tuple(value.shape)}".encode())
        sha.update(value.contiguous().numpy().tobytes())
    return sha.hexdigest()[:12]
