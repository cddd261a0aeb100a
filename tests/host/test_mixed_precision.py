"""The penalty under a GradScaler and under autocast: on a CPU, where both work too."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from sparse_runs import same
from torch import nn

from yolo_slim import SparsityPenalty

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, PERCENT = 12, 0.5
PENALTIES = [
    {"sr": "auto", "percent": PERCENT, "round_to": 1},
    {"sr": "auto", "percent": PERCENT, "penalty": "l1"},
    {"sr": 0.05, "penalty": "prox"},
    {"sr": 0.05, "penalty": "l1"},
]


def named(options: dict[str, Any]) -> str:
    return f"{options['sr']}-{options.get('penalty', 'default')}"


def loss_of(model: nn.Module, factor: float = 1.0) -> torch.Tensor:
    out = model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
    return factor * sum(o.float().pow(2).mean() for o in out)


@pytest.mark.parametrize("options", PENALTIES, ids=named)
def test_a_step_with_an_overflow_moves_nothing(
    tiny_model: nn.Module, options: dict[str, Any]
) -> None:
    """Neither weights nor what the penalty remembers: the next step goes on as if it never was."""
    model = tiny_model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    penalty = SparsityPenalty(model, **options).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(factor: float) -> None:
        optimizer.zero_grad()
        scaler.scale(loss_of(model, factor)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        scaler.step(optimizer)
        scaler.update()

    def all_of_it() -> dict[str, Any]:
        kept = {"weights": dict(model.named_parameters()), "penalty": penalty.state()}
        kept["optimizer"] = optimizer.state_dict()["state"]
        return deepcopy({**kept, "now": (penalty.strength, penalty.due, penalty.holds)})

    for index in range(STEPS):
        penalty.progress = index / STEPS
        before = all_of_it()
        step(float("inf"))
        assert same(all_of_it(), before), index
        step(1.0)
        assert not same(all_of_it()["weights"], before["weights"])
    assert scaler.get_scale() == 1024.0 * 0.5**STEPS  # it has seen every one


@pytest.mark.parametrize("options", PENALTIES[:1] + PENALTIES[2:3], ids=named)
def test_autocast_to_bfloat16(tiny_model: nn.Module, options: dict[str, Any]) -> None:
    """The forward pass is in bfloat16; gammas stay float32, and come to zero."""
    model = tiny_model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    penalty = SparsityPenalty(model, **options).attach(optimizer)
    start = penalty.norms.flat("weight")
    for index in range(STEPS):
        penalty.progress = index / STEPS
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        optimizer.step()
    gamma = penalty.norms.flat("weight")
    assert gamma.dtype == torch.float32
    assert torch.isfinite(gamma).all()
    if options["sr"] == "auto":
        assert penalty.holds
        assert (gamma == 0).float().mean().item() == pytest.approx(PERCENT, abs=0.01)
    else:
        assert gamma.abs().sum() < start.abs().sum()
