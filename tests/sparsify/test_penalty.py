"""The L1 step against hand arithmetic: plain, accumulated, under GradScaler.

And what is common to all penalties: what is on by default, what is kept for a resumed training.
"""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from yolo_slim import InputError, SparsityPenalty
from yolo_slim.sparsify.lasso import FixedL1, add_l1_
from yolo_slim.sparsify.pace import PacedL1
from yolo_slim.sparsify.proximal import FixedProx
from yolo_slim.sparsify.thinning import Thinning


def norms(model: nn.Module, penalty: SparsityPenalty) -> list[nn.BatchNorm2d]:
    modules = dict(model.named_modules())
    return [modules[name] for name in penalty.names]


def set_gradients_(model: nn.Module, value: float = 0.01) -> None:
    for p in model.parameters():
        p.grad = torch.full_like(p, value)


def test_step_is_hand_arithmetic(tiny_model: nn.Module) -> None:
    """w - lr * (g + sr * (1 - 0.9 * progress) * sign(w)); beta has 10 * sr and no decay."""
    lr, sr, g = 0.1, 2e-3, 0.01
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=lr)
    penalty = SparsityPenalty(tiny_model, sr=sr).attach(optimizer)
    penalty.progress = 0.5
    inside = norms(tiny_model, penalty)
    outside = tiny_model.model[2].m[0].cv1.bn  # in a residual Bottleneck
    gamma = [m.weight.detach().clone() for m in inside]
    beta = [m.bias.detach().clone() for m in inside]
    left = outside.weight.detach().clone()
    set_gradients_(tiny_model, g)
    optimizer.step()
    for m, w, b in zip(inside, gamma, beta, strict=True):
        torch.testing.assert_close(m.weight, w - lr * (g + sr * 0.55 * w.sign()))
        torch.testing.assert_close(m.bias, b - lr * (g + 10 * sr * b.sign()))
    torch.testing.assert_close(outside.weight, left - lr * g)


def test_residual_bottlenecks_are_left_out(tiny_model: nn.Module) -> None:
    names = set(SparsityPenalty(tiny_model).names)
    out = {"model.2.cv1.bn", "model.2.m.0.cv1.bn", "model.2.m.0.cv2.bn"}
    out |= {"model.4.cv1.bn"} | {f"model.4.m.{i}.cv{j}.bn" for i in (0, 1) for j in (1, 2)}
    assert (
        names == {n for n, m in tiny_model.named_modules() if isinstance(m, nn.BatchNorm2d)} - out
    )


def test_tied_channels_have_a_group_penalty(tiny_model: nn.Module) -> None:
    """model.2.cv1 and m.0.cv2 are added: sr * sqrt(2) * gamma / sqrt(a^2 + b^2); others: sign."""
    penalty = SparsityPenalty(tiny_model, sr=2e-3, residual="group")
    modules = dict(tiny_model.named_modules())
    assert set(penalty.names) == {
        n for n, m in tiny_model.named_modules() if isinstance(m, nn.BatchNorm2d)
    }
    a, b, alone = (modules[f"model.2.{n}.bn"] for n in ("cv1", "m.0.cv2", "cv2"))
    with torch.no_grad():
        a.weight[:3] = torch.tensor([0.3, 0.0, -0.5])
        b.weight[:3] = torch.tensor([0.4, 0.0, -0.5])
    set_gradients_(tiny_model, 0.0)
    add_l1_(penalty.norms, 2e-3, 2e-2)
    root = 2**0.5
    torch.testing.assert_close(a.weight.grad[:3], 2e-3 * torch.tensor([root * 0.6, 0.0, -1.0]))
    torch.testing.assert_close(b.weight.grad[:3], 2e-3 * torch.tensor([root * 0.8, 0.0, -1.0]))
    torch.testing.assert_close(alone.weight.grad, 2e-3 * alone.weight.detach().sign())
    torch.testing.assert_close(a.bias.grad, 2e-2 * a.bias.detach().sign())


def test_inner_penalises_the_inside_of_bottlenecks(tiny_model: nn.Module) -> None:
    more = set(SparsityPenalty(tiny_model, residual="inner").names)
    found = more - set(SparsityPenalty(tiny_model).names)
    assert found == {"model.2.m.0.cv1.bn", "model.4.m.0.cv1.bn", "model.4.m.1.cv1.bn"}


def test_kept_layers_are_not_penalised(tiny_model: nn.Module) -> None:
    names = SparsityPenalty(tiny_model, keep=["model.11", "model.0.bn"]).names
    assert not {n for n in names if n.startswith(("model.11.", "model.0."))}
    with pytest.raises(InputError, match="keep: 'model.77', which matches nothing"):
        SparsityPenalty(tiny_model, keep=["model.77"])


@pytest.mark.parametrize("strength", [{}, {"bias_sr": 0.0}, {"penalty": "prox"}])
def test_sr_0_changes_nothing(tiny_model: nn.Module, strength: dict) -> None:
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.1)
    SparsityPenalty(tiny_model, sr=0.0, **strength).attach(optimizer)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_detach_takes_it_off(tiny_model: nn.Module) -> None:
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.1)
    penalty = SparsityPenalty(tiny_model, sr=1.0).attach(optimizer)
    penalty.detach()
    before = [m.weight.detach().clone() for m in norms(tiny_model, penalty)]
    set_gradients_(tiny_model, 0.0)
    optimizer.step()
    assert all(
        torch.equal(m.weight, w) for m, w in zip(norms(tiny_model, penalty), before, strict=True)
    )


def test_added_once_a_step_with_accumulation(tiny_model: nn.Module) -> None:
    """Four backward passes, one step: the penalty counts once."""
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.1)
    penalty = SparsityPenalty(tiny_model, sr=0.5).attach(optimizer)
    norm = norms(tiny_model, penalty)[0]
    before = norm.weight.detach().clone()
    optimizer.zero_grad()
    for _ in range(4):
        (norm.weight * 0.25).sum().backward()
    optimizer.step()
    torch.testing.assert_close(norm.weight, before - 0.1 * (1.0 + 0.5 * before.sign()))


def test_under_grad_scaler(tiny_model: nn.Module) -> None:
    """The penalty meets unscaled gradients; a step with an overflow is skipped with its penalty."""
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.1)
    penalty = SparsityPenalty(tiny_model, sr=0.5).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norm = norms(tiny_model, penalty)[0]
    for factor, moved in ((1.0, True), (float("inf"), False)):
        before = norm.weight.detach().clone()
        optimizer.zero_grad()
        scaler.scale((norm.weight * factor).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        expected = before - 0.1 * (1.0 + 0.5 * before.sign()) if moved else before
        torch.testing.assert_close(norm.weight, expected)


def test_frozen_norms_are_left(tiny_model: nn.Module) -> None:
    penalty = SparsityPenalty(tiny_model, sr=0.5)
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.1)
    penalty.attach(optimizer)
    frozen, free = norms(tiny_model, penalty)[:2]
    before = frozen.weight.detach().clone(), free.weight.detach().clone()
    frozen.weight.requires_grad = False
    (free.weight * 0).sum().backward()
    optimizer.step()
    assert frozen.weight.grad is None
    assert torch.equal(frozen.weight, before[0])
    torch.testing.assert_close(free.weight, before[1] - 0.1 * 0.5 * before[1].sign())


@pytest.mark.parametrize("sr", [-1.0, float("nan"), float("inf")])
def test_strength_out_of_range(tiny_model: nn.Module, sr: float) -> None:
    with pytest.raises(InputError, match=f"sr: {sr}, expected a finite number, 0 or more, or auto"):
        SparsityPenalty(tiny_model, sr=sr)


def test_what_is_on_by_default(tiny_model: nn.Module) -> None:
    """auto thins; a number is the literal, decaying L1, with or without penalty="l1"."""
    auto = SparsityPenalty(tiny_model)
    assert (auto.sr, type(auto.strategy)) == ("auto", Thinning)
    assert type(SparsityPenalty(tiny_model, penalty="l1").strategy) is PacedL1
    assert type(SparsityPenalty(tiny_model, 2e-4, penalty="prox").strategy) is FixedProx
    for number in (
        SparsityPenalty(tiny_model, 2e-4),
        SparsityPenalty(tiny_model, 2e-4, penalty="l1"),
    ):
        assert (type(number.strategy), number.due, number.holds) == (FixedL1, None, False)
        for progress, decay in ((0.0, 1.0), (0.5, 0.55), (1.0, 0.1)):
            number.progress = progress
            assert number.strength == pytest.approx(2e-4 * decay)


@pytest.mark.parametrize("options", [{"bias_sr": 0.3}, {"bias_sr": 0.0}, {}])
def test_bias_sr(tiny_model: nn.Module, options: dict) -> None:
    """The strength on beta does not decay; by default it is 10 * sr."""
    penalty = SparsityPenalty(tiny_model, sr=0.2, **options)
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.1)
    penalty.attach(optimizer)
    penalty.progress = 0.5
    before = penalty.norms.flat("bias")
    set_gradients_(tiny_model, 0.0)
    optimizer.step()
    expected = before - 0.1 * options.get("bias_sr", 2.0) * before.sign()
    torch.testing.assert_close(penalty.norms.flat("bias"), expected)


def test_weaker_after_failures_and_when_resumed(tiny_model: nn.Module) -> None:
    penalty = SparsityPenalty(tiny_model, sr=0.5)
    assert penalty.weaken_(2) == "with sr 0.045, and as much less on beta"
    assert penalty.strength == pytest.approx(0.045)
    assert penalty.strategy.bias_strength == pytest.approx(0.45)
    other = SparsityPenalty(tiny_model, sr=0.5)
    with torch.no_grad():  # what near zero means is what it meant at the start
        norms(tiny_model, other)[0].weight.mul_(0.1)
    fresh = SparsityPenalty(tiny_model, sr=0.5)
    assert not torch.equal(fresh.norms.unit, penalty.norms.unit)
    fresh.load_state(penalty.state())
    assert fresh.strength == penalty.strength
    assert torch.equal(fresh.norms.unit, penalty.norms.unit)
    auto = SparsityPenalty(tiny_model, percent=0.6)
    assert auto.weaken_(1) == "aiming at 45% of the channels"
    assert auto.strategy.percent == pytest.approx(0.45)


def test_silence_zeroes_the_average_where_the_model_is_zero(tiny_model: nn.Module) -> None:
    ema = deepcopy(tiny_model)
    penalty = SparsityPenalty(tiny_model, percent=0.6)
    norm, twin = norms(tiny_model, penalty)[0], norms(ema, penalty)[0]
    weight, bias = twin.weight.detach().clone(), twin.bias.detach().clone()
    with torch.no_grad():
        norm.weight[:3] = 0
        norm.bias[1:4] = 0
        outside = tiny_model.model[2].m[0].cv1.bn
        outside.weight[:3] = 0
    SparsityPenalty(tiny_model, 0.1).silence_(ema)
    assert torch.equal(twin.weight, weight)  # an L1 leaves nothing at zero: that is no zero of it
    penalty.silence_(ema)
    weight[:3], bias[1:3] = 0, 0
    assert torch.equal(twin.weight, weight)
    assert torch.equal(twin.bias, bias)
    assert (ema.model[2].m[0].cv1.bn.weight != 0).all()
