"""A .tflite file computes what PyTorch does, operator by operator."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import onnx
import onnxslim
import pytest
import torch
from torch import nn

from yolo_slim import InputError
from yolo_slim.deploy.export import quiet
from yolo_slim.deploy.litert import converted
from yolo_slim.host.classes import common

pytest.importorskip("ai_edge_litert")
CHANNELS, SIDES = 8, (12, 20)


class Does(nn.Module):
    """A module of one function, behind a conv: its input is a feature map of the graph."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, CHANNELS, 1), function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(self.conv(images))


def behind(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, CHANNELS, 1), *layers)


MODULES = {
    "3x3": nn.Conv2d(CHANNELS, 5, 3, padding=1),
    "3x3, step 2": nn.Conv2d(CHANNELS, 5, 3, 2, 1),
    "6x6, step 2, padded by 2": nn.Conv2d(CHANNELS, 5, 6, 2, 2),
    "no bias, one side padded": nn.Conv2d(CHANNELS, 5, (1, 5), padding=(0, 2), bias=False),
    "gaps": nn.Conv2d(CHANNELS, 5, 3, padding=2, dilation=2),
    "two groups": nn.Conv2d(CHANNELS, 6, 3, padding=1, groups=2),
    "each channel": nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1, groups=CHANNELS),
    "each channel twice": nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1, groups=CHANNELS),
    "enlarging": nn.ConvTranspose2d(CHANNELS, 5, 2, 2),
    "pool 5x5": nn.MaxPool2d(5, 1, 2),
    "pool 2x2": nn.MaxPool2d(2, 2),
    "pool 3x3, step 2": nn.MaxPool2d(3, 2, 1),
    "one pixel for all": nn.AdaptiveAvgPool2d(1),
    "larger": nn.Upsample(None, 2, "nearest"),
    "zeros around": nn.ZeroPad2d((0, 1, 0, 1)),
    "norm": nn.BatchNorm2d(CHANNELS),
    "SiLU": nn.SiLU(),
    "LeakyReLU": nn.LeakyReLU(0.1),
    "Hardswish": nn.Hardswish(),
    "ReLU": nn.ReLU(),
    "ReLU6": nn.ReLU6(),
    "ELU": nn.ELU(),
    "Tanh": nn.Tanh(),
    "Focus": common.Focus(CHANNELS, 5, 3),
    "C3TR": common.C3TR(CHANNELS, CHANNELS, 1),
    "GhostBottleneck": common.GhostBottleneck(CHANNELS, CHANNELS, 3, 2),
    "CrossConv": common.CrossConv(CHANNELS, CHANNELS, 3, 1, 1, 1.0, True),
    "Contract": common.Contract(2),
    "Expand": common.Expand(2),
    "Flatten and Linear": nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(CHANNELS * 15, 7)),
}
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a map by a number a channel": lambda x: x * torch.arange(8.0).view(1, 8, 1, 1) - 0.5,
    "maps next to each other": lambda x: torch.cat((x, x.sigmoid(), x[..., :20]), 1),
    "below each other": lambda x: torch.cat((x, x), 2),
    "a map and a map that was turned": lambda x: x + x.transpose(2, 3).transpose(2, 3),
    "rows and a constant": lambda x: x.flatten(2) / torch.linspace(1, 2, 240),
    "parts of channels": lambda x: torch.cat(x.split((3, 5), 1)[::-1], 1) ** 2,
    "a part": lambda x: x[:, 1:-2, 2:, ::3],
    "shares": lambda x: x.flatten(2).softmax(-1).exp().sqrt().abs(),
    "a product": lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
    "one value of each row": lambda x: -x.mean((2, 3), keepdim=True),
}
CASES = {name: behind(layer) for name, layer in MODULES.items()}
CASES |= {name: Does(function) for name, function in FUNCTIONS.items()}


def onnx_of(model: nn.Module, batch: int = 2) -> bytes:
    buffer = io.BytesIO()
    with quiet():
        images = torch.rand(batch, 3, *SIDES)
        options = {"input_names": ["images"], "opset_version": 17, "dynamo": False}
        torch.onnx.export(model, (images,), buffer, do_constant_folding=True, **options)
    graph = onnxslim.slim(onnx.load_from_string(buffer.getvalue()))
    return graph.SerializeToString()


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_same_numbers(name: str, batch: int = 2) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model = CASES[name].eval()
    images = torch.rand(batch, 3, *SIDES)
    interpreter = Interpreter(model_content=converted(onnx_of(model, batch), shares=False))
    interpreter.allocate_tensors()
    (image,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["name"], image["shape"].tolist()) == ("images", [batch, *SIDES, 3])
    interpreter.set_tensor(image["index"], images.permute(0, 2, 3, 1).numpy())
    interpreter.invoke()
    expected, actual = model(images).numpy(), interpreter.get_tensor(out["index"])
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: x.cumsum(1), "CumSum"),
        (lambda x: x.clamp(0, 1), "Clip with other bounds than 0 and 6"),
        (lambda x: x.softmax(1).softmax(2), "Softmax along another axis than the last"),
        (lambda x: nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear"), "Resize other"),
        (lambda x: nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), "Pad with other than a"),
        (lambda x: nn.functional.max_pool2d(x, 3, ceil_mode=True), "MaxPool with padding"),
    ],
)
def test_what_has_no_counterpart_is_named(
    function: Callable[[torch.Tensor], torch.Tensor], operator: str
) -> None:
    with pytest.raises(InputError) as error:
        converted(onnx_of(Does(function)), shares=False)
    assert f"operator {operator}" in str(error.value)
