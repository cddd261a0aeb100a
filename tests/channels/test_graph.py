"""The channel graph of yolov5n, by hand, and masks that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yolov5
from torch import nn

from yolo_slim import InputError, channel_graph
from yolo_slim.host.classes import yolo
from yolo_slim.pruning.budget.choose import masks_by_percent
from yolo_slim.pruning.masks import apply_masks_, keep_vector


@pytest.fixture(scope="module")
def yolov5n() -> nn.Module:
    return yolo.DetectionModel(str(Path(yolov5.__file__).parent / "models" / "yolov5n.yaml"))


def test_readers_through_concat_upsample_and_pool(yolov5n: nn.Module) -> None:
    norms = channel_graph(yolov5n).norms
    assert norms["model.4.cv3.bn"].readers == (
        "model.5.conv",
        "model.17.cv1.conv",
        "model.17.cv2.conv",
    )
    assert norms["model.9.cv1.bn"].readers == ("model.9.cv2.conv",)
    assert norms["model.17.cv3.bn"].readers == ("model.18.conv", "model.24.m.0")
    node = channel_graph(yolov5n).convs["model.9.cv2.conv"]  # SPPF joins its input four times
    assert node.inputs.tolist() == norms["model.9.cv1.bn"].ids.tolist() * 4


@pytest.mark.parametrize(
    ("residual", "channels"), [("skip", 3712), ("inner", 4112), ("group", 4752)]
)
def test_what_residuals_pin(yolov5n: nn.Module, residual: str, channels: int) -> None:
    """Inner Bottleneck channels: 16 + 2 * 32 + 3 * 64 + 128 = 400; added ones: 640."""
    graph = channel_graph(yolov5n, residual)
    assert graph.prunable_channels == channels
    assert graph.channels == 4752
    tied = graph.norms["model.4.cv1.bn"].tied
    assert tied == ("model.4.m.0.cv2.bn", "model.4.m.1.cv2.bn")


def test_pinned_says_why(yolov5n: nn.Module) -> None:
    norms = channel_graph(yolov5n).norms
    assert norms["model.2.cv1.bn"].pinned == "added in model.2.m.0"
    assert norms["model.2.m.0.cv1.bn"].pinned == "inside the residual model.2.m.0"
    assert norms["model.2.cv2.bn"].pinned is None
    assert "3712 of 4752 channels are prunable" in str(channel_graph(yolov5n))


def test_activation_that_is_not_0_at_0_is_silenced(tiny_model: nn.Module) -> None:
    tiny_model.model[3].act = nn.Sigmoid()
    graph = channel_graph(tiny_model)
    assert graph.norms["model.3.bn"].pinned is None
    assert graph.silenced["model.3.act"].tolist() == graph.norms["model.3.bn"].ids.tolist()
    assert list(graph.silenced) == ["model.3.act"]


def test_order_of_the_yaml_is_not_that_of_the_graph(tiny_yaml: dict) -> None:
    """Two Convs that read the same layer, in either order: the same channels are found."""
    found = []
    for first, second in ((64, 128), (128, 64)):
        data = {
            **tiny_yaml,
            "head": [
                [7, 1, "Conv", [first, 1, 1]],
                [7, 1, "Conv", [second, 1, 1]],
                [[8, 9, 7], 1, "Detect", ["nc", "anchors"]],
            ],
        }
        data["backbone"] = [list(map(_copy, row)) for row in tiny_yaml["backbone"]]
        graph = channel_graph(yolo.DetectionModel(data))
        assert graph.norms["model.7.cv2.bn"].readers[:2] == ("model.8.conv", "model.9.conv")
        found.append(sorted(n.channels for n in graph.norms.values()))
    assert found[0] == found[1]


def _copy(value: object) -> object:
    return list(value) if isinstance(value, list) else value


def test_half_of_a_norm_keeps_a_channel(tiny_yaml: dict) -> None:
    """BottleneckCSP has one BN over the outputs of two convs: neither may be left with nothing."""
    tiny_yaml["backbone"][2][2] = "BottleneckCSP"
    graph = channel_graph(yolo.DetectionModel(tiny_yaml))
    norm = graph.norms["model.2.bn"]
    parts = graph.parts[norm.ids].tolist()
    assert (norm.channels, len(set(parts))) == (16, 2)
    assert len(set(parts[:8])) == len(set(parts[8:])) == 1
    scores = {n.name: torch.ones(n.channels) for n in graph.prunable}
    scores["model.2.bn"][:8] = 0
    mask = masks_by_percent(graph, scores, 8 / graph.prunable_channels)["model.2.bn"]
    assert mask[:8].sum() == 1
    with pytest.raises(InputError, match=r"model\.2\.cv3: a mask that leaves it no channel"):
        keep_vector(graph, {"model.2.bn": torch.arange(16) > 7})


@pytest.mark.parametrize(
    ("name", "mask", "message"),
    [
        (
            "model.0.bn",
            torch.ones(32, dtype=torch.bool),
            r"a mask of \(32,\) torch.bool, expected \(8,\)",
        ),
        ("model.0.bn", torch.ones(8), r"torch.float32, expected \(8,\) torch.bool"),
        ("model.0.bn", torch.zeros(8, dtype=torch.bool), "keeps nothing, expected at least one"),
        ("model.99.bn", torch.ones(8, dtype=torch.bool), "expected the name of a BatchNorm"),
        (
            "model.2.cv1.bn",
            torch.arange(8) > 2,
            r"3 channels cut, expected all \(added in model.2.m.0\)",
        ),
    ],
)
def test_masks_that_do_not_fit(
    tiny_model: nn.Module, name: str, mask: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        keep_vector(channel_graph(tiny_model), {name: mask})


def test_tied_masks_must_agree(tiny_model: nn.Module) -> None:
    graph = channel_graph(tiny_model, "group")
    with pytest.raises(InputError, match="expected the same as model.2.m.0.cv2.bn"):
        keep_vector(graph, {"model.2.cv1.bn": torch.arange(8) > 2})


def test_apply_masks_silences_gamma_and_beta(tiny_model: nn.Module) -> None:
    mask = torch.arange(8) > 2
    gamma = tiny_model.model[0].bn.weight.detach().clone()
    apply_masks_(tiny_model, {"model.0.bn": mask})
    assert tiny_model.model[0].bn.weight.tolist() == (gamma * mask).tolist()
    assert tiny_model.model[0].bn.bias[~mask].tolist() == [0, 0, 0]


def test_norm_without_gamma_is_pinned(tiny_model: nn.Module) -> None:
    tiny_model.model[3].bn = nn.BatchNorm2d(32, affine=False)
    assert channel_graph(tiny_model).norms["model.3.bn"].pinned == "model.3.bn has no gamma"
