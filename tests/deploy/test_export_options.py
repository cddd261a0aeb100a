"""Options of YOLOv5's export: sides, float16, suppression in the file, batches, open sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from yolo_slim import load
from yolo_slim.cli import run
from yolo_slim.deploy.check import HALF, compare
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.nms import compare_nms, with_nms
from yolo_slim.deploy.options import ExportOptions, Nms
from yolo_slim.host.image import read_images
from yolo_slim.runtimes import opened

LOOSE = Nms(conf_thres=0.001, iou_thres=0.6)


@pytest.fixture(scope="module")
def real(shared: Path) -> nn.Module:
    """COCO's yolov5n."""
    return load(shared / "weights" / "yolov5n.pt").model


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Path]:
    return sorted((shared / "coco128" / "images").rglob("*.jpg"))[:6]


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[bytes], Any]:
    """A function that opens the content of an ONNX file."""

    def open_content(content: bytes) -> Any:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        file.write_bytes(content)
        return opened(file, 1, exact=True)

    return open_content


@pytest.mark.parametrize(
    ("options", "settings", "batch"),
    [
        ({}, Nms(), 1),
        ({"opset": 11}, LOOSE, 1),
        ({"opset": 18, "batch": 3}, Nms(agnostic=True, conf_thres=0.05), 3),
        ({"opset": 13, "dynamic": True}, Nms(max_det=7, conf_thres=0.02), 2),
    ],
)
def test_suppression_is_that_of_yolov5(
    real: nn.Module, photos: list, runs: Any, options: dict, settings: Nms, batch: int
) -> None:
    content = to_onnx(real, imgsz=(256, 320), **options)
    batches = [read_images(photos[i : i + batch], 256, 320) for i in range(0, 6, batch)]
    suppressed = runs(with_nms(content, real, settings))
    assert compare_nms(runs(content), suppressed, batches, settings) == ""
    count, boxes, scores, classes = suppressed(batches[0])
    assert count.shape == (batch,) and boxes.shape == (batch, settings.max_det, 4)
    found = int(count[0])
    assert 0 < found <= settings.max_det
    assert (np.diff(scores[0, :found]) <= 0).all()
    assert (classes[0, found:] == -1).all() and not boxes[0, found:].any()
    other = Nms(conf_thres=0.4, iou_thres=0.45, max_det=settings.max_det)
    assert compare_nms(runs(content), suppressed, batches, other) != ""


def test_suppression_of_an_image_without_objects(real: nn.Module, runs: Any) -> None:
    content = with_nms(to_onnx(real, imgsz=64, batch=2), real, Nms())
    count, boxes, scores, classes = runs(content)(np.zeros((2, 3, 64, 64), np.float32))
    assert count.tolist() == [0, 0]
    assert boxes.shape == (2, 300, 4) and not boxes.any() and not scores.any()
    assert (classes == -1).all()


def test_suppression_of_a_segmentation_model(tiny_seg: nn.Module, runs: Any) -> None:
    settings = Nms(conf_thres=0.0, max_det=20)
    content = to_onnx(tiny_seg, imgsz=64)
    image, raw = torch.rand(1, 3, 64, 64).numpy(), runs(content)
    suppressed = runs(with_nms(content, tiny_seg, settings))
    masks = tiny_seg.model[-1].nm
    assert compare_nms(raw, suppressed, [image], settings, masks) == ""
    *_, coefficients, prototypes = suppressed(image)
    assert coefficients.shape == (1, 20, masks)
    np.testing.assert_array_equal(prototypes, raw(image)[1])


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_half(real: nn.Module, photos: list, tmp_path: Path, name: str) -> None:
    row, batches = FORMATS[name], [read_images([photo], 320) for photo in photos]
    sizes, agreements = {}, {}
    for half in (False, True):
        content = row.write(real, ExportOptions((320, 320), half=half))
        file = row.put(tmp_path / str(half), "best", content)
        weights = content if isinstance(content, bytes) else content[".bin"]
        sizes[half] = len(weights)
        agreements[half] = compare(real, row.open(file, 1, exact=True), batches, HALF)
    assert sizes[True] < 0.55 * sizes[False]
    assert agreements[True].holds
    assert agreements[True].scores > 10 * agreements[False].scores > 0  # it is another arithmetic


def test_half_where_nothing_is_seen(tiny_seg: nn.Module, runs: Any) -> None:
    """It does not say that boxes agree when none had the score to be compared."""
    batches, limits = [np.zeros((1, 3, 64, 64), np.float32)], replace(HALF, least=1.0)
    text = str(compare(tiny_seg, runs(to_onnx(tiny_seg, imgsz=64, half=True)), batches, limits))
    assert text.startswith("no boxes of score 1 and more, scores within ")


def test_half_keeps_images_and_boxes_in_float32(tiny_seg: nn.Module) -> None:
    graph = onnx.load_from_string(to_onnx(tiny_seg, imgsz=64, half=True)).graph
    kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT}
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) > 1000]
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.FLOAT16}


def test_each_option_in_one_command(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = ["--weights", str(tiny_checkpoint), "--include", *FORMATS, "--imgsz", "64", "96"]
    argv += ["--dynamic", "--half", "--nms", "--conf-thres", "0.001", "--images", "2"]
    argv += ["--project", str(tmp_path), "--repeats", "2", "--batch-size", "2"]
    assert run("export", argv) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "at 64 x 96 px (height x width), batches of 2, dynamic, half, nms" in out
    assert "--half is not for torchscript, ncnn, litert: written without it" in out
    assert "--batch-size is not for ncnn: written without it" in out
    report = json.loads((tmp_path / "exp" / "report.json").read_text())
    assert set(report["agreement"]) == set(report["files"]) == set(FORMATS)
    for name, times in report["latency"].items():
        assert times["exported"]["median"] > 0, name
    for name, row in FORMATS.items():
        file = row.file(tmp_path / "exp", tiny_checkpoint.stem)
        assert file.exists()
        if row.timed:
            shape = opened(file).shape
            assert shape[2:] in ((64, 96), (None, None)), name


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("--imgsz 64 96 128", "--imgsz: 64 96 128, expected one number, or height and width"),
        ("--imgsz 64 97", "--imgsz: 97, expected a multiple of the stride, 32"),
        ("--nms --include openvino", "--nms: given for openvino, expected one of onnx"),
        ("--half --include stock", "--half: given for stock, expected one of onnx, openvino"),
        ("--max-det 3", "--max-det: given without --nms, expected --nms too"),
        ("--agnostic-nms", "--agnostic-nms: given without --nms, expected --nms too"),
        ("--nms --conf-thres 2", "--conf-thres: 2.0, expected a share in [0, 1] (did you"),
        ("--nms --max-det 30001", "--max-det: 30001, expected 30000 or less"),
        ("--nms --max-det 0", "--max-det: 0, expected 1 or more"),
        ("--nms --opset 10", "--opset: 10 with --nms, expected 11 or more"),
    ],
)
def test_what_does_not_go_together(
    argv: str, text: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--weights", str(tiny_checkpoint), "--project", str(tmp_path / "runs")]
    assert run("export", [*options, *argv.split()]) == 2
    assert f"error: {text}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_runtime_that_is_not_installed(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = "yolo_slim.packages.importlib.util.find_spec"
    monkeypatch.setattr(finder, lambda name: None if name == "openvino" else True)
    argv = ["--weights", str(tiny_checkpoint), "--include", "openvino"]
    assert run("export", argv) == 2
    expected = 'openvino is not installed, expected pip install "yolo-slim[openvino]"'
    assert expected in capsys.readouterr().err


def test_a_folder_replaces_the_one_before(tiny_model: nn.Module, tmp_path: Path) -> None:
    row = FORMATS["openvino"]
    content = row.write(tiny_model, ExportOptions((64, 64)))
    folder = row.put(tmp_path, "best", content)
    (folder / "old").touch()
    assert row.put(tmp_path, "best", content) == folder
    assert sorted(f.name for f in folder.iterdir()) == ["best.bin", "best.xml", "best.yaml"]
    assert [f.name for f in tmp_path.iterdir()] == [folder.name]
    shutil.rmtree(folder)
