"""Residual Bottlenecks that are cut as a whole: the rest computes what the silenced model does."""

from __future__ import annotations

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from _common import randomise_norms_
from conftest import TINY
from torch import nn

from yolo_slim import InputError, channel_graph, load, prune, save
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.host.classes import common, yolo
from yolo_slim.models.model import ModelPruned, default_activation
from yolo_slim.models.modules import C3Pruned
from yolo_slim.models.pruned_yaml import read_yaml, write_yaml
from yolo_slim.pruning.masks import Masks, keep_vector, removable, removed_blocks, whole_masks
from yolo_slim.pruning.prune import cut_and_prove

CSP = TINY.replace("6, C3, [128]", "9, BottleneckCSP, [128]")
CROSS = TINY.replace("6, C3, [128]", "6, C3x, [128]")
ROW = TINY.replace("6, C3, [128]", "6, Bottleneck, [128]")
OTHER = TINY.replace("backbone:", "activation: nn.LeakyReLU(0.1)\nbackbone:")
BLOCKS = ("model.2.m.0", "model.4.m.0", "model.4.m.1")


def built(text: str) -> Any:
    """A model of a yaml with random weights and statistics."""
    with default_activation(None):
        model = yolo.DetectionModel(yaml.safe_load(text))
    randomise_norms_(model)
    return model.eval()


def without(graph: ChannelGraph, *blocks: str) -> Masks:
    """Masks that cut blocks as a whole, and every third channel of all else that may be cut."""
    masks = {n.name: torch.arange(n.channels) % 3 > 0 for n in graph.prunable if not n.tied}
    for name in blocks:
        inner = graph.branches[name].inner
        masks[inner] = torch.zeros(graph.norms[inner].channels, dtype=torch.bool)
    return masks


@pytest.mark.parametrize("residual", ["inner", "group"])
@pytest.mark.parametrize("gone", [BLOCKS[:1], BLOCKS[1:2], BLOCKS[2:], BLOCKS])
def test_what_is_left_computes_what_the_silenced_model_does(
    tiny_model: nn.Module, residual: Any, gone: tuple[str, ...]
) -> None:
    graph = channel_graph(tiny_model, residual)
    masks = without(graph, *gone)
    pruned, parity = cut_and_prove(tiny_model, graph, masks)
    assert parity.holds
    assert removed_blocks(graph, pruned.maskbndict) == gone
    for name in gone:
        assert type(pruned.get_submodule(name)) is nn.Identity
        assert not pruned.maskbndict[f"{name}.cv2.bn"].any()
    # An independent silence: the branch is taken out of the sum by hand.
    dense = deepcopy(tiny_model).double()
    keep = keep_vector(graph, masks)
    for norm in graph.norms.values():
        bn = dense.get_submodule(norm.name)
        bn.weight.data[~torch.from_numpy(keep[norm.ids])] = 0
        bn.bias.data[~torch.from_numpy(keep[norm.ids])] = 0
    for name in gone:
        dense.get_submodule(name).forward = lambda x: x
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(pruned.double()(image)[0], dense(image)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (CSP, ["model.4.m.1"]),
        (CSP, ["model.4.m.0", "model.4.m.1", "model.4.m.2"]),
        (CROSS, ["model.4.m.0"]),
        (ROW, ["model.4.1"]),
        (ROW, ["model.4.0", "model.4.1"]),
        (OTHER, ["model.4.m.1"]),
    ],
)
def test_other_modules_with_residual_bottlenecks(text: str, gone: list[str]) -> None:
    model = built(text)
    graph = channel_graph(model, "inner")
    pruned, parity = cut_and_prove(model, graph, without(graph, *gone))
    assert parity.holds
    again = ModelPruned(yaml.safe_load(write_yaml(pruned.yaml)))
    shapes = {key: value.shape for key, value in pruned.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
    assert not any(key.startswith(tuple(f"{name}." for name in gone)) for key in shapes)
    # and once more: what is gone stays gone, the next goes too
    rest = channel_graph(pruned, "inner")
    twice, parity = cut_and_prove(pruned, rest, without(rest, *removable(rest)[:1]))
    assert parity.holds
    assert not set(gone) & set(rest.branches)


@pytest.mark.parametrize("name", ["yolov5n", "yolov5m"])
def test_models_of_the_host(name: str) -> None:
    """The depth of the model, at an eighth of its width."""
    data = yaml.safe_load((Path(yolo.__file__).parent / f"{name}.yaml").read_text())
    model = built(yaml.safe_dump(data | {"width_multiple": 0.125}))
    graph = channel_graph(model, "group")
    blocks = removable(graph)
    assert len(blocks) == {"yolov5n": 7, "yolov5m": 14}[name]
    pruned, parity = cut_and_prove(model, graph, without(graph, *blocks[::2]))
    assert parity.holds
    rest = channel_graph(pruned, "group")
    assert removable(rest) == blocks[1::2]
    _, parity = cut_and_prove(pruned, rest, without(rest, *removable(rest)))
    assert parity.holds


def test_the_yaml_says_which_are_gone(tiny_model: nn.Module, tmp_path: Path) -> None:
    graph = channel_graph(tiny_model, "inner")
    pruned, _ = cut_and_prove(tiny_model, graph, without(graph, "model.4.m.0", "model.2.m.0"))
    rows = pruned.yaml["backbone"]
    assert rows[2] == [-1, 1, "C3Pruned", [10, 8, 5, [None], True]]
    assert rows[4] == [-1, 1, "C3Pruned", [21, 16, 10, [None, [10, 16]], True]]
    file = tmp_path / "pruned.yaml"
    file.write_text(write_yaml(pruned.yaml))
    assert "C3Pruned, [21, 16, 10, [null, [10, 16]], true]" in file.read_text()
    model = ModelPruned(read_yaml(file))
    assert isinstance(model.model[2], C3Pruned)
    assert model.load_state_dict(pruned.state_dict())
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.eval()(image)[0], pruned(image)[0])


def test_a_new_process_loads_it(tiny_model: nn.Module, tmp_path: Path) -> None:
    graph = channel_graph(tiny_model, "inner")
    pruned, _ = cut_and_prove(tiny_model, graph, without(graph, *BLOCKS))
    image = torch.rand(1, 3, 64, 64)
    torch.save((image, pruned(image)[0]), tmp_path / "seen.pt")
    file = save(pruned, tmp_path / "pruned.pt")
    script = (
        "import sys, torch; from yolo_slim import load; model = load(sys.argv[1]).model\n"
        "image, seen = torch.load(sys.argv[2])\n"
        "assert torch.allclose(model(image)[0], seen, atol=1e-4), 'differs'\n"
        "print(sorted(n for n, m in model.maskbndict.items() if not m.any()))"
    )
    command = [sys.executable, "-c", script, str(file), str(tmp_path / "seen.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(
        sorted(f"{b}.{conv}.bn" for b in BLOCKS for conv in ("cv1", "cv2"))
    )


def test_which_may_go(tiny_model: nn.Module) -> None:
    assert removable(channel_graph(tiny_model, "inner")) == BLOCKS
    assert removable(channel_graph(tiny_model, "group")) == BLOCKS
    assert removable(channel_graph(tiny_model, "skip")) == ()
    held = ["model.2.m.0.cv2.bn", "model.4.m.1.cv1.bn"]
    assert removable(channel_graph(tiny_model, "inner"), held) == BLOCKS[1:2]
    why = channel_graph(tiny_model, "skip").branches["model.2.m.0"].stays
    assert why == "inside the residual model.2.m.0"


@pytest.mark.parametrize("act", ["Sigmoid", "Softplus", "Hardsigmoid"])
def test_a_branch_that_is_not_0_when_silent_stays(act: str) -> None:
    model = built(TINY.replace("backbone:", f"activation: nn.{act}()\nbackbone:"))
    graph = channel_graph(model, "inner")
    assert removable(graph) == ()
    assert graph.branches["model.4.m.0"].stays == "its activation is not 0 at 0"
    with pytest.raises(InputError, match="model.2.m.0.cv1.bn: .*nothing.*is not 0 at 0"):
        keep_vector(graph, without(graph, "model.2.m.0"))


def test_a_slope_a_channel_goes_with_its_block() -> None:
    model = built(TINY)
    for conv in (m for m in model.modules() if isinstance(m, common.Conv)):
        conv.act = nn.PReLU(conv.conv.out_channels)
    graph = channel_graph(model, "inner")
    assert removable(graph) == BLOCKS
    pruned, parity = cut_and_prove(model, graph, without(graph, "model.4.m.0"))
    assert parity.holds
    assert not any(key.startswith("model.4.m.0.") for key in pruned.state_dict())


def test_blocks_that_share_or_are_called_again_stay(tiny_model: nn.Module) -> None:
    tiny_model.model[4].m[1].cv1.conv.weight = tiny_model.model[4].m[0].cv1.conv.weight
    assert removable(channel_graph(tiny_model, "inner")) == BLOCKS[:1]
    model = built(TINY)
    model.model[4].m[1] = model.model[4].m[0]
    assert removable(channel_graph(model, "inner")) == BLOCKS[:1]
    single = re.sub(r"6, C3, \[128\]", "1, Bottleneck, [128]", TINY)  # a layer of its own
    assert removable(channel_graph(built(single), "inner")) == BLOCKS[:1]


def test_masks_may_leave_the_outer_norm_out(tiny_model: nn.Module) -> None:
    graph = channel_graph(tiny_model, "group")
    masks = without(graph, "model.2.m.0")
    whole = whole_masks(graph, masks)
    assert not whole["model.2.m.0.cv2.bn"].any()
    assert (keep_vector(graph, masks) == keep_vector(graph, whole)).all()
    outer = {"model.2.m.0.cv2.bn": whole["model.2.m.0.cv2.bn"]}
    with pytest.raises(InputError, match="keeps nothing"):
        keep_vector(graph, outer)


def test_a_pruned_model_is_pruned_again_and_keeps_its_names(
    tiny_model: nn.Module, tmp_path: Path
) -> None:
    graph = channel_graph(tiny_model, "inner")
    pruned, _ = cut_and_prove(tiny_model, graph, without(graph, "model.4.m.0"))
    file = save(pruned, tmp_path / "pruned.pt")
    again = prune(load(file).model, 0.3, criterion="l2", residual="inner", round_to=1, imgsz=64)
    assert again.parity.holds
    assert "model.4.m.1.cv1.bn" in again.masks
    assert again.yaml["backbone"][4][3][3][0] is None
