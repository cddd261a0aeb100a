"""device.json: what is read from it, and what is not taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_tables import BASE, BLOCK, made_table
from torch import nn

from yolo_slim import InputError, channel_graph, prune
from yolo_slim.deploy.export import to_onnx
from yolo_slim.device.layers import Exported
from yolo_slim.device.table import DeviceTable, read_table


@pytest.fixture
def content(tiny_table: Path) -> dict[str, Any]:
    return json.loads(tiny_table.read_text())


def table_of(content: dict[str, Any]) -> DeviceTable:
    return DeviceTable(**{k: v for k, v in content.items() if k != "format"})


def test_times_follow_the_blocks_that_are_begun(content: dict[str, Any]) -> None:
    """Straight lines between what was measured; a begun block costs as much as a whole one."""
    content |= {"block": 8, "odd": {"inputs": 1.5, "outputs": 2.0}}
    row = {"inputs": [8, 16, 32], "outputs": [8, 20], "seconds": [[1, 2], [3, 4], [7, 8]]}
    content["convs"]["odd one"] = row
    times = table_of(content).conv("odd one")
    assert times.shape == (33, 21)
    assert times[8, 8] == 1 and times[16, 20] == 4 and times[24, 8] == 5
    assert times[8, 16] == pytest.approx(1 + 8 / 12)
    assert times[8, 12] == pytest.approx(2 * times[8, 16])  # begun, and no multiple of 8
    assert times[12, 8] == pytest.approx(1.5 * times[16, 8])
    assert times[4, 8] == times[8, 8]  # less than a block: one block
    assert times[8, 20] == 2  # all outputs are no multiple, and were measured so


def test_a_wider_conv_takes_no_less_time(content: dict[str, Any]) -> None:
    row = {"inputs": [8, 16], "outputs": [8, 16], "seconds": [[1, 9], [2, 3]]}
    content["block"] = 8
    content["convs"]["disturbed"] = row
    times = table_of(content).conv("disturbed")
    assert [times[8, 8], times[8, 16], times[16, 8], times[16, 16]] == [1, 6, 2, 6]


def test_single_layers_are_scaled_to_whole_networks(content: dict[str, Any]) -> None:
    """Layers that add up to the network are taken as they are; else by what suits it best."""
    assert table_of(content).step == BLOCK
    np.testing.assert_allclose(table_of(content).scales, [1, 1, 0], atol=1e-9)
    content["networks"]["dense"]["seconds"] *= 1.3
    scales, dense = table_of(content).scales, content["networks"]["dense"]
    table = table_of(content)
    convs = sum(table.conv(key)[i, o] for key, i, o in dense["convs"])
    ops = sum(table.op(key, n)[n] for key, n in dense["ops"])
    assert scales @ [convs, ops, 1] == pytest.approx(dense["seconds"], rel=0.01)
    assert (scales >= 0).all()


def test_of_this_model_or_of_what_was_cut_from_it(
    content: dict[str, Any], tiny_model: nn.Module
) -> None:
    table, cut = table_of(content), prune(tiny_model, macs=0.5, round_to=1, imgsz=64).model
    for model in (tiny_model, cut):
        table.check(Exported(to_onnx(model, imgsz=64), channel_graph(model)), 64)
    narrow = table_of(made_table(cut))
    with pytest.raises(InputError, match=r"^--device: a table of another model \(model.\d"):
        narrow.check(Exported(to_onnx(tiny_model, imgsz=64), channel_graph(tiny_model)), 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "damaged, or not written to its end"),
        ("no json", "damaged, or not written to its end"),
        ('{"format": "yolo-slim device 1", "layers": [', "damaged, or not written to its end"),
        (b"\xff\xfe\x00", "damaged, or not written to its end"),
        ("[1, 2]", "no table of a device"),
        ("null", "no table of a device"),
        ("{}", "no table of a device"),
        ('{"format": "yolo-slim device 7"}', "no table of a device"),
        ('{"format": "yolo-slim device 1"}', "a table with parts missing"),
    ],
)
def test_other_files(text: str | bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "device.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"device.json: {expected}"):
        read_table(file)


def test_half_of_a_table(tiny_table: Path, tmp_path: Path) -> None:
    whole, file = tiny_table.read_text(), tmp_path / "device.json"
    for share in (0.1, 0.5, 0.9, 0.999):
        file.write_text(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match="damaged, or not written to its end, expected a tab"):
            read_table(file)
    with pytest.raises(InputError, match="nope.json: no such file, expected a table"):
        read_table(tmp_path / "nope.json")


def test_base_is_what_a_layer_takes_at_least(content: dict[str, Any]) -> None:
    table = table_of(content)
    assert min(float(table.conv(key)[-1, -1]) for key in table.convs) > BASE
