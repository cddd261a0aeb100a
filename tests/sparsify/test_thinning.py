"""sr = "auto": the share at exactly zero by three quarters of a run; nothing lost at the cut."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from yolo_slim import InputError, SparsityPenalty, prune
from yolo_slim.pruning.masks import apply_masks_, keep_vector
from yolo_slim.sparsify.norms import PrunableNorms
from yolo_slim.sparsify.schedule import REACHED, descent

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3),
}


@pytest.fixture
def net() -> nn.Module:
    """A regression net of 56 prunable channels, whose training takes a millisecond a step."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU()),
        *(nn.Conv2d(16, 40, 3, 2, padding=1, bias=False), nn.BatchNorm2d(40), nn.SiLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 3)),
    )
    model.image = (1, 8, 8)
    return model


def batches(steps: int, seed: int = 5) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Noise, and what is to be seen in it: mean, spread, difference of the halves."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        images = torch.randn(8, 1, 8, 8, generator=generator)
        flat = images.flatten(1)
        yield images, torch.stack([flat.mean(1), flat.std(1), flat[:, :32].mean(1)], 1)


def train_(model: nn.Module, penalty: SparsityPenalty | None, optimizer, steps: int, epochs=None):
    """Train; yields after each step. With epochs, progress is set at the start of each alone."""
    for step, (images, targets) in enumerate(batches(steps)):
        if penalty:
            penalty.progress = step / steps if epochs is None else step * epochs // steps / epochs
        optimizer.zero_grad()
        F.mse_loss(model(images), targets).backward()
        optimizer.step()
        yield step


def zeros(penalty: SparsityPenalty) -> torch.Tensor:
    """(channels,) True where gamma is exactly zero."""
    return penalty.norms.flat("weight") == 0


def reached(penalty: SparsityPenalty) -> bool:
    """Whether the share at exactly zero is what was asked for, to 1% or a channel."""
    total = penalty.norms.graph.prunable_channels
    return abs(zeros(penalty).sum() - penalty.target * total) <= max(0.01 * total, 0.5)


RUNS = [(kind, 100, epochs) for kind in OPTIMIZERS for epochs in (None, 10)]
RUNS += [("SGD", 300, None), ("Adam", 300, None), ("AdamW", 2000, None)]


@pytest.mark.parametrize(("kind", "steps", "epochs"), RUNS)
def test_share_is_reached_and_held(net: nn.Module, kind: str, steps: int, epochs) -> None:
    optimizer = OPTIMIZERS[kind](net.parameters())
    penalty = SparsityPenalty(net, percent=0.6, round_to=8).attach(optimizer)
    at_first, due, alive = None, [], 0
    for _ in train_(net, penalty, optimizer, steps, epochs):
        due.append(penalty.due)
        assert penalty.strength >= 0
        assert penalty.holds == (penalty.progress >= REACHED)
        if penalty.progress >= REACHED:
            at_first = zeros(penalty) if at_first is None else at_first
            assert torch.equal(zeros(penalty), at_first)
            assert (penalty.norms.flat("bias")[at_first] == 0).all()
        else:
            alive = max(alive, int(zeros(penalty).sum()))
    assert reached(penalty)
    assert due[0] == 0
    assert due == sorted(due)
    assert due[-1] == 1
    left = penalty.norms.flat("weight")[~at_first]
    assert left.abs().mean() > 0.5  # they began at 1: those that stay are not shrunk
    assert epochs or alive > 0  # by and by, not at one blow


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_few_steps(net: nn.Module, steps: int) -> None:
    """All that the host makes are enough, whatever the gammas are: zeros are exact."""
    for seed in range(15):
        torch.manual_seed(seed)
        model = deepcopy(net)
        for index in (1, 4):
            nn.init.uniform_(model[index].weight, -1.5, 1.5)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        penalty = SparsityPenalty(model, percent=0.5, round_to=1).attach(optimizer)
        penalty.follow(descent([(step / steps, 0.1 * step) for step in range(steps)]))
        list(train_(model, penalty, optimizer, steps))
        assert reached(penalty)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_in_double_precision(net: nn.Module) -> None:
    optimizer = OPTIMIZERS["SGD"](net.double().parameters())
    penalty = SparsityPenalty(net, percent=0.5, round_to=8).attach(optimizer)
    for step, (images, targets) in enumerate(batches(20)):
        penalty.progress = step / 20
        optimizer.zero_grad()
        F.mse_loss(net(images.double()), targets.double()).backward()
        optimizer.step()
    assert reached(penalty)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_percent_of_no_channel_is_a_plain_training(net: nn.Module, kind: str) -> None:
    plain = deepcopy(net)
    with torch.no_grad():
        for model in (net, plain):
            model[1].weight[:2] = 0  # gammas that are zero, whose betas work
            model[1].bias[:2] = 0.3
    optimizer = OPTIMIZERS[kind](net.parameters())
    penalty = SparsityPenalty(net, percent=1e-9).attach(optimizer)
    list(train_(net, penalty, optimizer, 20))
    list(train_(plain, None, OPTIMIZERS[kind](plain.parameters()), 20))
    assert same(net, plain)


def given(penalty: SparsityPenalty, steps: int) -> Iterator[torch.Tensor]:
    """Set gradients that depend on nothing; yields after each step that it makes due."""
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        penalty.progress = step / steps
        for norm in penalty.norms.modules:
            for p in (norm.weight, norm.bias):
                p.grad = torch.randn(p.shape, generator=generator) if p.requires_grad else None
        yield penalty.progress


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_is_not_chosen_is_left_alone(tiny_model: nn.Module, kind: str) -> None:
    """Under gradients that depend on nothing: to the bit as without a penalty."""
    plain = SparsityPenalty(deepcopy(tiny_model), sr=0.0)
    penalty = SparsityPenalty(tiny_model, percent=0.5, round_to=1)
    ever = torch.zeros(sum(penalty.norms.sizes), dtype=torch.bool)
    runs = []
    for each in (penalty, plain):
        optimizer = OPTIMIZERS[kind](p for m in each.norms.modules for p in m.parameters())
        each.attach(optimizer)
        for _ in given(each, 60):
            optimizer.step()
            ever |= penalty.strategy.chosen
        runs.append((each.norms.flat("weight"), each.norms.flat("bias")))
    assert 0.3 < (~ever).float().mean() < 0.51
    for ours, theirs in zip(*runs, strict=True):
        assert torch.equal(ours[~ever], theirs[~ever])
        assert not torch.equal(ours[ever], theirs[ever])


def test_channels_that_do_nothing_for_the_loss_go(tiny_model: nn.Module) -> None:
    """Those without a gradient, whatever their gammas are."""
    penalty = SparsityPenalty(tiny_model, percent=0.5, round_to=1)
    optimizer = OPTIMIZERS["SGD"](p for m in penalty.norms.modules for p in m.parameters())
    penalty.attach(optimizer)
    idle = torch.cat([torch.randperm(size) < size // 2 for size in penalty.norms.sizes])
    for _ in given(penalty, 40):
        for norm, part in zip(penalty.norms.modules, idle.split(penalty.norms.sizes), strict=True):
            norm.weight.grad[part] = 0
            norm.bias.grad[part] = 0
        optimizer.step()
    assert torch.equal(zeros(penalty), idle)


def test_nan_gradients_do_not_poison_the_scores(tiny_model: nn.Module) -> None:
    """A channel is judged by its other steps; a step of NaN alone changes no order."""
    penalty = SparsityPenalty(tiny_model, percent=0.5)
    due = given(penalty, 8)
    for _ in range(3):
        next(due)
        penalty.strategy.learn_()
    order = penalty.strategy.score.argsort()
    for norm in penalty.norms.modules:
        norm.weight.grad.fill_(torch.nan)
        norm.bias.grad.fill_(torch.inf)
    penalty.strategy.learn_()
    assert torch.equal(penalty.strategy.score.argsort(), order)
    next(due)
    penalty.norms.modules[0].weight.grad[0] = torch.nan
    penalty.strategy.learn_()
    assert penalty.strategy.score.isfinite().all()
    assert (penalty.strategy.score > 0).all()


CUTS = [
    {"round_to": 32},
    {"round_to": 8, "percent": 0.45},
    {"round_to": 1, "percent": 0.8},
    {"residual": "group", "round_to": 8},
    {"residual": "inner", "round_to": 4},
    {"keep": ["model.2", "model.5.bn"], "percent": 0.4},
    {"residual": "group", "keep": ["model.4.cv1"], "percent": 0.4, "round_to": 1},
    {"macs": 0.5, "round_to": 8},
    {"macs": 0.3, "round_to": 1, "residual": "inner"},
]


@pytest.mark.parametrize("options", CUTS, ids=str)
def test_nothing_is_lost_at_the_cut(tiny_model: nn.Module, options: dict) -> None:
    """prune.py cuts exactly what is zero: the model before and after compute the same."""
    torch.manual_seed(3)
    images = torch.rand(2, 3, 64, 64)
    tiny_model.train()
    targets = [torch.randn_like(out) for out in tiny_model(images)]
    optimizer = OPTIMIZERS["SGD"](tiny_model.parameters())
    penalty = SparsityPenalty(tiny_model, **options).attach(optimizer)
    for step in range(16):
        penalty.progress = step / 16
        optimizer.zero_grad()
        pairs = zip(tiny_model(images), targets, strict=True)
        sum(F.smooth_l1_loss(out, target) for out, target in pairs).backward()
        optimizer.step()
    assert reached(penalty)
    gone = zeros(penalty)
    assert (penalty.norms.flat("bias")[gone] == 0).all()
    left = {name: int((~part).sum()) for name, part in penalty.norms.by_name(gone).items()}
    assert min(left.values()) >= 1
    model = tiny_model.eval()
    with torch.no_grad():  # statistics under which every layer is alive
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train().momentum = 1.0
        model(images)
    model.eval()

    settings = {key: value for key, value in options.items() if key not in {"percent", "macs"}}
    settings |= {"round_to": 1} if "macs" in options else {}
    share = int(gone.sum()) / penalty.norms.graph.prunable_channels
    asked = [] if options.get("residual") == "group" else [penalty.target]  # 1% may differ there
    for percent in (*asked, share):
        pruned = prune(model, percent, imgsz=64, **settings)
        assert torch.equal(~penalty.norms.joined(pruned.masks), gone)
        assert int(sum((~m).sum() for m in pruned.masks.values())) == int(gone.sum())
        left_of_macs = pruned.report.after.macs / pruned.report.before.macs
        assert left_of_macs == pytest.approx(options.get("macs", left_of_macs), rel=0.02)
    assert {n: int(m.sum()) for n, m in pruned.masks.items() if n in left} == left
    assert same(apply_masks_(deepcopy(model), pruned.masks), model)
    other = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, found = model.double()(other)[1], pruned.model.double().eval()(other)[1]
    for a, b in zip(expected, found, strict=True):
        assert (a[0] - a[1]).abs().max() > 1e-3  # an image makes a difference
        torch.testing.assert_close(b, a, rtol=0, atol=1e-9)


def test_frozen_layers_stay_and_others_go_for_them(tiny_model: nn.Module) -> None:
    for module in list(tiny_model.model)[:4]:
        module.requires_grad_(False)
    start = deepcopy(tiny_model)
    free = [p for p in tiny_model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(free, lr=0.01)
    penalty = SparsityPenalty(tiny_model, percent=0.5, round_to=1).attach(optimizer)
    for _ in given(penalty, 20):
        optimizer.step()
    assert same(tiny_model.model[:4], start.model[:4])
    assert reached(penalty)
    with pytest.raises(InputError, match=r"percent: 0\.9"):
        penalty.strategy.masks(0.9 / 0.5)


@pytest.mark.parametrize("macs", [0.3, 0.6])
def test_a_failure_asks_for_less(net: nn.Module, macs: float) -> None:
    """Three quarters of what was to go, in the unit that was asked for; more than that revives."""
    optimizer = OPTIMIZERS["SGD"](net.parameters())
    penalty = SparsityPenalty(net, macs=macs, round_to=1).attach(optimizer)
    list(train_(net, penalty, optimizer, 40))
    more = penalty.target
    assert penalty.holds and reached(penalty)
    assert "aiming at" in penalty.weaken_(1)
    assert penalty.target < more
    counted, masks = penalty.strategy.counted, penalty.strategy.masks()
    left = counted.macs(keep_vector(penalty.norms.graph, masks)) / counted.macs(counted.everything)
    assert left == pytest.approx(1 - 0.75 * (1 - macs), abs=0.03)
    again = SparsityPenalty(net, macs=macs, round_to=1)
    again.load_state(penalty.state())
    assert again.target == penalty.target and again.strategy.part == 0.75


@pytest.mark.parametrize("at", [10, 41, 45, 55])
@pytest.mark.parametrize("aim", ["percent", "macs"])
def test_resumed_is_uninterrupted(net: nn.Module, at: int, aim: str) -> None:
    """At any step: model, optimizer and state, through a file, into a new penalty."""
    steps, options = 60, {aim: 0.6, "round_to": 8}
    other = deepcopy(net)
    optimizer = OPTIMIZERS["AdamW"](net.parameters())
    penalty = SparsityPenalty(net, **options).attach(optimizer)
    saved = io.BytesIO()
    for step in train_(net, penalty, optimizer, steps):
        if step == at:
            parts = (net.state_dict(), optimizer.state_dict(), penalty.state())
            torch.save(parts, saved)
    saved.seek(0)
    weights, moments, state = torch.load(saved, weights_only=True)
    other.load_state_dict(weights)
    again = OPTIMIZERS["AdamW"](other.parameters())
    resumed = SparsityPenalty(other, **options).attach(again)
    again.load_state_dict(moments)
    resumed.load_state(state)
    rest = list(batches(steps))[at + 1 :]
    for step, (images, targets) in enumerate(rest, at + 1):
        resumed.progress = step / steps
        again.zero_grad()
        F.mse_loss(other(images), targets).backward()
        again.step()
    assert same(net, other)
    assert reached(resumed)
    assert resumed.strength == penalty.strength


def test_an_older_unit_is_what_near_zero_means(tiny_model: nn.Module) -> None:
    """The median of |gamma| of each BN when the penalty was made; 1 where that is zero."""
    with torch.no_grad():
        nn.init.zeros_(tiny_model.model[0].bn.weight)
    bns = PrunableNorms(tiny_model, "skip", [])
    by_name = bns.by_name(bns.unit)
    assert (by_name["model.0.bn"] == 1).all()
    gamma = tiny_model.model[1].bn.weight.detach().abs()
    assert (by_name["model.1.bn"] == gamma.sort().values[(len(gamma) - 1) // 2]).all()
