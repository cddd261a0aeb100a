"""Exported files on which YOLOv5's loader would end in a traceback: one line before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from yolo_slim.cli import run
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.nms import with_nms
from yolo_slim.deploy.options import ExportOptions, Nms
from yolo_slim.errors import InputError
from yolo_slim.host.exported import read_exported


def network(
    file: Path,
    shape: list = [1, 3, 64, 64],  # noqa: B006
    kind: int = TensorProto.FLOAT,
    second: bool = False,
    rows: int = 1,
    cells: int = 4,
    width: int = 9,
    number: float = 0.0,
    named: bool = True,
    **metadata: str,
) -> Path:
    """An ONNX file that takes what it is told to, and returns rows of 9 numbers."""
    inputs = [helper.make_tensor_value_info("images", kind, shape)]
    if second:
        inputs.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
    value = numpy_helper.from_array(np.full((rows, cells, width), number, np.float32), "value")
    node = helper.make_node("Identity", ["value"], ["output0"])
    out = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [rows, cells, width])
    graph = helper.make_graph([node], "odd", inputs, [out], [value])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    about = {"stride": "32", "names": "['a', 'b', 'c', 'd']"} if named else {}
    helper.set_model_props(model, {**about, **metadata})
    onnx.save(model, file)
    return file


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"kind": TensorProto.FLOAT16}, "it takes no float32"),
        ({"kind": TensorProto.UINT8}, "it takes no float32"),
        ({"second": True}, "2 inputs"),
        ({"shape": [1, 1, 64, 64]}, "it takes 1 x 1 x 64 x 64"),
        ({"shape": [1, 64, 64, 3]}, "it takes 1 x 64 x 64 x 3"),
        ({"shape": [1, 3]}, "it takes 1 x 3"),
        ({"shape": [1, 3, "h", 64]}, "both sides fixed, or both open"),
        ({"shape": [1, 3, 65, 64]}, "it takes 1 x 3 x 65 x 64, and its stride is 32"),
        ({"shape": [1, 3, 160000, 160000]}, "sides of 16384 px at most"),
        ({"stride": "99999"}, "stride"),
        ({"stride": "9" * 5000}, "stride"),
        ({"rows": 2}, "it returns 2 x 4 x 9"),
        ({"number": np.nan}, "it returns NaN or infinity"),
        ({"cells": 80, "width": 84, "named": False}, "it returns 1 x 80 x 84"),  # YOLOv8's
    ],
)
def test_a_network_that_takes_or_returns_something_else(
    options: dict, got: str, tmp_path: Path
) -> None:
    assert read_exported(network(tmp_path / "good.onnx")).imgsz == (64, 64)
    with pytest.raises(InputError, match=got):
        read_exported(network(tmp_path / "odd.onnx", **options))


@pytest.mark.parametrize("name", ["best.ptq.onnx", "a.pb.onnx", "a.engine.onnx", "q'uote.onnx"])
def test_a_name_that_yolov5_takes_for_another_format(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected another name"):
        read_exported(network(tmp_path / name))


def test_suppression_in_the_file(tiny_model: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "nms.onnx"
    file.write_bytes(with_nms(to_onnx(tiny_model, imgsz=64), tiny_model, Nms()))
    with pytest.raises(InputError, match="suppression is in it, expected an export without --nms"):
        read_exported(file)


@pytest.fixture
def folders(tiny_model: nn.Module, tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a folder of a format."""
    return lambda name: FORMATS[name].put(
        tmp_path, "best", FORMATS[name].write(tiny_model, ExportOptions((64, 64)))
    )


def test_odd_folders(folders: Callable[[str], Path]) -> None:
    ncnn, openvino = folders("ncnn"), folders("openvino")
    assert read_exported(ncnn).classes == read_exported(f"{openvino}/").classes == 4
    param = (ncnn / "best.param").read_text()
    for old, new, got in (
        (" 0=64 1=64 2=3", " 0=999999 1=999999 2=3", "it takes 3 x 999999 x 999999"),
        (" 0=64 1=64 2=3", " 0=64 1=64 2=1", "it takes 1 x 64 x 64"),
    ):
        assert old in param
        (ncnn / "best.param").write_text(param.replace(old, new))
        with pytest.raises(InputError, match=got):
            read_exported(ncnn)
    (openvino / "best.yaml").write_bytes("names: [Ä, b, c, d]\nstride: 32\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_exported(openvino)
    (openvino / "best.xml").write_text("<html></html>")
    with pytest.raises(InputError, match="no network of OpenVINO"):
        read_exported(openvino)
    (openvino / "best.xml").unlink()
    (openvino / "best.xml").mkdir()
    with pytest.raises(InputError, match="no network of OpenVINO"):
        read_exported(openvino)
    shutil.rmtree(openvino)


def test_as_many_columns_as_cells(tmp_path: Path) -> None:
    """A model of 79 classes, at 64 px: it has 252 rows, three for each of 84 cells."""
    file = network(tmp_path / "79.onnx", cells=252, width=84, named=False)
    assert read_exported(file).classes == 79


def test_a_tflite_file_that_was_cut_off(tiny_model: nn.Module, tmp_path: Path) -> None:
    """Its network is whole; the archive behind it, with stride and names, is not."""
    content = FORMATS["litert"].write(tiny_model, ExportOptions((64, 64)))
    file = FORMATS["litert"].put(tmp_path, "best", content)
    assert read_exported(file).named
    file.write_bytes(content[:-40])
    with pytest.raises(InputError, match="its end, with stride and names, is cut off"):
        read_exported(file)


def test_detect_with_a_file_without_names(
    tiny_model: nn.Module, shapes_yaml: Path, monkeypatch, tmp_path: Path, caplog
) -> None:
    """YOLOv5 would take those of COCO: person, bicycle, car."""
    monkeypatch.chdir(tmp_path)
    model = onnx.load_from_string(to_onnx(tiny_model, imgsz=64))
    del model.metadata_props[:]
    onnx.save(model, "plain.onnx")
    image = next(shapes_yaml.parent.rglob("images/val/*"))
    argv = ["--weights", "plain.onnx", "--source", str(image), "--conf-thres", "0.0001"]
    assert run("detect", argv) == 0
    assert "class" in caplog.text and "person" not in caplog.text
    caplog.clear()
    assert run("detect", [*argv, "--data", str(shapes_yaml)]) == 0
    assert "class" not in caplog.text and "person" not in caplog.text


@pytest.mark.parametrize("name", ["ncnn", "openvino"])
def test_weights_of_another_model(name: str, folders: Callable[[str], Path]) -> None:
    """As many bytes, which the runtimes take without a word."""
    (weights,) = folders(name).glob("*.bin")
    assert read_exported(weights.parent).classes == 4
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="the weights of another model, expected those of best"):
        read_exported(weights.parent)


def test_a_slash_at_the_end(
    folders: Callable[[str], Path], shapes_yaml: Path, monkeypatch, tmp_path: Path
) -> None:
    """As shells write a folder that they complete."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", f"{folders('ncnn')}/", "--data", str(shapes_yaml), "--workers", "0"]
    assert run("val", [*argv, "--project", "runs"]) == 0
