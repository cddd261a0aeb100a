"""What a model uses in several places: tied or pinned, proved, still shared afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from _common import randomise_norms_
from torch import nn

from yolo_slim import (
    Calibration,
    SparsityPenalty,
    admit,
    channel_graph,
    extensions,
    load,
    prune,
    save,
)
from yolo_slim.channels import rules
from yolo_slim.measure.cost import cost
from yolo_slim.models.model import build_heir, build_model
from yolo_slim.models.sharing import shared_in
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.masks import keep_vector
from yolo_slim.pruning.recover.constants import constants_of

SHARED = Path(__file__).parents[2] / "shared_modules.py"
KINDS = ("Twice", "BothHalves", "TwoNames", "TiedWeights", "OneNorm")
CFG = """
nc: 4
depth_multiple: 1.0
width_multiple: 0.25
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Conv, [32, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [64, 3, 2]]  # 1
  - [-1, 1, {kind}, [64]]  # 2
  - [-1, 1, Conv, [64, 3]]  # 3
  - [-1, 1, Conv, [64, 3]]  # 4
head:
  - [-1, 1, Conv, [64, 3, 2]]  # 5
  - [[4, 5], 1, Detect, [nc, anchors]]  # 6
"""
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    before, known = dict(rules.RULES), dict(extensions.ADMITTED)
    admit(SHARED)
    yield
    for registry, old in ((rules.RULES, before), (extensions.ADMITTED, known)):
        registry.clear()
        registry.update(old)
    sys.modules.pop("shared_modules", None)


def model_with(kind: str = "Conv") -> nn.Module:
    model = build_model(yaml.safe_load(CFG.format(kind=kind)))
    randomise_norms_(model)
    return model.eval()


def images() -> Calibration:
    return Calibration(tuple((torch.rand(4, 3, 64, 64), None) for _ in range(2)))


def same_conv(model: nn.Module) -> None:
    """Layer 4 has the conv and the BatchNorm of layer 3."""
    model.model[4].conv, model.model[4].bn = model.model[3].conv, model.model[3].bn


def same_weight(model: nn.Module) -> None:
    model.model[4].conv.weight = model.model[3].conv.weight


def same_gamma(model: nn.Module) -> None:
    model.model[4].bn.weight = model.model[3].bn.weight


def same_head(model: nn.Module) -> None:
    """One conv detects at both scales."""
    model.model[6].m[1] = model.model[6].m[0]


ACROSS: dict[str, Callable[[nn.Module], None]] = {
    f.__name__: f for f in (same_conv, same_weight, same_gamma, same_head)
}


def shared_model(kind: str) -> nn.Module:
    model = model_with(kind if kind in KINDS else "Conv")
    if kind in ACROSS:
        ACROSS[kind](model)
    return model


@pytest.mark.parametrize("kind", [*KINDS, *ACROSS])
def test_cut_proved_and_still_shared(kind: str, tmp_path: Path) -> None:
    model = shared_model(kind)
    shared = shared_in(model)
    assert shared.parameters or kind in ("Twice", "BothHalves", "OneNorm")
    pruned = prune(model, 0.5, round_to=1, residual="group", imgsz=64)
    assert pruned.parity.holds
    assert pruned.report.achieved == pytest.approx(0.5, abs=0.1)
    assert shared_in(pruned.model) == shared
    assert pruned.report.after.params == sum(p.numel() for p in pruned.model.parameters())
    found = load(save(pruned, tmp_path / "p.pt")).model
    assert shared_in(found) == shared
    again = prune(found, 0.3, round_to=1, residual="group", imgsz=64)
    assert again.parity.holds and shared_in(again.model) == shared


@pytest.mark.parametrize("kind", [*KINDS, *ACROSS])
def test_cost_by_masks_is_that_of_the_rebuilt_model(kind: str) -> None:
    model = shared_model(kind)
    pruned = prune(model, 0.5, round_to=1, residual="group", imgsz=64)
    graph = channel_graph(model, "group")
    counted, keep = MaskCost(model, graph, 64), keep_vector(graph, pruned.masks)
    after = cost(pruned.model, 64)
    assert (counted.params(keep), counted.macs(keep)) == (after.params, after.macs)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_rule_no_false_alarm(kind: str) -> None:
    """A BatchNorm that is called twice in one forward has the same statistics at each call."""
    del rules.RULES[extensions.ADMITTED[kind]]
    pruned = prune(model_with(kind), 0.5, round_to=1, imgsz=64)
    assert pruned.parity.holds
    assert pruned.report.unknown[0].startswith(f"model.2: {kind}")


def test_parity_still_sees_a_wrong_weight() -> None:
    from yolo_slim.pruning.rebuild.parity import check_parity

    model = model_with("Twice")
    graph = channel_graph(model)
    pruned = prune(model, 0.5, round_to=1, recover=(), imgsz=64)
    assert check_parity(model, pruned.model, graph, pruned.masks).holds
    with torch.no_grad():
        pruned.model.model[2].cv.conv.weight[0, 0, 1, 1] += 1e-4
    assert not check_parity(model, pruned.model, graph, pruned.masks).holds


def test_what_is_tied() -> None:
    norms = channel_graph(model_with("Twice")).norms
    assert norms["model.2.cv.bn"].tied == ("model.1.bn",)
    halves = channel_graph(model_with("BothHalves"))
    first, second = np.split(halves.norms["model.1.bn"].ids, 2)
    assert (halves.group[first] == halves.group[second]).all()
    norms = channel_graph(model_with("TiedWeights")).norms
    assert set(norms["model.2.a.bn"].tied) == {"model.1.bn", "model.2.b.bn"}
    norms = channel_graph(model_with("OneNorm")).norms
    why = "read by model.2.a, which shares model.2.bn with another conv"
    assert norms["model.1.bn"].pinned == why
    assert norms["model.2.bn"].pinned is None
    assert list(channel_graph(shared_model("same_conv")).norms) == [
        *(f"model.{i}.bn" for i in (0, 1, 2, 3, 5)),
    ]


@pytest.mark.parametrize("kind", [*KINDS, *ACROSS])
def test_recovery_leaves_what_no_value_fits(kind: str) -> None:
    """Weights and statistics of what is called again stay; all else recovers, and it runs."""
    model = shared_model(kind)
    parts = ("constants", "weights", "statistics")
    pruned = prune(
        model, 0.5, round_to=1, residual="group", recover=parts, calibration=images(), imgsz=64
    )
    plain = prune(model, 0.5, round_to=1, residual="group", recover=(), imgsz=64)
    image = torch.rand(1, 3, 64, 64)
    assert pruned.model(image)[0].isfinite().all()
    if kind == "Twice":
        ours, theirs = pruned.model.state_dict(), plain.model.state_dict()
        key = "model.2.cv.conv.weight"
        assert torch.equal(ours[key], theirs[key])
        assert torch.equal(ours["model.2.cv.bn.running_var"], theirs["model.2.cv.bn.running_var"])
        assert not torch.equal(ours["model.4.conv.weight"], theirs["model.4.conv.weight"])


def test_constants_of_a_conv_that_is_called_again() -> None:
    """Their mean over the calls."""
    model = model_with("BothHalves")
    graph = channel_graph(model)
    with torch.no_grad():
        model.model[1].bn.weight[[0, 8]] = 0
    masks = {"model.1.bn": torch.arange(16) % 8 > 0}
    sent = constants_of(model, graph, masks)["model.2.cv.conv"]
    beta = model.model[1].bn.bias[[0, 8]].double()
    assert sent[0].item() == pytest.approx(nn.functional.silu(beta).mean().item())
    assert not sent[1:].any()


def test_a_shared_gamma_is_penalised_once() -> None:
    steps = []
    for share in (False, True):
        torch.manual_seed(0)
        model = model_with()
        if share:
            same_gamma(model)
        optimizer = torch.optim.SGD([model.model[3].bn.weight], lr=1.0)
        before = model.model[3].bn.weight.detach().clone()
        penalty = SparsityPenalty(model, 0.01, residual="group").attach(optimizer)
        assert ("model.4.bn" in penalty.names) is not share
        model.model[3].bn.weight.grad = torch.zeros_like(before)
        optimizer.step()
        steps.append((before - model.model[3].bn.weight).abs().max().item())
    assert steps[0] == pytest.approx(0.01) and steps[1] <= 0.01 + 1e-6


def test_a_training_goes_on_with_what_is_shared() -> None:
    """The host builds the model anew from its yaml, which cannot say it."""
    model = shared_model("same_conv")
    pruned: Any = prune(model, 0.5, round_to=1, imgsz=64).model
    heir = build_heir(pruned)(deepcopy(pruned.yaml), ch=3, nc=4)
    assert heir.model[4].conv is heir.model[3].conv and heir.model[4].bn is heir.model[3].bn


class Unknown(nn.Module):
    """It has no rule, and the weight of another layer."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


@pytest.mark.parametrize(("at", "of", "held"), [(3, 4, 4), (4, 3, 2)])
def test_a_weight_of_a_module_without_a_rule_is_not_cut(at: int, of: int, held: int) -> None:
    """Neither what it writes nor what it reads."""
    model = model_with()
    layer = Unknown(nn.Conv2d(16, 16, 3, 1, 1, bias=False))
    layer.conv.weight = model.model[of].conv.weight
    layer.i, layer.f = at, -1
    model.model[at] = layer
    norms = channel_graph(model).norms
    assert "shared with" in str(norms[f"model.{held}.bn"].pinned)
