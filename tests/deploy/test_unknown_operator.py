"""An operator that a converter does not know: its name and the layer, in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from yolo_slim import InputError
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.options import ExportOptions


class Odd(nn.Module):
    """An activation that asks for an operator."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.operator == "fft":
            return torch.fft.fft2(x).real
        if self.operator == "det":
            return x * torch.linalg.det(x[..., :2, :2])[..., None, None]
        return x.cumsum(1)


@pytest.mark.parametrize(
    ("name", "operator", "told"),
    [
        ("onnx", "fft", "--include onnx, model.6.act: operator aten::fft_fft2, expected"),
        ("openvino", "fft", "--include onnx, model.6.act: operator aten::fft_fft2, expected"),
        ("openvino", "det", "--include openvino, model.6.act: operator Det, expected"),
        ("ncnn", "det", "--include ncnn, model.6.act: operator Det, expected"),
        ("ncnn", "cumsum", "--include ncnn, model.6.act: operator CumSum, expected"),
        ("litert", "det", "--include litert, model.6.act: operator Det, expected"),
        ("litert", "cumsum", "--include litert, model.6.act: operator CumSum, expected"),
    ],
)
def test_operator_and_layer(name: str, operator: str, told: str, tiny_model: nn.Module) -> None:
    row = FORMATS[name]
    for module in row.needs:
        pytest.importorskip(module)
    tiny_model.model[6].act = Odd(operator)
    with pytest.raises(InputError) as error:
        row.write(tiny_model, ExportOptions((64, 64)))
    text = str(error.value)
    assert text.startswith(told) and "\n" not in text
    assert "--include torchscript takes all" in text
