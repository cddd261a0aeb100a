"""device.json: what is read from it, and what is not taken for one."""

from __future__ import annotations

import json
from copy import deepcopy
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
from yolo_slim.host.head import with_classes


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
    figures = [times[8, 8], times[8, 16], times[16, 8], times[16, 16]]
    assert figures == pytest.approx([1, 3.15, 2, 3.15])  # 9 is near the 3 of a wider one


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


def test_of_a_head_for_other_classes(content: dict[str, Any], tiny_model: nn.Module) -> None:
    three = with_classes(tiny_model, {0: "a", 1: "b", 2: "c"})
    expected = r"--device: a table for other classes \(model.\d+.m.0: .* with the same --data"
    with pytest.raises(InputError, match=expected):
        table_of(content).check(Exported(to_onnx(three, imgsz=64), channel_graph(three)), 64)


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
        ('{"format": "yolo-slim device 1"}', "a table with parts missing, or figures"),
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


PARTS = [
    "layers", "imgsz", "runtime", "version", "threads", "processor", "block", "odd", "probes",
    "convs", "ops", "networks",
]  # fmt: skip


def damages(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is wrong with a table to a table with that."""
    made: dict[str, dict[str, Any]] = {}

    def damage(name: str, *keys: Any, value: Any = None) -> None:
        made[name] = copy = deepcopy(content)
        for key in keys[:-1]:
            copy = copy[key]
        if value is None:
            del copy[keys[-1]]
        else:
            copy[keys[-1]] = value

    for part in PARTS:
        damage(f"no {part}", part)
        damage(f"{part} is a text", part, value=" ") if part not in (
            "runtime", "version", "processor",
        ) else None  # fmt: skip
    conv, op = list(content["convs"])[1], next(iter(content["ops"]))
    damage("no seconds of a conv", "convs", conv, "seconds")
    damage("NaN", "convs", conv, "seconds", 0, 0, value=float("nan"))
    damage("a row is short", "convs", conv, "seconds", 0, value=[1.0])
    damage("seconds below zero", "convs", conv, "seconds", 0, value=[-1.0, -1.0])
    damage("NaN of an op", "ops", op, "seconds", value=[float("nan")] * 2)
    damage("no seconds of an op", "ops", op, "seconds")
    damage("no networks at all", "networks", value={})
    damage("NaN of a network", "networks", "dense", "seconds", value=float("nan"))
    damage("a network of unknown convs", "networks", "dense", "convs", value=[["x", 1, 1]])
    damage("no odd outputs", "odd", "outputs")
    damage("block 0", "block", value=0)
    damage("block infinite", "block", value=float("inf"))
    return made


def test_tables_with_something_wrong_in_them(content: dict[str, Any], tmp_path: Path) -> None:
    """One line each; nothing is found out in the middle of a cut."""
    file, taken = tmp_path / "device.json", []
    for name, damaged in damages(content).items():
        file.write_text(json.dumps(damaged))
        try:
            read_table(file)
        except InputError as error:
            assert str(error).startswith(f"{file}: "), name
        except Exception as error:
            taken.append(f"{name}: {type(error).__name__}: {error}")
        else:
            taken.append(f"{name}: was taken")
    assert not taken, "\n".join(taken)


def test_base_is_what_a_layer_takes_at_least(content: dict[str, Any]) -> None:
    table = table_of(content)
    assert min(float(table.conv(key)[-1, -1]) for key in table.convs) > BASE
