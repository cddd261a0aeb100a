"""The programs in docs/openvino.md, ncnn.md and litert.md, as they are, give PyTorch's rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from torch import nn

from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.measure.latency import random_images

SIZE = 64


@pytest.mark.parametrize("name", ["openvino", "ncnn", "litert"])
@torch.no_grad()
def test_the_program_gives_the_rows_of_pytorch(
    name: str, tiny_model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = FORMATS[name]
    for module in row.needs:
        pytest.importorskip(module)
    row.put(tmp_path, "best", row.write(tiny_model, ExportOptions((SIZE, SIZE))))
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope = {"pixels": random_images(1, 3, SIZE, SIZE), "size": SIZE}
    exec(code, scope)
    expected = tiny_model(torch.from_numpy(scope["pixels"]))[0][0].numpy()
    rows = np.asarray(scope["rows"])
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows, expected, atol=1.0)  # float16, where a runtime prefers it
