"""Every module of torch.nn that takes a feature map: cut rightly, or pinned with a reason."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import yaml
from _common import randomise_norms_
from torch import nn

from yolo_slim import Calibration, channel_graph, load, prune, save
from yolo_slim.channels.rules import RULES
from yolo_slim.host.yamls import activation_text, parse_activation
from yolo_slim.models.model import build_heir, build_model

ACTIVATIONS = {
    "CELU": [0.7],
    "ELU": [1.3],
    "GELU": [],
    "Hardshrink": [0.3],
    "Hardsigmoid": [],
    "Hardswish": [],
    "Hardtanh": [-1.0, 2.0],
    "LeakyReLU": [0.2],
    "LogSigmoid": [],
    "Mish": [],
    "PReLU": [],
    "RReLU": [0.1, 0.4],
    "ReLU": [],
    "ReLU6": [],
    "SELU": [],
    "SiLU": [],
    "Sigmoid": [],
    "Softplus": [2.0],
    "Softshrink": [0.2],
    "Softsign": [],
    "Tanh": [],
    "Tanhshrink": [],
    "Threshold": [0.1, 3.0],
}
LAYERS = {
    "PReLU": [16],  # a slope a channel
    "Identity": [],
    "Dropout": [0.3],
    "Dropout2d": [0.3],
    "Dropout3d": [0.3],
    "AlphaDropout": [0.3],
    "FeatureAlphaDropout": [0.3],
    "MaxPool2d": [3, 2, 1, 1, False, True],
    "AvgPool2d": [3, 2, 1],
    "LPPool2d": [2, 3, 1],
    "FractionalMaxPool2d": [3, None, 0.5],
    "AdaptiveAvgPool2d": [8],
    "AdaptiveMaxPool2d": [8],
    "Upsample": [None, 2, "bilinear", True],
    "UpsamplingNearest2d": [None, 2],
    "UpsamplingBilinear2d": [None, 2],
    "ReflectionPad2d": [1],
    "ReplicationPad2d": [1],
    "CircularPad2d": [1],
    "ZeroPad1d": [1],
    "ZeroPad2d": [1],
    "ConstantPad1d": [1, 0.5],
    "ConstantPad2d": [1, 0.5],
    "PixelShuffle": [2],
    "PixelUnshuffle": [2],
    "ChannelShuffle": [4],
    "GLU": [1],
    "InstanceNorm2d": [16, 1e-5, 0.1, True, True],
    "BatchNorm2d": [16],
    "Conv2d": [16, 24, 3, 1, 1],
    "ConvTranspose2d": [16, 24, 2, 2],
}
PINNED = {  # what it reads keeps all channels
    "GroupNorm": ([4, 16], "normalises over channels"),
    "LayerNorm": ([[16, 8, 8]], "normalises over channels"),
    "RMSNorm": ([[16, 8, 8]], "normalises over channels"),
    "LocalResponseNorm": ([5], "normalises over channels"),
    "CrossMapLRN2d": ([5], "normalises over channels"),
    "Softmax": ([1], "normalises over channels"),
    "Softmax2d": ([], "normalises over channels"),
    "Softmin": ([1], "normalises over channels"),
    "LogSoftmax": ([1], "normalises over channels"),
    "Unfold": ([3], "which has no rule"),
    "AdaptiveAvgPool3d": ([[16, 8, 8]], "which has no rule"),  # of a map they pool channels, too
    "AdaptiveMaxPool3d": ([[16, 8, 8]], "which has no rule"),
    "AvgPool3d": ([3, 1, 1], "which has no rule"),
    "LPPool3d": ([2, 3, 1], "which has no rule"),
    "MaxPool3d": ([3, 1, 1], "which has no rule"),
    "FractionalMaxPool3d": ([3, [16, 8, 8]], "which has no rule"),
    "CircularPad3d": ([1], "which has no rule"),
    "ConstantPad3d": ([1, 0.5], "which has no rule"),
    "ReflectionPad3d": ([1], "which has no rule"),
    "ReplicationPad3d": ([1], "which has no rule"),
    "ZeroPad3d": ([1], "which has no rule"),
    "InstanceNorm3d": ([1], "which has no rule"),
    "Conv3d": ([16, 16, 3], "which has no rule"),
    "ConvTranspose3d": ([16, 16, 3], "which has no rule"),
    "MultiheadAttention": ([16, 4], "which has no rule"),
}
OTHERS = {  # as their names say, they take no map (n, C, h, w), or become another class on it
    *("Module", "Container", "Sequential", "ModuleList", "ModuleDict", "ParameterList"),
    *("ParameterDict", "DataParallel", "Linear", "Bilinear", "Embedding", "EmbeddingBag", "Fold"),
    *("CosineSimilarity", "PairwiseDistance", "Flatten", "Unflatten", "SyncBatchNorm"),
    *("RNN", "RNNBase", "RNNCell", "RNNCellBase", "LSTM", "LSTMCell", "GRU", "GRUCell"),
    *("AdaptiveLogSoftmaxWithLoss", "NLLLoss2d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"),
    *("CircularPad1d", "ReflectionPad1d", "ReplicationPad1d", "Dropout1d", "BatchNorm1d"),
    *("BatchNorm3d", "InstanceNorm1d", "Conv1d", "ConvTranspose1d", "AvgPool1d", "MaxPool1d"),
    *("LPPool1d", "AdaptiveAvgPool1d", "AdaptiveMaxPool1d"),
}
CFG = """
nc: 2
depth_multiple: 1.0
width_multiple: 1.0
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Conv, [8, 6, 2, 2]]  # 0
  - [-1, 1, Conv, [16, 3, 2]]  # 1
head:
  - [-1, 1, Conv, [16, 1]]  # 2
  - [-1, 1, Conv, [24, 3, 2]]  # 3
  - [[2, 3], 1, Detect, [nc, anchors]]  # 4
"""


def detector(name: str, args: list) -> nn.Module:
    data = yaml.safe_load(CFG)
    data["backbone"].append([-1, 1, f"nn.{name}", args])
    data["head"][-1][0] = [3, 4]
    model = build_model(data)
    randomise_norms_(model)
    return model.eval()


def plain(layer: nn.Module) -> nn.Module:
    """1x1 convs around a layer: what a cut channel sends is then made up for exactly."""
    out = layer(torch.rand(2, 16, 8, 8)).shape[1]
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), layer, nn.Conv2d(out, 4, 1))
    model.image = (3, 8, 8)
    randomise_norms_(model)
    for values in layer.parameters():
        nn.init.uniform_(values, 0.1, 0.9)
    return model.double().eval()


def test_every_class_is_named_here() -> None:
    names = {n for n, c in vars(nn).items() if isinstance(c, type) and issubclass(c, nn.Module)}
    names = {n for n in names if not n.startswith(("Lazy", "Transformer")) and "Loss" not in n}
    assert names - OTHERS == names & {*ACTIVATIONS, *LAYERS, *PINNED}
    assert not {*ACTIVATIONS, *LAYERS} & {*PINNED}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_a_yaml(name, tmp_path) -> None:
    data = yaml.safe_load(CFG)
    data["activation"] = activation_text(getattr(nn, name)(*ACTIVATIONS[name]))
    model = build_model(data)
    randomise_norms_(model)
    pruned = prune(model.eval(), 0.5, round_to=1, imgsz=64)
    assert pruned.parity.holds
    assert pruned.report.achieved == pytest.approx(0.5, abs=0.05)
    assert pruned.yaml["activation"] == data["activation"]
    found = load(save(pruned, tmp_path / "p.pt")).model
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(found(image)[0], pruned.model.eval()(image)[0])
    assert prune(found, 0.3, round_to=1, imgsz=64).parity.holds


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_text_of_an_activation(name) -> None:
    act = getattr(nn, name)(*ACTIVATIONS[name])
    again = parse_activation(activation_text(act)).eval()
    x = torch.linspace(-4, 4, 101)
    assert type(again) is type(act) and torch.equal(again(x), act.eval()(x))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_of_a_yaml(name, tmp_path) -> None:
    model = detector(name, LAYERS[name])
    assert channel_graph(model).norms["model.1.bn"].pinned is None
    pruned = prune(model, ratios={"model.1": 0.5}, percent=0.4, round_to=1, imgsz=64)
    assert pruned.parity.holds
    assert int(pruned.masks["model.1.bn"].sum()) == 8
    found = load(save(pruned, tmp_path / "p.pt")).model
    assert {k: v.shape for k, v in build_model(pruned.yaml).state_dict().items()} == {
        k: v.shape for k, v in found.state_dict().items()
    }
    assert prune(found, 0.3, round_to=1, imgsz=64).parity.holds


@pytest.mark.parametrize("name", [*ACTIVATIONS, *LAYERS])
def test_what_cut_channels_send_is_made_up_for(name) -> None:
    """Half of the channels have gamma 0: the cut model computes what the whole one computes."""
    if name == "FractionalMaxPool2d":
        pytest.skip("its output is drawn")
    args = LAYERS.get(name) or ACTIVATIONS.get(name) or []
    model = plain(getattr(nn, name)(*args))
    group = channel_graph(model).group[:16]
    gone = np.isin(group, np.unique(group)[::2])
    with torch.no_grad():
        model[1].weight[torch.from_numpy(gone)] = 0
        if isinstance(model[2], nn.BatchNorm2d):
            model[2].weight[torch.from_numpy(gone)] = 0
    pruned = prune(model, 0.5, round_to=1, recover=("constants",))
    assert pruned.model[0].out_channels < 16
    image = torch.rand(2, 3, 8, 8).double()
    with torch.no_grad():
        ours, theirs = pruned.model(image), model(image)
    assert ours.std() > 1e-3
    if name in ("PixelShuffle", "ConvTranspose2d"):  # a pattern is made up for by its mean
        ours, theirs = ours.mean((2, 3), keepdim=True), theirs.mean((2, 3), keepdim=True)
    else:
        ours, theirs = ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2]
    assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("name", PINNED)
def test_pinned_with_a_reason(name) -> None:
    args, why = PINNED[name]
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), getattr(nn, name)(*args))
    model.image = (3, 8, 8)
    if getattr(nn, name) in RULES:
        pinned = channel_graph(model).norms["1"].pinned
    else:
        from yolo_slim.channels.graph import FREE
        from yolo_slim.channels.tracer import Tracer

        tracer = Tracer(channels=lambda: {"2": 16})
        RULES[nn.Sequential](model, "", np.full(3, FREE), tracer)
        pinned = tracer.finish().norms["1"].pinned
    assert str(pinned).startswith(f"read by 2, {name}") and why in str(pinned)


def test_slopes_by_channel_that_a_user_put_into_a_model(tmp_path) -> None:
    """Each Conv with another activation than its yaml's, some with a parameter a channel."""
    model = build_model(yaml.safe_load(CFG))
    randomise_norms_(model)
    acts = [nn.PReLU(8), nn.PReLU(16), nn.RReLU(), nn.PReLU(24)]
    for layer, act in zip(model.model[:4], acts, strict=True):
        layer.act = act
        for values in act.parameters():
            nn.init.uniform_(values, 0.1, 0.9)
    before = deepcopy(model.state_dict())
    pruned = prune(model.eval(), 0.5, round_to=1, imgsz=64)
    assert pruned.parity.holds
    kept = pruned.masks["model.1.bn"]
    assert torch.equal(pruned.model.model[1].act.weight, before["model.1.act.weight"][kept])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    found = load(save(pruned, tmp_path / "p.pt")).model
    assert found.model[1].act.num_parameters == int(kept.sum())
    assert prune(found, 0.3, round_to=1, imgsz=64).parity.holds
    built = build_model(pruned.yaml).state_dict()
    assert {k: v.shape for k, v in built.items()} == {
        k: v.shape for k, v in pruned.model.state_dict().items()
    }
    assert pruned.report.after.params == sum(p.numel() for p in pruned.model.parameters())


def test_a_training_begins_with_the_activations_that_a_user_put_in() -> None:
    """The host builds the model anew from its yaml, which knows nothing of them."""
    data = yaml.safe_load(CFG)
    model, shared = build_model(deepcopy(data)), nn.PReLU(init=0.7)
    for layer, act in zip(model.model[:4], (nn.PReLU(8), shared, shared, nn.Mish()), strict=True):
        layer.act = act
    heir = build_heir(model)(deepcopy(data), ch=3, nc=2)
    assert heir.state_dict().keys() == model.state_dict().keys()
    assert [type(layer.act) for layer in heir.model[:4]] == [nn.PReLU, nn.PReLU, nn.PReLU, nn.Mish]
    assert heir.model[1].act is heir.model[2].act is not shared


@pytest.mark.parametrize("how", [{"affine": False}, {"track_running_stats": False}])
def test_a_batchnorm_without_gamma_or_statistics_stays(how: dict, tmp_path) -> None:
    model = build_model(yaml.safe_load(CFG))
    model.model[1].bn = nn.BatchNorm2d(16, **how)
    model.eval()
    assert "has no" in str(channel_graph(model).norms["model.1.bn"].pinned)
    images = Calibration((((torch.rand(4, 3, 64, 64)), None),))
    pruned = prune(
        model,
        0.5,
        round_to=1,
        recover=("constants", "weights", "statistics"),
        calibration=images,
        imgsz=64,
    )
    assert pruned.parity.holds and pruned.report.achieved > 0.4
    assert pruned.model.model[1].bn.extra_repr() == model.model[1].bn.extra_repr()
    found = load(save(pruned, tmp_path / "p.pt")).model
    assert prune(found, 0.3, round_to=1, imgsz=64).parity.holds
    heir = build_heir(found)(deepcopy(found.yaml), ch=3, nc=2)
    assert heir.state_dict().keys() == found.state_dict().keys()
