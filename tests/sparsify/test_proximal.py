"""Soft thresholding after the step, against loops, torch's softshrink and a numeric minimiser."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional as F

from yolo_slim import SparsityPenalty
from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.proximal import shrink_, shrink_biases_

pytestmark = pytest.mark.usefixtures("one_thread")


def affine(penalty: SparsityPenalty) -> list[nn.Parameter]:
    return [p for norm in penalty.norms.modules for p in (norm.weight, norm.bias)]


def set_gradients_(parameters: Iterable[nn.Parameter], scale: float, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        p.grad = scale * torch.randn(p.shape, generator=generator)


@pytest.fixture
def bns(tiny_model: nn.Module) -> PrunableNorms:
    """Gammas of both signs, a zero in each BN."""
    found = PrunableNorms(tiny_model, "skip", [])
    for norm in found.modules:
        nn.init.normal_(norm.weight)
        norm.weight.data[0] = 0
    return found


def test_against_a_loop_and_softshrink(bns: PrunableNorms) -> None:
    gamma, beta, threshold = bns.flat("weight"), bns.flat("bias"), 0.4
    expected = []
    for value in gamma.tolist():
        if value > threshold:
            expected.append(value - threshold)
        elif value < -threshold:
            expected.append(value + threshold)
        else:
            expected.append(0.0)
    shrink_(bns, threshold)
    found = bns.flat("weight")
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)
    torch.testing.assert_close(found, F.softshrink(gamma, threshold), rtol=0, atol=1e-6)
    small = gamma.abs() <= threshold
    assert small.any() and not small.all()
    assert torch.equal(found == 0, small)  # exact zeros, and only where they are due
    follow = torch.where(small, 0.0, beta * (1 - threshold / gamma.abs()))
    torch.testing.assert_close(bns.flat("bias"), follow, rtol=1e-5, atol=1e-6)


def test_one_threshold_a_channel(bns: PrunableNorms) -> None:
    """Where it is 0 nothing moves, not even the beta of a gamma that is zero."""
    gamma, beta = bns.flat("weight"), bns.flat("bias")
    threshold = torch.rand(len(gamma)) * (torch.arange(len(gamma)) % 2)
    shrink_(bns, threshold)
    wanted = gamma.sign() * (gamma.abs() - threshold).clamp_min(0)
    torch.testing.assert_close(bns.flat("weight"), wanted, rtol=0, atol=1e-6)
    left = threshold == 0
    assert (left & (gamma == 0)).any()
    assert torch.equal(bns.flat("weight")[left], gamma[left])
    assert torch.equal(bns.flat("bias")[left], beta[left])


def test_beta_by_itself(bns: PrunableNorms) -> None:
    gamma, beta = bns.flat("weight"), bns.flat("bias")
    shrink_biases_(bns, 0.2)
    torch.testing.assert_close(bns.flat("bias"), F.softshrink(beta, 0.2), rtol=0, atol=1e-6)
    assert torch.equal(bns.flat("bias") == 0, beta.abs() <= 0.2)
    assert torch.equal(bns.flat("weight"), gamma)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tied_channels_solve_the_proximal_problem(tiny_model: nn.Module, dtype) -> None:
    """Minimise |x - gamma|^2 / 2 + threshold * sqrt(n) * |x| over the n gammas of a group."""
    bns = PrunableNorms(tiny_model.to(dtype), "group", [])
    before, threshold = bns.flat("weight"), 0.9
    shrink_(bns, threshold)
    after, seen = bns.flat("weight"), set()
    for group, count in enumerate(bns.size.tolist()):
        if count == 1 and group % 16:
            continue
        members = bns.group == group
        start = before[members].double().numpy()
        cost = threshold * len(start) ** 0.5

        def problem(x: np.ndarray, start: np.ndarray = start, cost: float = cost) -> float:
            return float(((x - start) ** 2).sum() / 2 + cost * np.linalg.norm(x))

        options = {"xatol": 1e-9, "fatol": 1e-16, "maxiter": 4000, "maxfev": 4000}
        best = minimize(problem, start / 2, method="Nelder-Mead", options=options).x
        np.testing.assert_allclose(after[members].double().numpy(), best, rtol=0, atol=2e-6)
        seen.add((len(start), bool((after[members] == 0).all())))
    assert {(1, True), (1, False), (3, True), (3, False)} <= seen, seen


def step_both_(penalty: SparsityPenalty, model: nn.Module, plain: nn.Module, lr: float) -> None:
    """One step of SGD half-way, with the same gradients: with the penalty, and without."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    penalty.attach(optimizer)
    penalty.progress = 0.5
    for net, step in ((model, optimizer), (plain, torch.optim.SGD(plain.parameters(), lr))):
        set_gradients_(net.parameters(), 0.1)
        step.step()


@pytest.mark.parametrize("residual", ["skip", "group"])
def test_step_is_hand_arithmetic(tiny_model: nn.Module, residual) -> None:
    """SGD: soft(gamma - lr * g, lr * sr * (1 - 0.9 * progress)); the others make a plain step."""
    lr, sr = 0.1, 4.0
    plain = deepcopy(tiny_model)
    penalty = SparsityPenalty(tiny_model, sr, penalty="prox", residual=residual)
    step_both_(penalty, tiny_model, plain, lr)
    bns = penalty.norms
    moved = PrunableNorms(plain, residual, [])
    size = moved.over_groups(moved.flat("weight"))
    factor = ((size - lr * sr * 0.55) / size).clamp_min(0)
    assert (factor == 0).any() and (factor > 0).any()
    for attribute in ("weight", "bias"):
        expected = factor * moved.flat(attribute)
        torch.testing.assert_close(bns.flat(attribute), expected, rtol=0, atol=1e-6)
    inside = {f"{name}.{part}" for name in bns.names for part in ("weight", "bias")}
    others = dict(plain.named_parameters())
    for name, p in tiny_model.named_parameters():
        assert name in inside or torch.equal(p, others[name]), name


@pytest.mark.parametrize("bias_sr", [0.0, 0.5])
def test_bias_sr(tiny_model: nn.Module, bias_sr: float) -> None:
    """0 leaves beta to the optimizer, bit for bit; more thresholds beta by itself, undecayed."""
    plain, lr = deepcopy(tiny_model), 0.1
    penalty = SparsityPenalty(tiny_model, 4.0, penalty="prox", bias_sr=bias_sr)
    step_both_(penalty, tiny_model, plain, lr)
    moved = PrunableNorms(plain, "skip", []).flat("bias")
    found = penalty.norms.flat("bias")
    assert (penalty.norms.flat("weight") == 0).any()
    if bias_sr:
        torch.testing.assert_close(found, F.softshrink(moved, lr * bias_sr), rtol=0, atol=1e-6)
        assert torch.equal(found == 0, moved.abs() <= lr * bias_sr)
    else:
        assert torch.equal(found, moved)


def test_frozen_norms_stay(tiny_model: nn.Module) -> None:
    penalty = SparsityPenalty(tiny_model, 4.0, penalty="prox", bias_sr=1.0)
    frozen, free = penalty.norms.modules[:2]
    for p in frozen.parameters():
        p.requires_grad = False
    parts = (frozen.weight, frozen.bias, free.weight, free.bias)
    before = [p.detach().clone() for p in parts]
    optimizer = torch.optim.SGD([p for p in tiny_model.parameters() if p.requires_grad], lr=0.1)
    penalty.attach(optimizer)
    set_gradients_((p for p in tiny_model.parameters() if p.requires_grad), 0.0)
    optimizer.step()
    same = [torch.equal(p, b) for p, b in zip(parts, before, strict=True)]
    assert same == [True, True, False, False]


def way(model: nn.Module, method, steps: int, **options) -> torch.Tensor:
    """How far gammas of 1 have gone under an sr of 0.01 with no other gradient."""
    penalty = SparsityPenalty(model, 0.01, penalty=method)
    for norm in penalty.norms.modules:
        nn.init.ones_(norm.weight)
    parameters = affine(penalty)
    optimizer = torch.optim.SGD(parameters, lr=0.01, **options)
    penalty.attach(optimizer)
    for step in range(steps):
        penalty.progress = step / steps
        for p in parameters:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    return 1 - penalty.norms.flat("weight")


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_moves_gamma_as_far_as_the_subgradient(tiny_model: nn.Module, options: dict) -> None:
    """Under SGD: momentum adds up what the subgradient gives it, and the threshold has its sum."""
    steps, momentum = 400, options.get("momentum", 0.0)
    literal = way(deepcopy(tiny_model), "l1", steps, **options)
    proximal = way(tiny_model, "prox", steps, **options)
    decay = sum(1 - 0.9 * step / steps for step in range(steps))
    expected = torch.full_like(proximal, 0.01 * 0.01 * decay / (1 - momentum))
    torch.testing.assert_close(proximal, expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(literal, proximal, rtol=0.03, atol=0)  # momentum has to grow first


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_under_adam_the_scale_of_gradients_is_no_matter(tiny_model, kind, scale: float) -> None:
    """Each step is Adam's own and then exactly lr * sr * decay towards zero."""
    lr, sr, plain = 0.01, 0.7, deepcopy(tiny_model)
    penalty = SparsityPenalty(tiny_model, sr, penalty="prox")
    twin = PrunableNorms(plain, "skip", [])
    ours = kind(affine(penalty), lr=lr, weight_decay=0.0)
    theirs = kind([p for m in twin.modules for p in (m.weight, m.bias)], lr=lr, weight_decay=0.0)
    penalty.attach(ours)
    for step in range(5):
        penalty.progress = step / 5
        before, old = penalty.norms.flat("weight"), twin.flat("weight")
        for optimizer in (ours, theirs):
            set_gradients_(optimizer.param_groups[0]["params"], scale, seed=step)
            optimizer.step()
        moved = before + twin.flat("weight") - old
        expected = F.softshrink(moved, lr * sr * (1 - 0.9 * step / 5))
        torch.testing.assert_close(penalty.norms.flat("weight"), expected, rtol=0, atol=1e-6)


def test_each_parameter_group_has_its_rate(tiny_model: nn.Module) -> None:
    """And the rates are those of now: of a scheduler, or of a loaded state."""
    penalty = SparsityPenalty(tiny_model, 0.5, penalty="prox")
    for norm in penalty.norms.modules:
        nn.init.ones_(norm.weight)
    parameters, half = affine(penalty), len(penalty.names) // 2 * 2
    groups = [{"params": parameters[:half], "lr": 0.1}, {"params": parameters[half:], "lr": 0.02}]
    groups[1]["momentum"] = 0.5
    optimizer = torch.optim.SGD(groups, lr=1.0)
    penalty.attach(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())  # its groups are others from here on
    optimizer.param_groups[0]["lr"] = 0.2
    set_gradients_(parameters, 0.0)
    optimizer.step()
    for i, norm in enumerate(penalty.norms.modules):
        wanted = 1 - 0.5 * 0.2 if 2 * i < half else 1 - 0.5 * 0.02 * 2
        torch.testing.assert_close(norm.weight, torch.full_like(norm.weight, wanted))


def test_a_zero_comes_back_only_past_the_threshold(tiny_model: nn.Module) -> None:
    penalty = SparsityPenalty(tiny_model, 1.0, penalty="prox")
    norm = penalty.norms.modules[0]
    optimizer = torch.optim.SGD(affine(penalty), lr=0.1)
    penalty.attach(optimizer)
    with torch.no_grad():
        norm.weight[:2] = 0
    set_gradients_(affine(penalty), 0.0)
    norm.weight.grad[:2] = torch.tensor([0.9, -1.5])
    optimizer.step()
    assert norm.weight[0] == 0
    torch.testing.assert_close(norm.weight[1], torch.tensor(0.05))
