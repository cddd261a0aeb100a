"""Cost: closed forms by hand, an independent counter, and masks against the rebuilt model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from places import ROOT
from test_zoo import EVERY
from torch import nn
from torch.nn.utils import prune as torch_prune
from zoo import RESIDUAL, build, zoo

from yolo_slim import channel_graph, extensions, prune, save
from yolo_slim.channels import rules
from yolo_slim.channels.graph import FREE
from yolo_slim.errors import InputError
from yolo_slim.finegrained.weights import sparsify_
from yolo_slim.host import checkpoint
from yolo_slim.host.classes import common
from yolo_slim.measure.cost import cost, layer_costs
from yolo_slim.models.model import build_model
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.masks import keep_vector
from yolo_slim.pruning.rebuild.rebuild import rebuild

ZOO = {file.stem: file for file in zoo()}
SAME, DOWN = 16 * 16, 8 * 8  # positions of 16 px at stride 1 and 2

pytestmark = pytest.mark.usefixtures("one_thread")


class Plain(nn.Module):
    """A model that is no YOLOv5."""

    def __init__(self, channels: int, layers: nn.Module, height: int = 16, width: int = 16) -> None:
        super().__init__()
        self.image = (channels, height, width)
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


# c = 8, L = 256 positions: the position's linear layer, q, k, v, in_proj (three), out_proj, fc1 and
# fc2 are c x c at each position; q @ k and the weights @ v are L x L x c.
GATE = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 8, 1))
TRANSFORMER = 10 * SAME * 8 * 8 + 2 * SAME * SAME * 8
CLOSED = {  # image channels, module, MACs, parameters
    "conv": (3, nn.Conv2d(3, 8, 3, 2, 1), DOWN * 9 * 3 * 8, 9 * 3 * 8 + 8),
    "conv without border": (3, nn.Conv2d(3, 8, (5, 3), bias=False), 12 * 14 * 15 * 24, 15 * 24),
    "grouped": (4, nn.Conv2d(4, 6, 3, padding=1, groups=2), SAME * 9 * 2 * 6, 9 * 2 * 6 + 6),
    "depthwise": (8, nn.Conv2d(8, 8, 5, 2, 2, groups=8, bias=False), DOWN * 25 * 8, 25 * 8),
    "transposed": (4, nn.ConvTranspose2d(4, 6, 2, 2), SAME * 4 * 4 * 6, 4 * 4 * 6 + 6),
    "linear": (3, nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), 768 * 10, 768 * 10 + 10),
    "gate": (8, GATE, 8 * 2 + 2 * 8, 8 * 2 + 2 + 2 * 8 + 8),
    "norm": (4, nn.Sequential(nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2)), 0, 2 * 4),
    # in_proj (3 c), out_proj and the position's linear layer have biases, the others none
    "transformer": (8, common.TransformerBlock(8, 8, 2, 1), TRANSFORMER, 10 * 64 + 5 * 8),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name: str) -> None:
    channels, module, macs, params = CLOSED[name]
    model = Plain(channels, module)
    found, layers = cost(model), layer_costs(model)
    assert (found.macs, found.params, found.imgsz) == (macs, params, 16)
    assert sum(layer.macs for layer in layers) == macs
    assert sum(layer.params for layer in layers) == params


def test_what_grows_with_the_image() -> None:
    """Four times the positions: convs four times, attention sixteen times, a gate not at all."""
    attention = 2 * SAME * SAME * 8
    expected = {
        "conv": 4 * DOWN * 9 * 3 * 8,
        "transformer": 4 * (TRANSFORMER - attention) + 16 * attention,
        "gate": 8 * 2 + 2 * 8,
    }
    for name, macs in expected.items():
        channels, module, *_ = CLOSED[name]
        assert cost(Plain(channels, module, 32, 32)).macs == macs
    assert cost(Plain(3, CLOSED["conv"][1], 16, 64)).macs == expected["conv"]  # as many positions


@pytest.mark.parametrize("name", ["yolov5n", "yolov5s", "yolov5s-ghost"])
def test_thop_counts_the_same(name: str) -> None:
    """An independent counter, set to convs alone."""
    import thop

    model = build(ZOO[name])
    others = (nn.BatchNorm2d, nn.SiLU, nn.Upsample, nn.MaxPool2d)
    macs, params = thop.profile(
        deepcopy(model),
        inputs=(torch.zeros(1, 3, 128, 128),),
        verbose=False,
        custom_ops={t: lambda m, x, y: None for t in others},
    )
    found = cost(model, 128)
    assert (found.macs, found.params) == (macs, params)


def test_layers(tiny_model: nn.Module) -> None:
    """Each conv against the shapes of a real run; params, MACs and bytes add up."""
    shapes: dict[str, torch.Size] = {}
    for name, module in tiny_model.named_modules():
        module.register_forward_hook(lambda m, x, y, n=name: shapes.update({n: y}))
    tiny_model(torch.zeros(1, 3, 96, 96))
    layers = {layer.name: layer for layer in layer_costs(tiny_model, 96)}
    convs = {n: m for n, m in tiny_model.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convs) == 28
    for name, conv in convs.items():
        h, w = shapes[name].shape[-2:]
        assert layers[name].positions == h * w
        assert layers[name].macs == h * w * conv.weight.numel()
        assert layers[name].type == "Conv2d"
    norm = layers["model.0.bn"]
    assert (norm.params, norm.macs, norm.positions) == (16, 0, 0)
    assert norm.bytes == 4 * 8 * 4 + 8  # gamma, beta, mean, variance of 8 channels, and a counter
    total = cost(tiny_model, 96)
    assert sum(layer.macs for layer in layers.values()) == total.macs
    assert sum(layer.params for layer in layers.values()) == total.params


@pytest.mark.parametrize("half", [True, False])
def test_bytes_are_those_of_the_checkpoint(half: bool, tiny_model: nn.Module) -> None:
    if half:
        tiny_model.half().float()
    stored = checkpoint.finished(tiny_model)["model"].state_dict().values()
    assert {t.dtype for t in stored if t.is_floating_point()} == {
        torch.float16 if half else torch.float32
    }
    found = sum(layer.bytes for layer in layer_costs(tiny_model, 64))
    assert found == sum(t.numel() * t.element_size() for t in stored)


def test_the_model_is_left_untouched(tiny_model: nn.Module) -> None:
    tiny_model.train()
    tiny_model.model[4].eval()
    with torch.no_grad():
        tiny_model.model[-1].eval()
        tiny_model(torch.zeros(1, 3, 64, 64))
    modes = {n: m.training for n, m in tiny_model.named_modules()}
    before, grids = deepcopy(tiny_model.state_dict()), tiny_model.model[-1].grid
    cost(tiny_model, 320)
    layer_costs(tiny_model, 320)
    MaskCost(tiny_model, channel_graph(tiny_model), 320)
    assert {n: m.training for n, m in tiny_model.named_modules()} == modes
    assert all(torch.equal(v, before[k]) for k, v in tiny_model.state_dict().items())
    assert tiny_model.model[-1].grid is grids
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny_model.modules())


def test_a_model_under_torch_prune(tiny_model: nn.Module) -> None:
    """Its weights are computed in a hook, and not leaves."""
    dense = cost(tiny_model, 64)
    conv = tiny_model.model[3].conv
    torch_prune.l1_unstructured(conv, "weight", 0.5)
    tiny_model(torch.zeros(1, 3, 64, 64))
    weight = conv.weight
    assert cost(tiny_model, 64) == dense
    assert conv.weight is weight and weight.device.type == "cpu"


class Looks(nn.Module):
    """Its work depends on values, so that shapes alone do not tell what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) if x.sum().item() == 0 else x


def test_a_module_that_looks_at_values() -> None:
    assert cost(Plain(3, Looks())).macs == 14 * 14 * 9 * 3 * 5


def test_image_size_is_rounded_up_for_a_detector(tiny_model: nn.Module) -> None:
    assert cost(tiny_model, 100) == cost(tiny_model, 128)
    assert cost(tiny_model, 100).imgsz == 128


def test_a_model_that_does_not_say_what_it_takes() -> None:
    with pytest.raises(InputError, match="Conv2d: no YOLOv5 detector, and no image"):
        cost(nn.Conv2d(3, 8, 3), 32)


def random_masks(graph, share: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """Each group of prunable channels goes with this probability; no conv or BN loses all."""
    rng = np.random.default_rng(seed)
    kept = rng.random(graph.group.max() + 1) >= share
    for norm in graph.norms.values():
        kept[graph.group[norm.ids]] |= norm.pinned is not None
    sides = [ids for node in graph.convs.values() for ids in (node.inputs, node.outputs)]
    for ids in [*sides, *(norm.ids for norm in graph.norms.values())]:
        bound = ids[ids != FREE]
        if len(bound) == len(ids) and not kept[graph.group[bound]].any():
            kept[graph.group[rng.choice(bound)]] = True
    return {n.name: torch.from_numpy(kept[graph.group[n.ids]]) for n in graph.prunable}


def check(model: nn.Module, residual: str, imgsz: int, shares: Sequence[float] = (0.6,)) -> None:
    """Masks and rebuilt models cost the same, to the last parameter and MAC."""
    graph = channel_graph(model, residual)
    counted = MaskCost(model, graph, imgsz)
    dense = counted.params(counted.everything)
    assert dense == sum(p.numel() for p in model.parameters())
    for seed, share in enumerate(shares):
        masks = random_masks(graph, share, seed)
        keep = keep_vector(graph, masks)
        found = cost(rebuild(model, graph, masks), imgsz)
        assert (counted.macs(keep), counted.params(keep)) == (found.macs, found.params)
        assert found.params < dense


MASKED = ["yolov5n", "yolov5s-ghost", "yolov5s-transformer", "yolov5n-seg"]


@pytest.mark.parametrize("residual", RESIDUAL)
@pytest.mark.parametrize("name", MASKED)
def test_masks_cost_what_the_rebuilt_model_does(name: str, residual: str) -> None:
    check(build(ZOO[name], width=0.125), residual, 96)


@pytest.mark.parametrize("residual", RESIDUAL)
def test_masks_on_every_module_that_the_host_parses(residual: str) -> None:
    """Depthwise, grouped and transposed convs, one BN for two convs, attention."""
    check(build_model(yaml.safe_load(EVERY)).eval(), residual, 64)


@pytest.mark.parametrize("residual", RESIDUAL)
def test_masks_on_the_tiny_model(residual: str, tiny_model: nn.Module) -> None:
    check(tiny_model, residual, 64, (0.1, 0.5, 0.97))


def test_masks_that_keep_everything(tiny_model: nn.Module) -> None:
    counted, dense = MaskCost(tiny_model, channel_graph(tiny_model), 100), cost(tiny_model, 100)
    assert counted.macs(counted.everything) == dense.macs
    assert counted.imgsz == dense.imgsz == 128
    convs = {layer.name: layer.positions for layer in layer_costs(tiny_model, 100)}
    assert counted.positions == {name: n for name, n in convs.items() if n}


def test_masks_on_a_cut_model(tiny_model: nn.Module) -> None:
    check(prune(tiny_model, 0.4, imgsz=64).model, "group", 64)


def test_masks_on_modules_with_rules_from_outside(tiny_yaml: dict) -> None:
    known, admitted = dict(rules.RULES), dict(extensions.ADMITTED)
    try:
        extensions.admit(ROOT / "examples" / "my_modules.py")
        tiny_yaml["backbone"][2] = [-1, 1, "SE", [64]]
        tiny_yaml["backbone"][4] = [-1, 1, "Residual", [128]]
        for residual in RESIDUAL:
            check(build_model(tiny_yaml).eval(), residual, 64)
    finally:
        for registry, old in ((rules.RULES, known), (extensions.ADMITTED, admitted)):
            registry.clear()
            registry.update(old)
        sys.modules.pop("my_modules", None)


def test_masks_on_a_model_that_is_no_detector() -> None:
    def block(c1: int, c2: int) -> list[nn.Module]:
        return [nn.Conv2d(c1, c2, 3, padding=1), nn.BatchNorm2d(c2), nn.ReLU(), nn.MaxPool2d(2)]

    model = nn.Sequential(*block(3, 16), *block(16, 24), nn.Flatten(), nn.Linear(24 * 16, 10))
    model.image = (3, 16, 16)
    check(model.eval(), "skip", 16)


@pytest.mark.parametrize(("half", "share"), [(True, 0.5), (False, 0.9)])
def test_size_of_the_file(half: bool, share: float, tmp_path: Path) -> None:
    """Within 1% of what prune writes."""
    model = build(ZOO["yolov5n"], width=0.125)
    if half:
        model.half().float()
    graph = channel_graph(model)
    pruned = prune(model, share, imgsz=64)
    real = save(pruned, tmp_path / "pruned.pt").stat().st_size
    found = MaskCost(model, graph, 64).size(keep_vector(graph, pruned.masks))
    assert found == pytest.approx(real, rel=0.01)


def test_size_of_the_file_with_masks_over_single_weights(tmp_path: Path) -> None:
    model = build(ZOO["yolov5n"], width=0.25)
    model.half().float()
    sparsify_(model, 0.5)
    graph = channel_graph(model)
    masks = random_masks(graph, 0.8)
    file = save(rebuild(model, graph, masks), tmp_path / "pruned.pt")
    found = MaskCost(model, graph, 64).size(keep_vector(graph, masks))
    assert found == pytest.approx(file.stat().st_size, rel=0.01)
