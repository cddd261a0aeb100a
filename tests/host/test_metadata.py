"""What an exported file says of itself is data: code in it does not run, and is told in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from yolo_slim import InputError
from yolo_slim.cli import run
from yolo_slim.deploy.export import to_onnx, to_torchscript
from yolo_slim.host.classes import common

CODE = "__import__('os').system('touch {}')"
ODD = {  # key and value in the place of ours, and what is told
    "a call": ("names", CODE, "expected plain values, no code"),
    "a call beside names": ("names", "{{0: 'a', 1: " + CODE + "}}", "plain values, no code"),
    "a comprehension": ("names", "[" + CODE + " for _ in (1,)]", "plain values, no code"),
    "no Python": ("names", "{{0: ", "expected plain values, no code"),
    "deep": ("names", "[" * 5000, "expected plain values, no code"),
    "a number": ("names", "4", "names: 4, expected a list of names, or a dict by class index"),
    "other keys": ("names", "{{1: 'a', 2: 'b', 3: 'c', 4: 'd'}}", "expected a list of names, or"),
    "no texts": ("names", "[1, 2, 3, 4]", "expected a list of names, or a dict by class index"),
    "too few": ("names", "['a', 'b']", "names: 2 names, expected one for each of 4 classes"),
    "no stride": ("stride", "32 px", "stride: '32 px', expected a whole number, 1 to 1024"),
    "stride 0": ("stride", "0", "stride: '0', expected a whole number, 1 to 1024"),
}


@pytest.fixture(scope="module")
def exported(_tiny: nn.Module) -> bytes:
    return to_onnx(_tiny, imgsz=64)


def changed(content: bytes, key: str, value: str | None, *, again: bool = False) -> bytes:
    """An ONNX file with another value of a key; None: without it; `again`: beside the old one."""
    model = onnx.load_from_string(content)
    kept = [(e.key, e.value) for e in model.metadata_props if again or e.key != key]
    del model.metadata_props[:]
    for name, text in [*kept, *([(key, value)] if value is not None else [])]:
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text
    return model.SerializeToString()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("command", ["detect", "val"])
def test_odd_metadata(
    command: str, odd: str, exported: bytes, refused: Callable, shapes_yaml: Path, tmp_path: Path
) -> None:
    key, text, expected = ODD[odd]
    marker, file = tmp_path / "marker", tmp_path / "foreign.onnx"
    file.write_bytes(changed(exported, key, text.format(marker)))
    more = ["--data", shapes_yaml] if command == "val" else ["--source", shapes_yaml.parent]
    line = refused(command, "--weights", file, "--imgsz", 64, *more)
    assert f"{file}, {key}: " in line and expected in line
    assert not marker.exists()


def test_names_twice(exported: bytes, refused: Callable, tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "twice.onnx"
    file.write_bytes(changed(exported, "names", CODE.format(marker), again=True))
    cv2.imwrite("a.png", np.zeros((32, 32, 3), np.uint8))
    assert "no code" in refused("detect", "--weights", file, "--imgsz", 64, "--source", "a.png")
    assert not marker.exists()


def test_the_host_itself_evaluates_nothing(exported: bytes, tmp_path: Path) -> None:
    """Whatever opens the file by the host's class: it does not get `eval` at all."""
    marker, file = tmp_path / "marker", tmp_path / "foreign.onnx"
    file.write_bytes(changed(exported, "names", CODE.format(marker)))
    with pytest.raises(InputError, match="expected plain values, no code"):
        common.DetectMultiBackend(str(file), device=torch.device("cpu"))
    assert not marker.exists()


def test_metadata_that_others_write(exported: bytes, empty_folder: Path, tmp_path: Path) -> None:
    """A list of names; more names than classes; none at all."""
    cv2.imwrite("a.png", np.zeros((32, 32, 3), np.uint8))
    for value in ("['a', 'b', 'c', 'd']", str({i: f"name {i}" for i in range(80)})):
        file = tmp_path / "foreign.onnx"
        file.write_bytes(changed(exported, "names", value))
        argv = ["--weights", str(file), "--imgsz", "64", "--source", "a.png"]
        assert run("detect", argv) == 0
    file.write_bytes(changed(exported, "stride", None))
    assert run("detect", argv) == 0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("no json", "config.txt: 'no json', expected shape, stride and names"),
        ("[1]", "config.txt: '[1]', expected shape, stride and names"),
        ('{"stride": 32}', "expected shape, stride and names"),
        ('{"shape": [1, 3, 64]}', "expected shape, stride and names"),
        ('{"shape": [1, 3, 64, 64], "stride": 32}', "names: None, expected a list of names"),
        ('{"shape": [1, 3, 64, 64], "names": ["a"]}', "stride: None, expected a whole number"),
    ],
)
def test_odd_metadata_of_torchscript(
    config: str, expected: str, tiny_model: nn.Module, refused: Callable, tmp_path: Path
) -> None:
    file = tmp_path / "foreign.torchscript"
    file.write_bytes(to_torchscript(tiny_model, imgsz=64))
    script = torch.jit.load(file)
    torch.jit.save(script, file, _extra_files={"config.txt": config})
    cv2.imwrite("a.png", np.zeros((32, 32, 3), np.uint8))
    line = refused("detect", "--weights", file, "--imgsz", 64, "--source", "a.png")
    assert expected in line
