"""What a rule of a user's may say besides convs: a parameter a channel, a value at 0."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import yaml
from _common import randomise_norms_
from torch import nn

from yolo_slim import channel_graph, load, prune, rule, save, walk
from yolo_slim.channels.registry import RULES
from yolo_slim.errors import CheckFailed
from yolo_slim.host.admitted import ADMITTED
from yolo_slim.models.model import build_model

CFG = """
nc: 2
depth_multiple: 1.0
width_multiple: 1.0
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Conv, [8, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [16, 3, 2]]  # 1
  - [-1, 1, {row}]  # 2
head:
  - [-1, 1, Conv, [24, 3, 2]]  # 3
  - [[2, 3], 1, Detect, [nc, anchors]]  # 4
"""


class LayerScale(nn.Module):
    """A factor a channel (Touvron et al. 2021)."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(c2, 1, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class Gated(nn.Module):
    """A scale and an activation within a module."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.scale, self.act = LayerScale(c1, c2), nn.Softplus()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.scale(x))


class Bump(nn.Module):
    """1 at 0, and written as a function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-x.square())


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    before, known = dict(RULES), dict(ADMITTED)
    ADMITTED.update({cls.__name__: cls for cls in (LayerScale, Gated, Bump)})
    rule(LayerScale)(lambda m, name, x, t: t.each(name, m, x))
    rule(Bump)(lambda m, name, x, t: t.silence(name, x))

    @rule(Gated)
    def _gated(m, name, x, t):
        return walk(m.act, f"{name}.act", walk(m.scale, f"{name}.scale", x, t), t)

    yield
    for registry, old in ((RULES, before), (ADMITTED, known)):
        registry.clear()
        registry.update(old)


def model_with(row: str) -> nn.Module:
    model = build_model(yaml.safe_load(CFG.format(row=row)))
    randomise_norms_(model)
    return model.eval()


@pytest.mark.parametrize("row", ["LayerScale, [16]", "Gated, [16]", "Bump, []"])
def test_it_is_cut(row: str, tmp_path) -> None:
    model = model_with(row)
    assert channel_graph(model).norms["model.1.bn"].pinned is None
    pruned = prune(model, 0.4, ratios={"model.1": 0.5}, round_to=1, imgsz=64)
    kept = pruned.masks["model.1.bn"]
    assert pruned.parity.holds and int(kept.sum()) == 8
    for key, value in model.model[2].state_dict().items():
        assert torch.equal(pruned.model.model[2].state_dict()[key], value[kept])
    assert pruned.report.after.params == sum(p.numel() for p in pruned.model.parameters())
    found = load(save(pruned, tmp_path / "p.pt")).model
    shapes = {k: v.shape for k, v in build_model(pruned.yaml).state_dict().items()}
    assert shapes == {k: v.shape for k, v in found.state_dict().items()}
    assert prune(found, 0.3, round_to=1, imgsz=64).parity.holds


def test_a_rule_that_forgets_it_is_found_out() -> None:
    rule(Bump)(lambda m, name, x, t: x)
    with pytest.raises(CheckFailed, match="is the rule of Bump right?"):
        prune(model_with("Bump, []"), 0.4, round_to=1, imgsz=64)
