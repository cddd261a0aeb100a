"""Fine-grained pruning: torch.nn.utils.prune on a detector, through files and back."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from yolo_slim import InputError, channel_graph, load, prune, reapply_, save, sparsify_
from yolo_slim.deploy.export import to_onnx, to_torchscript
from yolo_slim.deploy.stock import to_stock
from yolo_slim.finegrained.weights import magnitude_mask, weight_layers
from yolo_slim.host.checkpoint import read, write
from yolo_slim.measure.latency import session
from yolo_slim.weight_masks import bake_, baked, masks_of

pytestmark = pytest.mark.usefixtures("one_thread")


class Checkerboard(torch_prune.BasePruningMethod):
    """A user's own method: every second weight."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: torch.Tensor, default_mask: torch.Tensor) -> torch.Tensor:
        mask = default_mask.clone()
        mask.view(-1)[::2] = 0
        return mask


def several(conv: nn.Module) -> None:
    torch_prune.l1_unstructured(conv, "weight", 0.3)
    torch_prune.ln_structured(conv, "weight", 0.25, n=2, dim=0)
    Checkerboard.apply(conv, "weight")


METHODS: dict[str, Callable[[Any], Any]] = {
    "l1_unstructured": lambda m: torch_prune.l1_unstructured(m, "weight", 0.3),
    "random_unstructured": lambda m: torch_prune.random_unstructured(m, "weight", 7),
    "ln_structured": lambda m: torch_prune.ln_structured(m, "weight", 0.5, n=2, dim=0),
    "random_structured": lambda m: torch_prune.random_structured(m, "weight", 2, dim=1),
    "global": lambda m: torch_prune.global_unstructured(
        [(m, "weight")], torch_prune.L1Unstructured, amount=0.4
    ),
    "custom_from_mask": lambda m: torch_prune.custom_from_mask(
        m, "weight", (torch.arange(m.weight.numel()) % 3 > 0).view_as(m.weight)
    ),
    "own class": lambda m: Checkerboard.apply(m, "weight"),
    "several in a row": several,
}


IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IMAGE)[0]


@pytest.mark.parametrize("method", METHODS)
def test_torch_method_through_a_file(method: str, tiny_model: nn.Module, tmp_path: Path) -> None:
    bare = deepcopy(tiny_model.model[4].cv1.conv)
    torch.manual_seed(5)
    METHODS[method](bare)
    torch.manual_seed(5)
    METHODS[method](tiny_model.model[4].cv1.conv)
    tiny_model.train()(torch.rand(1, 3, 64, 64))  # its weight now has a graph: torch copies it not
    with pytest.raises(RuntimeError, match="deepcopy"):
        deepcopy(tiny_model)
    saved = load(save(tiny_model, tmp_path / "x.pt")).model
    mask = masks_of(saved)["model.4.cv1.conv.weight"]
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(mask, bare.weight_mask.bool())
    assert torch.equal(saved.model[4].cv1.conv.weight, bare.weight)
    assert list(masks_of(saved)) == ["model.4.cv1.conv.weight"]
    assert not torch_prune.is_pruned(saved)
    assert torch_prune.is_pruned(tiny_model)  # the user's model is as it was
    assert torch.equal(outputs(saved), outputs(tiny_model.eval()))


def test_saved_in_between_the_methods_go_on(tiny_model: nn.Module, tmp_path: Path) -> None:
    straight, conv = deepcopy(tiny_model), tiny_model.model[1].conv
    several(straight.model[1].conv)
    torch_prune.l1_unstructured(conv, "weight", 0.3)
    again = reapply_(load(save(tiny_model, tmp_path / "x.pt")).model)
    assert masks_of(again) == {}
    conv = again.model[1].conv
    torch_prune.ln_structured(conv, "weight", 0.25, n=2, dim=0)
    Checkerboard.apply(conv, "weight")
    assert isinstance(next(iter(conv._forward_pre_hooks.values())), torch_prune.PruningContainer)
    assert torch.equal(conv.weight_mask, straight.model[1].conv.weight_mask)
    assert torch.equal(conv.weight, straight.model[1].conv.weight)
    bake_(again), bake_(straight)
    assert torch.equal(outputs(again), outputs(straight))


def test_masks_of_any_parameter(tiny_model: nn.Module, tmp_path: Path) -> None:
    torch_prune.l1_unstructured(tiny_model.model[0].bn, "weight", 0.5)
    torch_prune.l1_unstructured(tiny_model.model[-1].m[0], "bias", 5)
    saved = load(save(tiny_model, tmp_path / "x.pt")).model
    zeros = {key: int((~mask).sum()) for key, mask in masks_of(saved).items()}
    assert zeros == {"model.0.bn.weight": 4, "model.12.m.0.bias": 5}
    assert int((saved.model[0].bn.weight == 0).sum()) == 4


def test_identity_mask_changes_nothing(tiny_model: nn.Module, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in tiny_model.state_dict().items()}
    torch_prune.identity(tiny_model.model[0].conv, "weight")
    saved = load(save(tiny_model, tmp_path / "x.pt")).model
    assert masks_of(saved) == {}
    assert saved.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in saved.state_dict().items())


def test_removed_is_forgotten_and_stays_zero(tiny_model: nn.Module, tmp_path: Path) -> None:
    conv = tiny_model.model[0].conv
    torch_prune.l1_unstructured(conv, "weight", 10)
    torch_prune.remove(conv, "weight")
    saved = load(save(tiny_model, tmp_path / "x.pt")).model
    assert masks_of(saved) == {}
    assert int((saved.model[0].conv.weight == 0).sum()) == 10


def test_magnitude_by_hand() -> None:
    weight = torch.tensor([[0.5, -0.1, 0.0], [0.2, -3.0, 0.3]])
    assert magnitude_mask(weight, 0.5).tolist() == [[True, False, False], [False, True, True]]
    assert magnitude_mask(weight, 0).all() and not magnitude_mask(weight, 1).any()
    equal = torch.tensor([1.0, -1.0, 1.0, 2.0, 1.0])
    assert magnitude_mask(equal, 0.6).tolist() == [False, False, False, True, True]
    assert magnitude_mask(torch.zeros(10), 0.3).sum() == 7
    with pytest.raises(InputError, match=r"share: 1.5, expected a share in \[0, 1\]"):
        magnitude_mask(weight, 1.5)


@pytest.mark.parametrize("share", [0.01, 1 / 3, 0.5, 0.77, 0.999])
def test_magnitude_is_the_labs_threshold(share: float) -> None:
    """MIT 6.5940, lab 1: |w| above the k-th smallest, with k = round(share * weights)."""
    weight = torch.randn(7, 5, 3, 3)
    size = np.sort(np.abs(weight.numpy()).ravel())
    threshold = size[round(share * size.size) - 1]
    assert np.array_equal(magnitude_mask(weight, share).numpy(), np.abs(weight.numpy()) > threshold)


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.875, 0.99])
def test_each_layer_gets_its_share(tiny_model: nn.Module, sparsity: float) -> None:
    expected = {n: magnitude_mask(m.weight, sparsity) for n, m in weight_layers(tiny_model).items()}
    report = sparsify_(tiny_model, sparsity, method="l1")
    masks = masks_of(tiny_model)
    for row, (name, layer) in zip(report.layers, weight_layers(tiny_model).items(), strict=True):
        assert row.name == name and row.weights == layer.weight.numel()
        assert row.zeros == round(sparsity * row.weights) == int((layer.weight == 0).sum())
        if row.zeros:
            assert torch.equal(masks[f"{name}.weight"], expected[name])
    assert not torch_prune.is_pruned(tiny_model)
    assert abs(report.sparsity - sparsity) < 0.01
    assert f"{report.layers[1].weights - report.layers[1].zeros:,}" in str(report)


def test_shares_are_those_of_the_result(tiny_model: nn.Module) -> None:
    sparsify_(tiny_model, 0.3, method="random")
    first = masks_of(tiny_model)
    assert sparsify_(tiny_model, 0.2, method="l1").sparsity == pytest.approx(0.3, abs=1e-3)
    report = sparsify_(tiny_model, 0.5, method="l1")
    assert all(row.zeros == round(0.5 * row.weights) for row in report.layers)
    assert not any((masks_of(tiny_model)[key] & ~mask).any() for key, mask in first.items())


def test_ratios_by_layer(tiny_model: nn.Module) -> None:
    ratios = {"model.*.cv1": 0.25, "model.4": 0.5, "model.4.cv3.conv": 0.75, "12": 0}
    report = sparsify_(tiny_model, ratios=ratios)
    asked = {row.name: row.requested for row in report.layers}
    assert asked["model.2.cv1.conv"] == 0.25
    assert asked["model.4.cv1.conv"] == 0.5  # a later glob
    assert asked["model.4.cv3.conv"] == 0.75
    assert asked["model.0.conv"] == asked["model.12.m.0"] == 0
    assert all(row.zeros == round(row.requested * row.weights) for row in report.layers)
    rest = sparsify_(tiny_model, 0.6, ratios={"model.12": 0}).layers
    assert {row.requested for row in rest} == {0, 0.6}
    assert [row.zeros for row in rest[-3:]] == [0, 0, 0]


def test_global_has_one_threshold(tiny_model: nn.Module) -> None:
    weights = {n: m.weight.detach().numpy() for n, m in weight_layers(tiny_model).items()}
    weights = {n: np.abs(w).copy() for n, w in weights.items() if n != "model.0.conv"}
    every = np.sort(np.concatenate([w.ravel() for w in weights.values()]))
    threshold = every[round(0.7 * every.size) - 1]
    report = sparsify_(tiny_model, 0.7, method="global", ratios={"model.0": 0.25})
    masks = masks_of(tiny_model)
    assert report.layers[0].zeros == round(0.25 * report.layers[0].weights)
    for name, weight in weights.items():
        found = masks.get(f"{name}.weight", torch.ones(weight.shape, dtype=torch.bool))
        assert np.array_equal(found.numpy(), weight > threshold)


def test_l2_takes_whole_filters(tiny_model: nn.Module) -> None:
    before = {n: m.weight.detach().clone() for n, m in weight_layers(tiny_model).items()}
    sparsify_(tiny_model, 0.4, method="l2")
    for name, weight in before.items():
        norms = weight.flatten(1).norm(dim=1).tolist()
        weakest = sorted(range(len(norms)), key=norms.__getitem__)[: round(0.4 * len(norms))]
        mask = masks_of(tiny_model)[f"{name}.weight"].flatten(1)
        assert sorted(weakest) == (~mask.any(1)).nonzero().flatten().tolist()
        assert torch.equal(mask.any(1), mask.all(1))


def test_random_follows_its_seed(tiny_model: nn.Module) -> None:
    models = [deepcopy(tiny_model) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        sparsify_(model, 0.5, method="random", seed=seed)
    one, same, other = (masks_of(model)["model.0.conv.weight"] for model in models)
    assert torch.equal(one, same) and not torch.equal(one, other)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"sparsity": 1.0}, r"sparsity: 1.0, expected a share in \[0, 1\)"),
    ({"sparsity": -0.1}, "sparsity: -0.1"),
    ({"sparsity": float("nan")}, "sparsity: nan"),
    ({"ratios": {"model.2": 2}}, "ratio of model.2: 2, expected a share"),
    ({"ratios": {"model.2": "half"}}, "ratio of model.2: 'half'"),
    ({"ratios": {"model.2": True}}, "ratio of model.2: True"),
    ({"ratios": {"model.99": 0.5}}, "'model.99', which matches nothing, expected the name of a c"),
    ({"method": "l3"}, "method: 'l3', expected one of l1, l2, random, global"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_change_nothing(
    arguments: dict[str, Any], message: str, tiny_model: nn.Module
) -> None:
    before = outputs(tiny_model)
    with pytest.raises(InputError, match=message):
        sparsify_(tiny_model, **arguments)
    assert torch.equal(outputs(tiny_model), before) and masks_of(tiny_model) == {}


def test_models_that_cannot_be_masked(tiny_model: nn.Module) -> None:
    tiny_model.model[0].conv.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"model\.0\.conv: weights that are not finite"):
        sparsify_(tiny_model, 0.5)
    with pytest.raises(InputError, match="no conv or linear layer"):
        sparsify_(nn.BatchNorm2d(3))


def test_file_hardly_grows_and_has_the_masks(tiny_model: nn.Module, tmp_path: Path) -> None:
    dense = save(tiny_model, tmp_path / "dense.pt").stat().st_size
    weights = sum(row.weights for row in sparsify_(tiny_model, 0.5).layers)
    file = save(tiny_model, tmp_path / "sparse.pt")
    assert weights / 8 < file.stat().st_size - dense < weights / 8 + 6000
    found, masks = load(file).model, masks_of(tiny_model)
    assert {k: int((~m).sum()) for k, m in found.weight_masks.items()} == {
        k: int((~m).sum()) for k, m in masks.items()
    }
    named = dict(found.named_parameters())
    assert all(torch.equal(named[k] != 0, mask) for k, mask in found.weight_masks.items())


def test_damaged_masks_are_refused(tiny_model: nn.Module, tmp_path: Path) -> None:
    sparsify_(tiny_model, 0.5)
    file = save(tiny_model, tmp_path / "x.pt")
    names, bits = read(file)["model"].packed_masks
    for bad in ([names, bits[:-1]], [[*names, "model.99.weight"], bits], [names], 3, [names, "x"]):
        data = read(file)
        data["model"].packed_masks = bad
        write(tmp_path / "bad.pt", data)
        with pytest.raises(InputError, match=r"bad\.pt: damaged"):
            load(tmp_path / "bad.pt")


@pytest.mark.parametrize("live", [True, False])
def test_exports_have_zeros_and_no_masks(live: bool, tiny_model: nn.Module) -> None:
    """live: torch.nn.utils.prune is still at work in the model that is exported."""
    torch_prune.l1_unstructured(tiny_model.model[0].conv, "weight", 0.5)
    tiny_model(torch.rand(1, 3, 64, 64))
    model = tiny_model if live else baked(tiny_model)
    for content in (to_stock(model), to_torchscript(model, imgsz=64)):
        assert b"_masks" not in content and b"weight_mask" not in content
    found = session(to_onnx(model, imgsz=64), 1).run(None, {"images": IMAGE.numpy()})[0]
    assert np.allclose(found, outputs(model).numpy(), rtol=1e-4, atol=1e-4)
    assert torch_prune.is_pruned(tiny_model)


@pytest.mark.parametrize("residual", ["skip", "group"])
def test_channel_pruning_slices_the_masks(tiny_model: nn.Module, residual: Any) -> None:
    sparsify_(tiny_model, 0.6)
    graph = channel_graph(tiny_model, residual)
    cut = prune(tiny_model, 0.4, residual=residual, imgsz=64)
    keep = np.ones(graph.channels + 1, dtype=bool)
    for name, mask in cut.masks.items():
        keep[graph.norms[name].ids] = mask.numpy()
    masks, weights = masks_of(cut.model), dict(cut.model.named_parameters())
    assert masks.keys() == masks_of(tiny_model).keys()
    for name, node in graph.convs.items():
        before = masks_of(tiny_model)[f"{name}.weight"].numpy()
        expected = before[keep[node.outputs]][:, keep[node.inputs]]
        assert np.array_equal(masks[f"{name}.weight"].numpy(), expected)
        assert np.array_equal(weights[f"{name}.weight"].detach().numpy() != 0, expected)
    assert any(mask.numel() < masks_of(tiny_model)[key].numel() for key, mask in masks.items())
