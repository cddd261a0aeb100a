"""Files for OpenVINO in 8 bits, by NNCF."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from yolo_slim.deploy.export import metadata, to_onnx
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.int8.nncf import NncfMaker, nncf_maker
from yolo_slim.deploy.options import ExportOptions

pytest.importorskip("nncf")


def maker(model: nn.Module) -> NncfMaker:
    images = [np.random.default_rng(i).random((1, 3, 64, 64), np.float32) for i in range(4)]
    options = ExportOptions(imgsz=(64, 64))
    return nncf_maker(to_onnx(model, imgsz=64), images, metadata(model), options)


def quantised(files: dict[str, bytes]) -> set[str]:
    """Names of the convs whose weights are in 8 bits."""
    return set(
        re.findall(r'name="([^"]*?)(?:/WithoutBiases)?/fq_weights_1"', files[".xml"].decode())
    )


def test_layers_are_those_of_onnx(
    tiny_model: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """All in 8 bits but the last convs and the decoding; those that are named stay float."""
    made = maker(tiny_model)
    small = made.make("mixed")
    convs = {nodes[0] for nodes in made.scope.layers.values()}
    assert quantised(small) == convs
    name = "model.2.cv3.conv"
    assert quantised(made.make("mixed", [name])) == convs - {made.scope.layers[name][0]}
    assert not re.search("INFO|nncf|━", "".join(capfd.readouterr()))
    run = FORMATS["openvino"].open(
        FORMATS["openvino"].put(tmp_path, "best-int8", small), 1, exact=True
    )
    assert (tmp_path / "best-int8_openvino_model" / "best-int8.xml").is_file()
    assert run(made.images[0])[0].shape == (1, 252, 9) and run.metadata["stride"] == 32


def test_zero_weights_stay_zero(tiny_model: nn.Module, tmp_path: Path) -> None:
    import openvino

    tiny_model.model[1].conv.weight.data[:, ::2] = 0
    small = maker(tiny_model).make("mixed")
    folder = FORMATS["openvino"].put(tmp_path, "zeros", small)
    operators = openvino.Core().read_model(folder / "zeros.xml").get_ops()
    weights = [op.data for op in operators if op.get_type_name() == "Constant"]
    shape = tuple(tiny_model.model[1].conv.weight.shape)
    (weight,) = (w for w in weights if w.dtype == np.int8 and w.shape == shape)
    assert (weight[:, ::2] == 0).all() and (weight[:, 1::2] != 0).any()
