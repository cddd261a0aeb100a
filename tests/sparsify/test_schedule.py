"""Learning rates of the host's loop, what follows from them, an L1 that keeps pace with them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from yolo_slim import SparsityPenalty
from yolo_slim.host.compat import mend
from yolo_slim.sparsify.schedule import REACHED, descent, learning_rates, reach

mend()

from yolov5.utils.general import one_cycle  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

RUN = {
    "epochs": st.integers(1, 12),
    "batches": st.integers(1, 60),
    "batch_size": st.sampled_from([1, 4, 16, 48, 64, 128]),
    "warmup": st.sampled_from([0.0, 0.5, 3.0, 20.0]),
    "lrf": st.sampled_from([0.01, 0.2, 1.0]),
    "cosine": st.booleans(),
}


def rates_of(epochs, batches, batch_size, warmup, lrf, cosine) -> list[tuple[float, float]]:
    hyp = {"lr0": 0.02, "lrf": lrf, "warmup_epochs": warmup}
    return list(
        learning_rates(hyp, epochs=epochs, batches=batches, batch_size=batch_size, cosine=cosine)
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**RUN)
def test_rates_are_those_of_the_loop(epochs, batches, batch_size, warmup, lrf, cosine) -> None:
    """The lines of yolov5/train.py that set lr and accumulate, with torch's scheduler."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    lf = one_cycle(1, lrf, epochs) if cosine else lambda x: (1 - x / epochs) * (1.0 - lrf) + lrf
    scheduler = LambdaLR(optimizer, lr_lambda=lf)
    nw, last, steps = max(round(warmup * batches), 100), -1, []
    accumulate = max(round(64 / batch_size), 1)
    for epoch in range(epochs):
        for i in range(batches):
            ni = i + batches * epoch
            if ni <= nw:
                accumulate = max(1, np.interp(ni, [0, nw], [1, 64 / batch_size]).round())
                for x in optimizer.param_groups:
                    x["lr"] = np.interp(ni, [0, nw], [0.0, x["initial_lr"] * lf(epoch)])
            if ni - last >= accumulate:
                optimizer.step()
                steps.append((ni / (epochs * batches), optimizer.param_groups[0]["lr"]))
                last = ni
        scheduler.step()
    found = rates_of(epochs, batches, batch_size, warmup, lrf, cosine)
    np.testing.assert_allclose(found, steps, rtol=1e-9, atol=1e-15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**RUN)
def test_descent_follows_the_learning_rates(**run) -> None:
    """At each step the way grows with its rate; the last step before REACHED completes it."""
    rates = rates_of(**run)
    gone = descent(rates)
    assert gone(REACHED) == gone(0.9) == gone(1.0) == 1
    values = [gone(p) for p in np.linspace(0, 1, 200)]
    assert all(0 <= a <= b <= 1 for a, b in pairwise(values))
    before = [(p, rate) for p, rate in rates if p < REACHED]
    assert gone(before[-1][0]) == 1
    whole, so_far = sum(rate for _, rate in before), 0.0
    for progress, rate in before:
        so_far += rate / whole if whole else 1 / len(before)
        assert gone(progress) == pytest.approx(so_far, abs=2e-6)
    assert gone(0.0) == pytest.approx(0, abs=2e-6) or not whole  # a warm-up begins at 0


def test_descent_by_hand() -> None:
    """Straight between steps; where no step has a rate each counts the same."""
    gone = descent([(0.0, 0.0), (0.2, 1.0), (0.4, 3.0), (0.8, 9.0)])
    ways = [gone(p) for p in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    assert ways == pytest.approx([0, 0.125, 0.25, 0.625, 1, 1], abs=1e-7)
    assert [descent([(0.0, 0.0), (0.5, 0.0)])(p) for p in (0.0, 0.5)] == [0.5 + 1e-9, 1]
    assert descent([(0.0, 0.0)])(0.0) == 1


def test_reach_is_the_sum_of_learning_rates() -> None:
    """One step an epoch, each 64 images: a sum by hand. The gain is that of momentum."""
    rates = rates_of(200, 1, 64, 0.0, 1.0, False)
    steps = [0.02 * min(i / 100, 1) * (1 - 0.9 * i / 200) for i in range(200)]
    assert reach(rates) == pytest.approx(sum(steps))
    assert reach(rates, gain=2.0) == pytest.approx(2 * sum(steps))
    assert reach([]) == 0


def pulled(penalty: SparsityPenalty, steps: int, rates=None, pull: float = 0.02, momentum=0.9):
    """SGD with a loss that pulls each gamma to where it was, and noise; yields after each step."""
    parameters = [p for m in penalty.norms.modules for p in m.parameters()]
    home = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.SGD(parameters, lr=0.02, momentum=momentum)
    penalty.attach(optimizer)
    generator = torch.Generator().manual_seed(2)
    for step in range(steps):
        penalty.progress = step / steps
        if rates:
            optimizer.param_groups[0]["lr"] = rates[step]
        for p, start in zip(parameters, home, strict=True):
            noise = torch.randn(p.shape, generator=generator)
            p.grad = pull * (p.detach() - start) + 0.005 * noise
        optimizer.step()
        yield step


@pytest.mark.parametrize(("decays", "residual"), [(True, "skip"), (True, "group"), (False, "skip")])
def test_an_l1_keeps_pace_under_sgd(tiny_model: nn.Module, decays: bool, residual) -> None:
    """sr "auto" with the subgradient: near zero is under 1% of the layer's median at the start."""
    steps, percent = 400, 0.5
    rates = [0.02 * (1 - 0.95 * i / steps) if decays else 0.02 for i in range(steps)]
    penalty = SparsityPenalty(tiny_model, penalty="l1", percent=percent, residual=residual)
    penalty.follow(descent([(i / steps, rate) for i, rate in enumerate(rates)]))
    assert penalty.due == 0
    for step in pulled(penalty, steps, rates):
        assert penalty.strength >= 0
        assert penalty.holds == ((step + 1) / steps >= REACHED)
    assert penalty.due == 1
    norms = penalty.norms
    limit = 0.01 if decays else 0.03  # a subgradient leaves gammas swinging by a step's length
    near = (norms.flat("weight").abs() < limit * norms.unit).float().mean()
    assert near >= percent - 0.01, near
    assert (norms.flat("weight").abs() > 0.1 * norms.unit).float().mean() > 0.2


def test_pace_with_no_rate_is_idle(tiny_model: nn.Module) -> None:
    still = SparsityPenalty(tiny_model, penalty="l1", percent=0.5)
    before = still.norms.flat("weight")
    assert [still.strength for _ in pulled(still, 10, [0.0] * 10)] == [0.0] * 10
    assert torch.equal(still.norms.flat("weight"), before)


def test_pace_goes_on_from_its_state(tiny_model: nn.Module) -> None:
    """The way is that of the start, not of the gammas that it is resumed with."""
    penalty = SparsityPenalty(tiny_model, penalty="l1", percent=0.5)
    for step in pulled(penalty, 60):
        if step == 30:
            other = SparsityPenalty(tiny_model, penalty="l1", percent=0.5)
            assert other.strategy.start < penalty.strategy.start
            other.load_state(penalty.state())
            for each in (penalty, other):
                each.strategy.set_(0.6, 0.01)
            assert other.strategy.sr == penalty.strategy.sr > 0
            assert other.strategy.gone == penalty.strategy.gone
