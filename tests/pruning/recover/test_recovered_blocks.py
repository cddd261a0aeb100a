"""Recovery after residual Bottlenecks were cut as a whole: what they sent is moved or fitted."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import yaml
from _common import randomise_norms_
from conftest import TINY
from test_constants import outputs
from torch import nn

from yolo_slim import channel_graph
from yolo_slim.calibration import Calibration
from yolo_slim.host.classes import yolo
from yolo_slim.pruning.masks import Masks
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover.constants import constants_of, move_constants_
from yolo_slim.pruning.recover.distill import distill_
from yolo_slim.pruning.recover.reconstruct import reconstruct_
from yolo_slim.pruning.recover.recover import recover_
from yolo_slim.pruning.recover.statistics import retake_statistics_

GONE = ("model.2.m.0", "model.4.m.0")
CSP = TINY.replace("6, C3, [128]", "9, BottleneckCSP, [128]")
ROW = TINY.replace("6, C3, [128]", "6, Bottleneck, [128]")


def cut_of(model: nn.Module, gone: Any = GONE, residual: Any = "inner") -> tuple[Any, Masks]:
    graph = channel_graph(model, residual)
    return graph, {
        graph.branches[name].inner: torch.zeros(
            graph.norms[graph.branches[name].inner].channels, dtype=torch.bool
        )
        for name in gone
    }


def images() -> Calibration:
    draw = torch.Generator().manual_seed(1)
    return Calibration(((torch.rand(8, 3, 64, 64, generator=draw), None),))


@pytest.mark.parametrize("residual", ["inner", "group"])
@pytest.mark.parametrize("text", [TINY, CSP])
def test_a_branch_that_sends_a_constant_goes_without_a_trace(text: str, residual: Any) -> None:
    """As after a sparse training: gamma of its last BatchNorm 0, beta not."""
    model = yolo.DetectionModel(yaml.safe_load(text))
    randomise_norms_(model)
    model = model.double().eval()
    gone = [*GONE, "model.4.m.1"]
    graph, masks = cut_of(model, gone, residual)
    with torch.no_grad():
        for name in gone:
            model.get_submodule(name).cv2.bn.weight.zero_()
    dense = outputs(model, side=3)
    pruned = rebuild(model, graph, masks).double()
    far = max(float((a - b).abs().max()) for a, b in zip(outputs(pruned, 3), dense, strict=True))
    assert move_constants_(pruned, model, graph, masks)
    for ours, theirs in zip(outputs(pruned, side=3), dense, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert far > 1e-3  # the constants were something


def test_only_what_comes_after_it_in_its_layer_gets_its_constant(tiny_model: nn.Module) -> None:
    graph, masks = cut_of(tiny_model, ["model.4.m.1"])
    constants = constants_of(tiny_model, graph, masks)
    first, last = constants["model.4.m.0.cv1.conv"], constants["model.4.cv3.conv"]
    assert not first.any()
    assert last[:16].any() and not last[16:].any()
    assert set(constants) == {"model.4.m.0.cv1.conv", "model.4.cv3.conv"}


def test_the_next_convs_are_fitted(tiny_model: nn.Module) -> None:
    graph, masks = cut_of(tiny_model)
    pruned = rebuild(tiny_model, graph, masks)
    errors = reconstruct_(pruned, tiny_model, graph, masks, images()).errors
    assert set(errors) == {"model.2.cv3.conv", "model.4.m.1.cv1.conv", "model.4.cv3.conv"}
    assert all(after < 0.8 * before for before, after in errors.values())


def test_the_other_parts_leave_them_alone(tiny_model: nn.Module) -> None:
    graph, masks = cut_of(tiny_model)
    pruned = rebuild(tiny_model, graph, masks)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in pruned.modules())
    assert retake_statistics_(pruned, tiny_model, graph, masks, images()) == norms
    assert distill_(pruned, tiny_model, graph, masks, images(), steps=2) == 2
    before = deepcopy(pruned.state_dict())
    parts = ("constants", "weights", "statistics")
    done = recover_(pruned, tiny_model, graph, masks, parts, images())
    assert done.names == parts
    assert before.keys() == pruned.state_dict().keys()


def test_in_a_row_of_bottlenecks() -> None:
    model = yolo.DetectionModel(yaml.safe_load(ROW))
    randomise_norms_(model)
    graph, masks = cut_of(model.eval(), ["model.4.0"])
    pruned = rebuild(model, graph, masks)
    assert set(constants_of(model, graph, masks)) == {"model.4.1.cv1.conv"}
    done = recover_(pruned, model, graph, masks, ("constants", "weights"), images())
    assert done.names == ("constants", "weights")
