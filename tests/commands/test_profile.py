"""`profile`: a table of this machine, a workload for another one, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from device_tables import small_workload

from yolo_slim.cli import run
from yolo_slim.device import profile_device
from yolo_slim.device.table import read_table


@pytest.fixture
def small(tiny_workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """`profile` times two layers only; the working directory is a new one."""
    from yolo_slim.pruning import profile

    content = small_workload(tiny_workload, tmp_path / "small.zip").read_bytes()
    monkeypatch.setattr(profile, "workload_of", lambda model, imgsz, runtimes: content)
    monkeypatch.chdir(tmp_path)
    return content


def test_a_table_of_this_machine(
    small: bytes, tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Into a folder that was not there; the next command is printed."""
    file = Path("tables") / "here.json"
    argv = [str(tiny_checkpoint), "--imgsz", "64", "--threads", "1", "-o", str(file)]
    assert run("profile", argv) == 0
    shown = capfd.readouterr()
    assert f"--latency 0.6 --device {file}" in shown.out.splitlines()[-1]
    assert "100%" in shown.err
    table = read_table(file)
    assert (table.imgsz, table.threads, table.runtime) == (64, 1, "onnxruntime")
    assert table.processor == profile_device.processor()
    assert [p.name for p in file.parent.iterdir()] == ["here.json"]


def test_ctrl_c_says_how_it_goes_on(
    small: bytes, tiny_checkpoint: Path, tmp_path: Path, monkeypatch, capfd: pytest.CaptureFixture
) -> None:
    """And it does: what was measured is not measured again."""
    measured: list[int] = []
    original = profile_device.OnnxRuntime.convs

    def convs(self: Any, jobs: Any) -> list[float]:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(len(jobs))
        return original(self, jobs)

    monkeypatch.setattr(profile_device.OnnxRuntime, "convs", convs)
    argv = [str(tiny_checkpoint), "--imgsz", "64", "--threads", "1"]
    assert run("profile", argv) == 130
    assert capfd.readouterr().err.endswith("\ninterrupted: the same command goes on from here\n")
    assert not Path("device.json").exists()
    lines = Path("device.json.part").read_text().splitlines()
    assert len([line for line in lines[1:] if line]) == sum(measured)
    known = [json.loads(line)[0] for line in lines[1:] if line]
    asked: list[str] = []

    def again(self: Any, jobs: Any) -> list[float]:
        asked.append(f"{jobs[0][1]} {jobs[0][2]}")
        return original(self, jobs)

    monkeypatch.setattr(profile_device.OnnxRuntime, "convs", again)
    assert run("profile", argv) == 0
    first = " ".join(known[0].split()[-3:-1])
    assert asked and asked[0] != first
    assert not Path("device.json.part").exists()
    read_table("device.json")


def test_a_workload_for_another_device(tiny_workload: Path, capfd: pytest.CaptureFixture) -> None:
    """The zip, and beside it the very script."""
    script = tiny_workload.with_name("profile_device.py")
    assert script.read_bytes() == Path(profile_device.__file__).read_bytes()
    plan = json.loads(zipfile.ZipFile(tiny_workload).read("workload.json"))
    assert plan["format"] == profile_device.FORMAT and plan["runtimes"][0] == "onnxruntime"


def test_the_command_for_the_other_device_is_printed(
    small: bytes, tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    argv = [str(tiny_checkpoint), "--imgsz", "64", "--prepare", "for/box.zip"]
    assert run("profile", argv) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert last == "python profile_device.py box.zip --runtime onnxruntime -o device.json"
    assert sorted(p.name for p in Path("for").iterdir()) == ["box.zip", "profile_device.py"]
    assert Path("for/box.zip").read_bytes() == small


BAD = [
    (["--imgsz", 33], "--imgsz: 33, expected a multiple of the stride, 32"),
    (["--threads", 0], "--threads: 0, expected 1 or more"),
    (["--threads", 5000], "--threads: 5000, expected 1024 or less"),
    (["-o", "."], "--output: ., a folder, expected a file"),
    (["--prepare", "."], "--prepare: ., a folder, expected a file"),
    (["--runtime", "tensorrt"], "argument --runtime: invalid choice: 'tensorrt'"),
    (["--data", "nope.yaml"], "nope.yaml"),
    (["-o", "/proc/no/device.json"], "/proc/no: cannot be written"),
]


@pytest.mark.parametrize(("argv", "expected"), BAD, ids=[str(a) for a, _ in BAD])
def test_profile_refuses(
    argv: list, expected: str, refused: Callable[..., str], tiny_checkpoint: Path
) -> None:
    assert expected in refused("profile", tiny_checkpoint, *argv)


def test_files_that_are_no_checkpoints(refused: Callable[..., str], tiny_table: Path) -> None:
    assert "no such file, expected a YOLOv5 checkpoint" in refused("profile", "nope.pt")
    assert "expected a YOLOv5 checkpoint" in refused("profile", tiny_table)


def test_a_place_where_nothing_can_be_written(
    small: bytes, tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """A folder in the way of what is kept while it measures: a line, and no table."""
    (tmp_path / "device.json.part").mkdir()
    assert run("profile", [str(tiny_checkpoint), "--imgsz", "64"]) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: device.json: cannot be written (Is a directory), expected a")
    assert not (tmp_path / "device.json").exists()
    shutil.rmtree(tmp_path / "device.json.part")
