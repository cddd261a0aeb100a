"""Exported files are counted: by hand, and against the models that they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_files import write_onnx
from torch import nn
from zoo import build, zoo

from yolo_slim.deploy.export import exportable, to_onnx
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.errors import InputError
from yolo_slim.measure.cost import cost
from yolo_slim.measure.counted import COUNTERS, Counted, counted_file
from yolo_slim.measure.onnx_cost import onnx_cost
from yolo_slim.runtimes import inner, runtime_of

ZOO = {file.stem: file for file in zoo()}
COUNTED = [row for row in FORMATS.values() if row.suffix in COUNTERS]

pytestmark = pytest.mark.usefixtures("one_thread")


def test_onnx_operators_by_hand(tmp_path: Path) -> None:
    """Batch 2, 8 px: each operator's MACs, and which of the stored tensors are parameters."""
    value = numpy_helper.from_array(np.zeros((6, 5), np.float32))
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "g", "b", "mean", "var"], ["n"]),
        helper.make_node("Conv", ["n", "w2"], ["d"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["d", "w3"], ["t"], strides=[2, 2]),
        helper.make_node("Mul", ["t", "grid"], ["m"]),
        helper.make_node("GlobalAveragePool", ["m"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Constant", [], ["w4"], value=value),
        helper.make_node("MatMul", ["f", "w4"], ["y"]),
        helper.make_node("Add", ["b4", "y"], ["z"]),
        helper.make_node("Gemm", ["z", "w5", "b5"], ["out"], transB=1),
    ]
    weights = {"w1": (4, 3, 3, 3), "b1": (4,), "g": (4,), "b": (4,), "mean": (4,), "var": (4,)}
    weights |= {"w2": (4, 1, 3, 3), "w3": (4, 6, 2, 2), "grid": (1, 6, 8, 8), "b4": (5,)}
    weights |= {"w5": (7, 5), "b5": (7,)}
    file = write_onnx(tmp_path / "a.onnx", nodes, weights, [2, 3, 8, 8], "out")
    found = onnx_cost(file, (2, 3, 8, 8))
    conv, depthwise, transposed = 16 * 9 * 3 * 4, 16 * 9 * 4, 16 * 4 * 6 * 4
    assert found.macs == conv + depthwise + transposed + 6 * 5 + 5 * 7
    params = (27 * 4 + 4) + 2 * 4 + 9 * 4 + 4 * 6 * 4 + (6 * 5 + 5) + (5 * 7 + 7)
    assert (found.params, found.in_8_bits) == (params, False)


def counted_in(row, model: nn.Module, folder: Path, options: ExportOptions) -> Counted | None:
    """A model exported to a format, and counted."""
    file = row.put(folder, "a", row.write(model, options))
    runtime = runtime_of(file)
    assert runtime
    path = inner(file, runtime) if runtime.inside else file
    return counted_file(path, runtime.suffix, (options.batch, 3, *options.imgsz))


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: row.name)
@pytest.mark.parametrize("name", ["yolov5s-transformer", "yolov5n-seg", "yolov3-tiny"])
def test_an_export_costs_what_its_model_does(row, name: str, tmp_path: Path) -> None:
    """MACs are equal; parameters are those of the fused model, but for biases that are zero."""
    model = build(ZOO[name], width=0.125 if name != "yolov3-tiny" else 0.25)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.normal_(module.in_proj_bias)
                nn.init.normal_(module.out_proj.bias)
        fused = exportable(model)
    dynamic = name != "yolov5n-seg" and "dynamic" in row.options
    found = counted_in(row, model, tmp_path, ExportOptions((96, 64), 2, dynamic=dynamic))
    expected = cost(fused, (96, 64))
    assert found == Counted(expected.params, expected.macs)
    assert found.macs == cost(model, (96, 64)).macs


def test_weights_in_float16(tiny_model, tmp_path) -> None:
    """Those of OpenVINO go through a Convert, those of an ONNX file through a Cast, or not."""
    with torch.no_grad():
        expected = cost(exportable(tiny_model), 64)
    whole = Counted(expected.params, expected.macs)
    half = ExportOptions((64, 64), half=True)
    assert counted_in(FORMATS["openvino"], tiny_model, tmp_path, half) == whole
    model = onnx.load_from_string(to_onnx(tiny_model, imgsz=64))
    casts = []
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for cast in casts:
        model.graph.node.insert(0, cast)
    onnx.save(model, tmp_path / "cast.onnx")
    assert len(casts) > 20
    assert onnx_cost(tmp_path / "cast.onnx", (1, 3, 64, 64)) == whole
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    kind = TensorProto.FLOAT16
    file = write_onnx(tmp_path / "h.onnx", nodes, {"w": (4, 3, 1, 1)}, [1, 3, 8, 8], "y", kind)
    assert onnx_cost(file, (1, 3, 8, 8)) == Counted(12, 64 * 3 * 4)


def images_of(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((count, 1, 3, 64, 64), dtype=np.float32))


def test_weights_in_8_bits_of_an_onnx_file(tiny_model, tmp_path) -> None:
    """As many parameters and MACs as the float file: scales and zero points do not count."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    file, quantised = tmp_path / "a.onnx", tmp_path / "a-int8.onnx"
    file.write_bytes(to_onnx(tiny_model, imgsz=64))

    class Images(quantization.CalibrationDataReader):
        left = iter(images_of(2))

        def get_next(self):
            image = next(self.left, None)
            return None if image is None else {"images": image}

    quantization.quantize_static(file, quantised, Images(), per_channel=True)
    found = onnx_cost(quantised, (1, 3, 64, 64))
    expected = onnx_cost(file, (1, 3, 64, 64))
    assert found == Counted(expected.params, expected.macs, in_8_bits=True)


def test_weights_in_8_bits_of_openvino(tiny_model, tmp_path) -> None:
    nncf = pytest.importorskip("nncf")
    from yolo_slim.deploy.openvino import converted
    from yolo_slim.runtimes.openvino import library

    model = converted(to_onnx(tiny_model, imgsz=64))
    library().save_model(nncf.quantize(model, nncf.Dataset(images_of(2))), tmp_path / "a.xml")
    with torch.no_grad():
        expected = cost(exportable(tiny_model), 64)
    found = counted_file(tmp_path / "a.xml", "_openvino_model", (1, 3, 64, 64))
    assert found == Counted(expected.params, expected.macs, in_8_bits=True)


def test_formats_that_do_not_tell() -> None:
    assert counted_file(Path("a.engine"), ".engine", (1, 3, 64, 64)) is None


def test_a_shape_that_cannot_be_told(tmp_path) -> None:
    """The image's values decide how much there is to do."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Cast", ["at"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "rows"], ["y"]),
    ]
    file = write_onnx(tmp_path / "a.onnx", nodes, {"w": (2, 4)}, [1, 3, 8, 8], "y")
    with pytest.raises(InputError, match="the shape of rows cannot be told"):
        onnx_cost(file, (1, 3, 8, 8))
