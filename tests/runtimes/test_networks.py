"""Every exported file in its runtime: the model's own outputs, and what it says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolo_slim import InputError
from yolo_slim.deploy.check import compare
from yolo_slim.deploy.formats import FORMATS, Format
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.measure.latency import random_images
from yolo_slim.runtimes import opened

ROWS = [row for row in FORMATS.values() if not row.exact]
SIDES = (64, 96)


def put(row: Format, model: nn.Module, folder: Path, batch: int = 1) -> Path:
    for module in row.needs:
        pytest.importorskip(module)
    options = ExportOptions(SIDES, batch)
    return row.put(folder, "my.model", row.write(model, row.own(options)))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["tiny_model", "tiny_seg"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_outputs_are_those_of_pytorch(
    row: Format, kind: str, batch: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(kind)
    images = random_images(batch, 3, *SIDES)
    network = opened(put(row, model, tmp_path, batch), 1, exact=True)
    kept, first = images.copy(), network(images)
    before = [out.copy() for out in first]
    network(1 - images)
    assert all(np.array_equal(a, b) for a, b in zip(first, before, strict=True))  # no shared memory
    assert compare(model, network, [images]).holds
    assert (images == kept).all()
    assert network.shape[1:] == (3, *SIDES) and network.shape[0] in (None, batch)
    if network.outputs:
        assert [shape[1:] for shape in network.outputs] == [out.shape[1:] for out in first]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_stride_and_names(row: Format, tiny_model: nn.Module, tmp_path: Path) -> None:
    tiny_model.names = dict(enumerate(["no", "it's", "a: b", "über"]))
    metadata = opened(put(row, tiny_model, tmp_path)).metadata
    assert int(metadata["stride"]) == 32
    assert str(metadata["names"]) == str(tiny_model.names)  # an ONNX file has them as a text


@pytest.mark.parametrize("share", [0.0, 0.97])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_file_that_was_not_copied_whole(
    row: Format, share: float, tiny_model: nn.Module, tmp_path: Path
) -> None:
    path = put(row, tiny_model, tmp_path)
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if file.suffix == ".yaml":
            continue
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError) as error:
            opened(path)
        assert "\n" not in str(error.value)
        file.write_bytes(content)
    assert opened(path).shape


@pytest.mark.parametrize("name", ["openvino", "ncnn"])
def test_half_of_a_folder(name: str, tiny_model: nn.Module, tmp_path: Path) -> None:
    path = put(FORMATS[name], tiny_model, tmp_path)
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        file.unlink()
        if file.suffix == ".yaml":
            assert opened(path).metadata == {}
        else:
            with pytest.raises(InputError):
                opened(path)
        file.write_bytes(content)


def test_an_ncnn_network_without_sizes(tiny_model: nn.Module, tmp_path: Path) -> None:
    """As pnnx itself writes it: the yaml knows."""
    path = put(FORMATS["ncnn"], tiny_model, tmp_path)
    (param,) = path.glob("*.param")
    text = param.read_text()
    param.write_text(text.replace(" 0=96 1=64 2=3\n", "\n"))
    assert param.read_text() != text
    network = opened(path, exact=True)
    assert network.shape == (None, 3, *SIDES)
    assert compare(tiny_model, network, [random_images(1, 3, *SIDES)]).holds
    next(path.glob("*.yaml")).unlink()
    assert opened(path).shape == ()


@torch.no_grad()
def test_code_behind_a_litert_file_does_not_run(tiny_model: nn.Module, tmp_path: Path) -> None:
    from yolo_slim.deploy.litert import with_metadata

    class Code(dict):
        def __repr__(self) -> str:
            return f"__import__('pathlib').Path({str(tmp_path / 'marker')!r}).touch()"

    path = put(FORMATS["litert"], tiny_model, tmp_path)
    content = path.read_bytes()
    path.write_bytes(with_metadata(content[: content.index(b"PK\x03\x04")], Code()))
    with pytest.raises(InputError, match="plain values, no code"):
        opened(path)
    assert not (tmp_path / "marker").exists()
