"""rebuild and check_parity: what remains computes the same, and the check sees what does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from yolo_slim.channels.rules import channel_graph
from yolo_slim.errors import ParityError
from yolo_slim.host.checkpoint import modernise_
from yolo_slim.host.classes import class_names, yolo
from yolo_slim.models.model import ModelPruned, build_heir
from yolo_slim.models.pruned_yaml import read_yaml, write_yaml
from yolo_slim.pruning.budget.choose import Masks, achieved, masks_by_percent
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.prune import prune
from yolo_slim.pruning.rebuild.parity import LIMIT, check_parity
from yolo_slim.pruning.rebuild.rebuild import rebuild

MODELS = Path(yolo.__file__).parent
RESIDUALS = ("skip", "inner", "group")


def random_model(name: str, seed: int = 0) -> nn.Module:
    """One of the host's models with random weights and random BN values."""
    torch.manual_seed(seed)
    model = modernised(yolo.DetectionModel(str(MODELS / f"{name}.yaml")))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.0, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def modernised(model: nn.Module) -> nn.Module:
    modernise_(model)
    return model


def cut(model: nn.Module, percent: float, residual: str = "skip") -> tuple:
    """graph, masks and rebuilt model."""
    graph = channel_graph(model, residual)
    masks = masks_by_percent(graph, score(model, graph), percent)
    return graph, masks, rebuild(model, graph, masks)


def fingerprint(model: nn.Module) -> str:
    """Changes with any tensor, module type or mode of a model."""
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        digest.update(f"{name} {type(module)} {module.training} {module.extra_repr()}".encode())
        digest.update(f"{len(module._forward_pre_hooks)} {len(module._forward_hooks)}".encode())
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.numpy().tobytes())
    for grid in (*model.model[-1].grid, *model.model[-1].anchor_grid):
        digest.update(f"{tuple(grid.shape)} {grid.dtype}".encode())
    return digest.hexdigest()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    return random_model("yolov5n")


@pytest.fixture(scope="module")
def halved(dense: nn.Module) -> tuple:
    """yolov5n without half of its prunable channels: graph, masks, pruned model."""
    return cut(dense, 0.5)


# Laws


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("percent", [0.0, 0.3, 0.6, 0.9])
def test_masked_equals_rebuilt(dense: nn.Module, percent: float, residual: str) -> None:
    graph, masks, pruned = cut(dense, percent, residual)
    assert check_parity(dense, pruned, graph, masks).error <= LIMIT == 1e-9
    if percent:
        assert achieved(graph, masks) > 0.25
        assert all(int(masks[n].sum()) == pruned.get_submodule(n).num_features for n in masks)


@pytest.mark.parametrize("residual", RESIDUALS)
def test_masked_equals_rebuilt_for_yolov5s(residual: str) -> None:
    model = random_model("yolov5s", seed=1)
    graph, masks, pruned = cut(model, 0.6, residual)
    assert check_parity(model, pruned, graph, masks).holds


def test_masked_equals_rebuilt_without_the_check(dense: nn.Module, halved: tuple) -> None:
    """A check of our own, on nothing but the two models' outputs as they stand, float32."""
    graph, masks, pruned = halved
    masked = deepcopy(dense)
    for name, mask in masks.items():
        bn = masked.get_submodule(name)
        bn.weight.data.mul_(mask)
        bn.bias.data.mul_(mask)
    image = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        expected, found = masked(image)[0], pruned(image)[0]
    assert torch.allclose(expected, found, rtol=1e-4, atol=1e-3)


def test_a_quiet_model_has_parity_and_is_still_checked(dense: nn.Module) -> None:
    """As after sparse training: tiny gammas and betas, a layer with nothing but zeros."""
    model = deepcopy(dense)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(1e-4)
                module.bias.mul_(1e-3)
        model.model[7].bn.weight.zero_()
    graph, masks, pruned = cut(model, 0.5)
    assert check_parity(model, pruned, graph, masks).holds
    with torch.no_grad():
        pruned.model[3].conv.weight[[0, 1]] = pruned.model[3].conv.weight[[1, 0]]
    assert not check_parity(model, pruned, graph, masks).holds


def test_keep_all_is_the_identity(dense: nn.Module) -> None:
    graph = channel_graph(dense)
    all_kept = {name: torch.ones(norm.channels).bool() for name, norm in graph.norms.items()}
    pruned = rebuild(dense, graph, all_kept)
    before, after = dense.state_dict(), pruned.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(dense(image)[0], pruned(image)[0])


def test_no_masks_keep_all(dense: nn.Module) -> None:
    pruned = rebuild(dense, channel_graph(dense), {})
    assert all(torch.equal(v, pruned.state_dict()[k]) for k, v in dense.state_dict().items())


@pytest.mark.parametrize("residual", RESIDUALS)
def test_yaml_builds_the_same_shapes(dense: nn.Module, residual: str, tmp_path: Path) -> None:
    _, _, pruned = cut(dense, 0.6, residual)
    file = tmp_path / "pruned.yaml"
    file.write_text(write_yaml(pruned.yaml))
    for built in (ModelPruned(pruned.yaml), ModelPruned(read_yaml(file)), ModelPruned(file)):
        shapes = {k: v.shape for k, v in built.state_dict().items()}
        assert shapes == {k: v.shape for k, v in pruned.state_dict().items()}
        assert torch.equal(built.stride, pruned.stride)  # found by a forward there, copied here


def test_what_goes_along(dense: nn.Module, halved: tuple) -> None:
    _, masks, pruned = halved
    assert torch.equal(pruned.stride, dense.stride) and pruned.stride is pruned.model[-1].stride
    assert torch.equal(pruned.model[-1].anchors, dense.model[-1].anchors)
    assert pruned.names == class_names(dense) and pruned.nc == dense.nc
    for ours, theirs in zip(pruned.model[-1].m, dense.model[-1].m, strict=True):
        assert torch.equal(ours.bias, theirs.bias)
    assert all(torch.equal(masks[n], m) for n, m in pruned.maskbndict.items())


@pytest.mark.parametrize("training", [True, False])
def test_the_dense_model_is_untouched(dense: nn.Module, training: bool) -> None:
    model = deepcopy(dense).train(training)
    model.model[3].eval()  # a frozen layer keeps its own mode
    before = fingerprint(model)
    graph, masks, pruned = cut(model, 0.6)
    mode, same = pruned.training, fingerprint(pruned)
    check_parity(model, pruned, graph, masks)
    assert fingerprint(model) == before
    assert fingerprint(pruned) == same
    assert mode == training


def test_the_dense_model_shares_no_memory(dense: nn.Module, halved: tuple) -> None:
    theirs = {t.data_ptr() for t in dense.state_dict().values()}
    assert not theirs & {t.data_ptr() for t in halved[2].state_dict().values()}


def test_tied_channels_have_equal_masks(dense: nn.Module) -> None:
    graph, masks, pruned = cut(dense, 0.6, "group")
    tied = [(n.name, other) for n in graph.norms.values() for other in n.tied]
    assert ("model.4.cv1.bn", "model.4.m.0.cv2.bn") in tied
    assert all(torch.equal(masks[a], masks[b]) for a, b in tied)
    assert any(not masks[a].all() for a, _ in tied)  # and they are really cut
    assert pruned.model[4].m[0].add


def test_unfilled_puts_the_constructors_back(dense: nn.Module) -> None:
    """After a rebuild that fails, convs are initialised and models find their strides."""
    graph = channel_graph(dense)
    with pytest.raises(ValueError, match="model.9.bn"):
        rebuild(dense, graph, {"model.9.bn": torch.ones(3).bool()})
    broken = deepcopy(dense)
    broken.names = {0: "one"}
    broken.model[1].conv.weight = nn.Parameter(torch.rand(32, 16, 5, 5))  # a kernel of 3
    with pytest.raises(ParityError, match="model.1.conv.weight: "):
        rebuild(broken, graph, {})
    torch.manual_seed(3)
    first = nn.Conv2d(3, 4, 3).weight
    torch.manual_seed(3)
    assert torch.equal(first, nn.Conv2d(3, 4, 3).weight) and 0.05 < first.abs().mean() < 0.15
    built = ModelPruned(rebuild(dense, graph, {}).yaml)
    assert len(built(torch.zeros(1, 3, 64, 64))) == 3


# Faults: each must break the parity

Fault = Callable[[nn.Module], None]


def swap_filters(name: str) -> Fault:
    def fault(model: nn.Module) -> None:
        weight = model.get_submodule(name).weight
        weight[[0, 1]] = weight[[1, 0]].clone()

    return fault


def roll(name: str, attribute: str) -> Fault:
    """A slice of a BN that is off by one."""

    def fault(model: nn.Module) -> None:
        value = getattr(model.get_submodule(name), attribute)
        value.copy_(value.roll(1))

    return fault


def drop_bias(name: str) -> Fault:
    return lambda model: model.get_submodule(name).bias.zero_()


def swap_blocks(name: str, first: slice, second: slice) -> Fault:
    """Columns that come from two sources of a Concat, in the wrong order."""

    def fault(model: nn.Module) -> None:
        weight = model.get_submodule(name).weight
        old = weight.clone()
        weight[:, first], weight[:, second] = old[:, second], old[:, first]

    return fault


def rotate_columns(name: str, count: int) -> Fault:
    """The sources of a Concat the other way round."""

    def fault(model: nn.Module) -> None:
        weight = model.get_submodule(name).weight
        weight.copy_(weight.roll(count, 1))

    return fault


def nudge(name: str, index: int = 5) -> Fault:
    """One weight of a conv is 1e-3 too large: of its own size, or of the mean where it is small."""

    def fault(model: nn.Module) -> None:
        weight = model.get_submodule(name).weight.view(-1)
        weight[index] += 1e-3 * max(weight[index].abs(), weight.abs().mean())

    return fault


def other(name: str, attribute: str, value: float) -> Fault:
    return lambda model: setattr(model.get_submodule(name), attribute, value)


FIRST, LAST, POOLS = "model.0.conv", "model.23.cv3.conv", "model.9.cv2.conv"
FAULTS: dict[str, Fault] = {
    **{f"filters of {n}": swap_filters(n) for n in (FIRST, "model.6.m.0.cv1.conv", POOLS, LAST)},
    **{
        f"{a} of {n} off by one": roll(n, a)
        for n in ("model.1.bn", "model.6.cv2.bn", "model.9.cv1.bn", "model.23.cv3.bn")
        for a in ("weight", "bias", "running_mean", "running_var")
    },
    **{f"no bias in {n}": drop_bias(n) for n in ("model.0.bn", "model.20.cv1.bn", "model.24.m.2")},
    **{f"no bias in {n}": drop_bias(n) for n in ("model.9.cv2.bn", "model.24.m.0")},
    **{f"1e-3 in {n}": nudge(n) for n in (FIRST, "model.8.m.0.cv1.conv", POOLS, LAST)},
    **{f"1e-3 in {n}": nudge(n) for n in ("model.23.m.0.cv2.conv", "model.24.m.0", "model.24.m.2")},
    "Concat of layer 12 the other way round": rotate_columns("model.13.cv2.conv", 16),
    "Concat in a C3 the other way round": rotate_columns("model.20.cv3.conv", 8),
    "eps": other("model.5.bn", "eps", 1e-5),
    "activation": lambda model: setattr(model.model[5], "act", nn.Hardswish()),
    "residual add": other("model.4.m.0", "add", False),
    "pool size": lambda model: setattr(model.model[9], "m", nn.MaxPool2d(3, 1, 1)),
    "anchors": lambda model: model.model[-1].anchors.mul_(1.001),
    "stride": lambda model: model.model[-1].stride.mul_(2),
    "nan in the first output": lambda model: model.model[-1].m[0].weight.fill_(float("nan")),
    "nan in the last output": lambda model: model.model[-1].m[2].weight.fill_(float("nan")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_check_sees(dense: nn.Module, halved: tuple, name: str) -> None:
    graph, masks, pruned = halved
    faulty = deepcopy(pruned)
    with torch.no_grad():
        FAULTS[name](faulty)
    parity = check_parity(dense, faulty, graph, masks)
    assert not parity.holds
    assert not parity.error < 1e-7  # far from the limit; a NaN passes here and nowhere else
    assert str(parity).startswith("BROKEN")


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (2, 3)])
def test_the_check_sees_pools_in_the_wrong_order(
    dense: nn.Module, halved: tuple, pair: tuple[int, int]
) -> None:
    """The three pools of an SPPF differ only on a map that is wide enough."""
    graph, masks, pruned = halved
    faulty = deepcopy(pruned)
    c = faulty.model[9].cv1.bn.num_features
    blocks = [slice(i * c, (i + 1) * c) for i in pair]
    with torch.no_grad():
        swap_blocks(POOLS, *blocks)(faulty)
    assert check_parity(dense, faulty, graph, masks).error > 1e-7


def test_the_check_sees_another_mask(dense: nn.Module, halved: tuple) -> None:
    graph, masks, pruned = halved
    kept, gone = (int(masks["model.1.bn"].int().argsort()[i]) for i in (-1, 0))
    changed: Masks = {n: m.clone() for n, m in masks.items()}
    changed["model.1.bn"][[kept, gone]] = changed["model.1.bn"][[gone, kept]]
    assert not check_parity(dense, pruned, graph, changed).holds


def test_the_check_does_not_hang_on_its_seed(dense: nn.Module, halved: tuple) -> None:
    graph, masks, pruned = halved
    found = [check_parity(dense, pruned, graph, masks, seed=seed) for seed in (0, 0, 1, 2)]
    assert found[0] == found[1] and all(parity.holds for parity in found)


def test_activations_that_no_yaml_names_go_along(tiny_model: nn.Module) -> None:
    """A model of an older YOLOv5 trains on with its own, and is cut with them."""
    model = tiny_model
    for m in model.modules():
        if type(m).__name__ == "Conv" and isinstance(m.act, nn.SiLU):
            m.act = nn.LeakyReLU(0.1)
    model.model[3].act = nn.Hardswish()
    again = build_heir(model)(deepcopy(model.yaml), nc=4).eval()
    again.load_state_dict(model.state_dict())
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(image)[0], model(image)[0])
    pruned = prune(model, 0.4, imgsz=64)
    assert pruned.yaml["activation"] == "nn.LeakyReLU(negative_slope=0.1)"
    assert pruned.yaml["backbone"][3][3][2]["act"] == "nn.Hardswish()"
    slim = ModelPruned(pruned.yaml).eval()
    slim.load_state_dict(pruned.model.state_dict())
    assert torch.equal(slim(image)[0], pruned.model.eval()(image)[0])
    assert prune(pruned.model, 0.3, imgsz=64).parity.holds
