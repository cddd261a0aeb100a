"""Disks that fill while a model is exported: one line, nothing by halves, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from yolo_slim import InputError
from yolo_slim.cli import run
from yolo_slim.deploy import ncnn as of_ncnn
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.files import write_aside

FULL = "the temporary folder is full"
NAMES = ("onnx", "torchscript", "stock")


def argv_of(options: dict[str, list], *more: object) -> list[str]:
    return [str(arg) for arg in (*options["export"], "--include", *NAMES, *more)]


def content_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def told(empty_folder: Path, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """Run a command that must fail after its bars; returns its one line."""

    def check(command: str, *argv: object) -> str:
        capfd.readouterr()
        assert run(command, [str(arg) for arg in argv]) == 2
        assert list(empty_folder.rglob("*")) == []
        text = capfd.readouterr().err
        assert (text.count("\n"), "Traceback" in text) == (1, False), text
        return text.rpartition("\r")[2].strip()

    return check


def stop_at(name: str, error: BaseException, patch: pytest.MonkeyPatch) -> None:
    """Writing a file of this name into a run's folder raises."""

    def write(path: Path, data: bytes) -> Path:
        if Path(path).name == name and "runs" in Path(path).parts:
            raise error
        return write_aside(path, data)

    for module in ("deploy.formats", "commands.export"):
        patch.setattr(f"yolo_slim.{module}.write_aside", write)


@pytest.mark.parametrize("name", ["pruned-stock.pt", "report.json"])
def test_an_export_that_is_interrupted_leaves_no_part_of_it(
    name: str,
    options: dict[str, list],
    empty_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the last of three files, or at the report behind them."""
    with monkeypatch.context() as patch:
        stop_at(name, KeyboardInterrupt(), patch)
        assert run("export", argv_of(options)) == 130
    assert list(empty_folder.rglob("*")) == []


def test_an_export_over_another_is_all_new_or_all_old(
    options: dict[str, list], empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = empty_folder / "runs" / "export" / "exp"
    assert run("export", argv_of(options)) == 0
    old = content_of(folder)
    report = json.loads(old["report.json"])
    assert {name: Path(file).name for name, file in report["files"].items()} == {
        name: FORMATS[name].file(folder, "pruned").name for name in NAMES
    }
    assert set(report["bytes"].values()) == {
        len(data) for name, data in old.items() if name != "report.json"
    }
    with monkeypatch.context() as patch:
        stop_at("report.json", KeyboardInterrupt(), patch)
        assert run("export", argv_of(options, "--exist-ok", "--opset", 13)) == 130
    assert content_of(folder) == old
    assert run("export", argv_of(options, "--exist-ok", "--opset", 13)) == 0
    assert content_of(folder).keys() == old.keys()
    assert content_of(folder)["pruned.onnx"] != old["pruned.onnx"]


def test_the_line_names_the_file_and_not_the_hidden_one(
    options: dict[str, list],
    told: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder in which the part of an OpenVINO model does not fit."""
    pytest.importorskip("openvino")

    def write(path: Path, data: bytes) -> Path:
        if "runs" in Path(path).parts:
            raise InputError(path, "cannot be written (No space left on device)", "a place")
        return write_aside(path, data)

    monkeypatch.setattr("yolo_slim.files.write_aside", write)
    line = told("export", *options["export"], "--include", "openvino")
    assert line.startswith("error: runs/export/exp/pruned_openvino_model/pruned.xml: cannot be")


@pytest.mark.parametrize("command", ["export", "bench"])
def test_openvino_without_room_to_write(
    command: str,
    options: dict[str, list],
    tiny_checkpoint: Path,
    told: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What OpenVINO raises when the disk of TMPDIR is full."""
    openvino = pytest.importorskip("openvino")

    def save(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", save)
    argv = {
        "export": [*options["export"], "--include", "openvino"],
        "bench": [tiny_checkpoint, "--imgsz", 64, "--runtime", "openvino"],
    }
    line = told(command, *argv[command])
    assert FULL in line
    assert line.endswith("expected room there, or another folder by TMPDIR")


@pytest.mark.parametrize("command", ["export", "bench"])
def test_files_that_are_tried_and_do_not_fit(
    command: str,
    options: dict[str, list],
    tiny_checkpoint: Path,
    told: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The line names the temporary folder, and not the file in it that nobody asked for."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    argv = {"export": options["export"], "bench": [tiny_checkpoint, "--imgsz", 64]}
    name = f"{argv[command][1 if command == 'export' else 0].stem}.onnx"
    assert told(command, *argv[command]) == (
        f"error: {tmp_path}: {name} cannot be written (No space left on device), expected room "
        "there, or another folder by TMPDIR"
    )


@pytest.fixture
def as_pnnx(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """as_pnnx(change): after pnnx has run, a function changes its folder; its code and words."""
    pytest.importorskip("pnnx")
    pytest.importorskip("ncnn")
    original = subprocess.run

    def ends(change: Callable[[Path], None], code: int = 0, words: str = "") -> None:
        def then(*args: Any, **kwargs: Any) -> Any:
            original(*args, **kwargs)
            change(Path(kwargs["cwd"]))
            return SimpleNamespace(returncode=code, stdout="", stderr=words)

        monkeypatch.setattr(of_ncnn.subprocess, "run", then)

    return ends


def emptied(folder: Path) -> None:
    """What a full disk leaves of the three files, at code 0."""
    (folder / "net.ncnn.param").write_bytes(b"")
    (folder / "net_ncnn.py").write_bytes(b"")


def cut_off(folder: Path) -> None:
    weights = folder / "net.ncnn.bin"
    weights.write_bytes(weights.read_bytes()[:-4])


def unchanged(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "code", "words", "free"),
    [
        (emptied, 0, "", 0),
        (cut_off, 0, "", 2**40),
        (unchanged, 255, "write pnnxsim onnx failed", 2**40),
        (unchanged, 0, "write onnx failed", 2**40),
        (unchanged, -9, "", 0),
    ],
)
def test_pnnx_on_a_full_disk(
    change: Callable,
    code: int,
    words: str,
    free: int,
    as_pnnx: Callable,
    tiny_model: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = to_onnx(tiny_model, imgsz=64)
    as_pnnx(change, code, words)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    with pytest.raises(InputError, match=FULL):
        of_ncnn.converted(content)


def test_pnnx_that_fails_where_there_is_room(as_pnnx: Callable, tiny_model: nn.Module) -> None:
    content = to_onnx(tiny_model, imgsz=64)
    as_pnnx(unchanged, -11, "on its way")
    expected = "--include ncnn: pnnx ended with code -11: on its way, expected a network that pnnx"
    with pytest.raises(InputError, match=expected):
        of_ncnn.converted(content)
