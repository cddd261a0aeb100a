"""Modules that somebody put into a model by hand: cut rightly, or refused with the layer's name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from yolo_slim import InputError, channel_graph, load, prune, save

MODULES = {  # for 16 channels
    "AlphaDropout": [0.3],
    "AvgPool2d": [3, 1, 1],
    "BatchNorm2d": [16],
    "ChannelShuffle": [4],
    "Conv2d": [16, 16, 3, 1, 1],
    "ConvTranspose2d": [16, 16, 1],
    "CrossMapLRN2d": [5],
    "Dropout": [0.3],
    "Dropout2d": [0.2],
    "FeatureAlphaDropout": [0.3],
    "FractionalMaxPool2d": [1, None, 0.9],
    "GLU": [1],
    "GroupNorm": [4, 16],
    "Identity": [],
    "InstanceNorm2d": [16, 1e-5, 0.1, True, True],
    "LayerNorm": [[16, 16, 16]],
    "LocalResponseNorm": [5],
    "LSTM": [16, 16],
    "MaxPool2d": [3, 1, 1],
    "ModuleList": [],
    "MultiheadAttention": [16, 4],
    "ParameterList": [],
    "PixelShuffle": [2],
    "PReLU": [16],
    "RMSNorm": [[16, 16, 16]],
    "RReLU": [],
    "Sequential": [],
    "Sigmoid": [],
    "Softmax2d": [],
    "Upsample": [None, 1],
}
PLACES = {  # where it is put, and how its refusal calls the layer
    "model.1.act": ("model.1.act", "layer 1, Conv", "layer 2, C3", "model.1:", "model.2:"),
    "model.2.m.0.cv1": ("model.2.", "model.2:", "layer 2, C3"),
    "model.2.cv1.bn": ("model.2.cv1", "model.2:"),
    "model.7.m": ("model.7", "layer 7, SPPF"),
    "model.9": ("model.9", "layer 9, ", "layer 10, Concat", "model.10", "model.11", "the model"),
}
REFUSED_EVERYWHERE = {"GroupNorm", "LocalResponseNorm", "Dropout2d", "Conv2d", "BatchNorm2d"}


def put_in(model: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, child = place.rpartition(".")
    for name in ("i", "f", "np", "type"):
        if hasattr(model.get_submodule(place), name):
            setattr(module, name, getattr(model.get_submodule(place), name))
    model.get_submodule(parent)._modules[child] = module


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("title", MODULES)
def test_each_module_in_each_place(
    title: str, place: str, tiny_model: nn.Module, tmp_path: Path
) -> None:
    put_in(tiny_model, place, getattr(nn, title)(*MODULES[title]))
    image = torch.rand(1, 3, 64, 64)
    try:
        pruned = prune(tiny_model.eval(), 0.4, criterion="l2", round_to=1, imgsz=64)
    except InputError as error:
        assert str(error).startswith((*PLACES[place], "model: it does not run")), error
        return
    assert pruned.parity.holds and title not in REFUSED_EVERYWHERE
    again = load(save(pruned, tmp_path / "p.pt")).model
    assert torch.equal(again(image)[0], pruned.model.eval()(image)[0])


@pytest.mark.parametrize(
    ("name", "setting", "value", "expected"),
    [
        ("model.7.m", "padding", (1, 1), "model.7.m: padding"),
        ("model.3.conv", "padding_mode", "reflect", "model.3.conv: padding_mode reflect, where"),
        ("model.2.cv1.conv", "dilation", (2, 2), "model.2.cv1.conv: dilation (2, 2), where the"),
    ],
)
def test_a_setting_that_no_yaml_builds(
    name: str, setting: str, value: object, expected: str, tiny_model: nn.Module
) -> None:
    module = tiny_model.get_submodule(name)
    setattr(module, setting, value)
    if isinstance(module, nn.MaxPool2d):
        module.kernel_size = 3
    with pytest.raises(InputError) as error:
        prune(tiny_model, 0.4, criterion="l2", imgsz=64)
    assert str(error.value).startswith(expected.partition(":")[0]) and expected in str(error.value)


def test_a_pool_of_an_sppf_pins_what_it_mixes(tiny_model: nn.Module) -> None:
    tiny_model.model[7].m = nn.LocalResponseNorm(5)
    pinned = channel_graph(tiny_model).norms["model.7.cv1.bn"].pinned
    assert pinned == "read by model.7.m, LocalResponseNorm, which normalises over channels"


def test_a_model_that_sends_nothing_is_cut(tiny_model: nn.Module) -> None:
    with torch.no_grad():
        for value in tiny_model.parameters():
            value.zero_()
    assert prune(tiny_model, 0.4, criterion="random", imgsz=64).parity.error == 0
