"""Models of YOLOv5 with rare layers, in each format; benchmarks/zoo_formats.py has all."""

from __future__ import annotations

import pytest
from zoo import build, zoo
from zoo_formats import ROWS, WIDTH, difference

ODD = ("yolov5s-transformer", "yolov5s-ghost", "yolov3-tiny", "yolov5s-LeakyReLU")


@pytest.mark.parametrize("name", ODD)
def test_files_of_every_format_agree(name: str) -> None:
    (file,) = (file for file in zoo() if file.stem == name)
    model = build(file, width=WIDTH, depth=0.33)
    for row in ROWS:
        for module in row.needs:
            pytest.importorskip(module)
        boxes, scores = map(float, difference(row, model).split(", "))  # no words, no stars
        assert boxes < 1e-3 and scores < 1e-5


def test_focus_is_not_for_ncnn() -> None:
    """What docs/export.md says."""
    pytest.importorskip("pnnx")
    (file,) = (file for file in zoo() if file.stem == "yolov5s-v5.0")
    (row,) = (row for row in ROWS if row.name == "ncnn")
    assert "operator Tensor.slice (model.0)" in difference(row, build(file, width=WIDTH))
