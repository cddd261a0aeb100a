"""The script that stands alone: what it computes, where it measures, and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from device_tables import small_workload
from torch import nn

from yolo_slim.device import profile_device
from yolo_slim.device.profile_device import (
    RUNTIMES,
    conv_ncnn,
    convs_onnx,
    find_block,
    probed,
    widths,
)

# Starts a script where nothing but numpy and a runtime can be imported.
ALONE = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name + " is not installed")

sys.meta_path.insert(0, Refuse())
sys.path.append({site!r})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PROJECT = {"torch", "torchvision", "yolov5", "yolo_slim", "onnx", "scipy", "tqdm", "cv2"}


def hears_ctrl_c() -> None:
    """A process that a shell started in the background does not, nor do those that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def alone(tiny_workload: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run the script in a folder that has it and a small workload, and nothing of yolo-slim."""
    shutil.copy(tiny_workload.with_name("profile_device.py"), tmp_path)
    small_workload(tiny_workload, tmp_path / "workload.zip")

    def start(*argv: str, refused: set[str] = PROJECT, site: str = "", wait: bool = True) -> Any:
        code = ALONE.format(refused=refused, site=site)
        command = [sys.executable, "-I", "-c", code, "profile_device.py", *argv]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=pipe,
            stderr=pipe,
            text=True,
            preexec_fn=hears_ctrl_c,
        )
        if not wait:
            return process
        out, err = process.communicate(timeout=120)
        return process.returncode, out + err

    return start


def conv_of(kernel: int, **other: Any) -> dict[str, Any]:
    pads = [kernel // 2] * 4
    row = {"kernel": [kernel, kernel], "strides": [1, 1], "pads": pads, "dilations": [1, 1]}
    return {**row, "groups": 1, "activation": "SiLU", "map": [9, 12], **other}


ACTIVATIONS = {
    "SiLU": nn.functional.silu,
    "Relu": nn.functional.relu,
    "HardSwish": nn.functional.hardswish,
    "": lambda x: x,
}


def test_onnx_by_hand_computes_convs() -> None:
    """Valid for onnx.checker, and what torch computes with the same constants as weights."""
    jobs = [
        (conv_of(1), 3, 5),
        (conv_of(3, strides=[2, 2], activation=""), 3, 4),
        (conv_of(6, strides=[2, 2], pads=[2] * 4, activation="Relu"), 3, 8),
        (conv_of(3, groups=4, activation="HardSwish"), 4, 4),
        (conv_of(3, dilations=[2, 2], pads=[2] * 4), 200, 130),
    ]
    content = convs_onnx(jobs)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feed = {i.name: random.random(i.shape, dtype=np.float32) for i in session.get_inputs()}
    for (conv, wide, out), result in zip(jobs, session.run(None, feed), strict=True):
        x = torch.from_numpy(feed["x{}.{}x{}".format(wide, *conv["map"])])
        weight = torch.full((out, wide // conv["groups"], *conv["kernel"]), 0.01)
        how = dict(stride=conv["strides"], dilation=conv["dilations"], groups=conv["groups"])
        y = nn.functional.conv2d(x, weight, torch.full((out,), 0.1), padding=conv["pads"][0], **how)
        np.testing.assert_allclose(result, ACTIVATIONS[conv["activation"]](y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("block", [1, 4, 8, 16, 32])
def test_the_block_is_seen(block: int, noise: float) -> None:
    """From times that go up with each begun block, with noise."""
    random, probes = np.random.default_rng(block), []
    for counts in (probed(64), probed(128)):
        seconds = [1e-3 * -(-n // block) * block * (1 + noise * random.normal()) for n in counts]
        probes.append((counts, seconds))
    flat = [(counts, [1e-3 * n for n in counts]) for counts, _ in probes]
    assert find_block({"inputs": probes, "outputs": probes}) == block
    assert find_block({"inputs": flat, "outputs": probes}) == block


def test_odd_counts_on_a_slow_path_show_the_block_too() -> None:
    """ONNX Runtime: what is no multiple of 16 leaves the fast layout, whatever its size."""
    counts = range(32, 97)
    probe = (counts, [n * (1.0 if n % 16 == 0 else 1.7) for n in counts])
    assert find_block({"inputs": [probe]}) == 16


def test_the_layout_of_ncnn_shows_the_block() -> None:
    """It pays for no begun block, but outputs that are a multiple of 16 take a tenth less."""
    counts = probed(128)
    packed = (counts, [n * (1.0 if n % 16 == 0 else 1.1) for n in counts])
    assert find_block({"inputs": [(counts, [1.0 * n for n in counts])], "outputs": [packed]}) == 16


def test_the_memory_of_an_input_of_ncnn_stays() -> None:
    """A Mat points into an array: when the array was gone, a large one ended the process."""
    pytest.importorskip("ncnn")
    conv = dict(map=[640, 640], groups=1, kernel=[6, 6], strides=[2, 2], pads=[2, 2, 2, 2])
    row = conv_ncnn({**conv, "dilations": [1, 1], "activation": ""}, 3, 2)
    run = RUNTIMES["ncnn"](1).call(row)
    other = [np.full((3, 640, 640), np.nan, np.float32) for _ in range(8)]  # takes what was freed
    assert other and np.isfinite(np.array(run.kept[2][0])).all()


def test_widths_follow_the_times() -> None:
    """The middle is always looked at; halves only where a line would be wrong."""
    asked: list[int] = []

    def line(at: list[int]) -> list[float]:
        asked.extend(at)
        return [1.0 + n for n in at]

    assert widths(128, 16, line) == [16, 64, 128]
    assert set(asked) <= {16, 32, 48, 64, 80, 96, 112, 128}
    bent = widths(128, 8, lambda at: [float(n) if n <= 40 else 40.0 + 9 * (n - 40) for n in at])
    assert {8, 64, 128} < set(bent) and all(n % 8 == 0 for n in bent) and len(bent) <= 9
    assert widths(20, 16, line) == [16, 20]
    assert widths(12, 16, line) == [12]


def test_it_runs_alone(alone: Callable, tmp_path: Path) -> None:
    """Without torch, YOLOv5, onnx and yolo-slim; the table has what the workload asks for."""
    code, text = alone("workload.zip", "--threads", "1", "-o", "device.json")
    assert code == 0, text
    assert "100%" in text and text.endswith("device.json: the times of this device\n")
    table = json.loads((tmp_path / "device.json").read_text())
    plan = json.loads(zipfile.ZipFile(tmp_path / "workload.zip").read("workload.json"))
    assert (table["imgsz"], table["runtime"], table["threads"]) == (64, "onnxruntime", 1)
    assert table["version"] == onnxruntime.__version__
    assert table["processor"] == profile_device.processor()
    for part in ("convs", "ops", "networks"):
        assert set(table[part]) == set(plan[part])
    for row in table["convs"].values():
        seconds = np.array(row["seconds"])
        assert seconds.shape == (len(row["inputs"]), len(row["outputs"])) and (seconds > 0).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "device.json",
        "profile_device.py",
        "workload.zip",
    ]


@pytest.mark.parametrize("runtime", ["openvino", "ncnn"])
def test_the_other_runtimes(runtime: str, alone: Callable, tiny_workload: Path, tmp_path) -> None:
    module = pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    if runtime == "ncnn":
        pytest.importorskip("pnnx", reason="pnnx, which makes ncnn's files, is not installed")
        from yolo_slim.cli import run

        checkpoint, made = tiny_workload.with_name("tiny.pt"), tmp_path / "ncnn.zip"
        argv = [str(checkpoint), "--imgsz", "64", "--prepare", str(made), "--runtime", "ncnn"]
        assert run("profile", argv) == 0
        small_workload(made, tmp_path / "workload.zip")
    site = str(Path(module.__file__).parents[1])
    code, text = alone("workload.zip", "--threads", "1", "--runtime", runtime, site=site)
    assert code == 0, text
    table = json.loads((tmp_path / "device.json").read_text())
    assert table["runtime"] == runtime
    assert all(np.min(row["seconds"]) > 0 for row in table["convs"].values())


def test_an_interrupted_run_goes_on(alone: Callable, tmp_path: Path) -> None:
    """Ended by Ctrl-C, then cut off within a line: what was measured is not measured again."""
    argv = ("workload.zip", "--threads", "1")
    part, process = tmp_path / "device.json.part", alone(*argv, wait=False)
    end = time.monotonic() + 60
    while not (part.exists() and part.read_text().count("\n") > 12) and time.monotonic() < end:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert "interrupted: the same command goes on from here" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert not (tmp_path / "device.json").exists()
    lines = part.read_text().splitlines()
    known = dict(json.loads(line) for line in lines[1:] if line)
    key, conv = next((k, k.rsplit(" ", 3)) for k in known if k.startswith("conv"))
    marked = [json.dumps([k, 123.0 if k == key else s]) for k, s in known.items()]
    part.write_text("\n".join([lines[0], *marked, '["conv cut o']))
    assert alone(*argv)[0] == 0
    assert not part.exists()
    table = json.loads((tmp_path / "device.json").read_text())
    figures = [s for rows in table["probes"].values() for _, seconds in rows for s in seconds]
    figures += [s for row in table["convs"].values() for s in np.ravel(row["seconds"])]
    assert conv[-1] == "#0" and len(known) > 10
    assert max(figures) < 123  # the least of three passes: 123 s of the first one do not count


def table_at(path: Path, head: dict[str, Any]) -> profile_device.Table:
    return profile_device.Table(str(path), head)


def test_what_is_kept_is_of_one_workload(tmp_path: Path) -> None:
    """Of the same one nothing is measured twice; of another, or from a damaged file, nothing is."""
    calls: list[list[int]] = []

    def measure(new: list[int]) -> list[float]:
        calls.append(new)
        return [1.0 + n for n in new]

    file, head = tmp_path / "d.json", {"imgsz": 64, "layers": [["a", "conv", 3, 8]]}
    assert table_at(file, head).get(["a", "b"], measure) == [1.0, 2.0]
    assert table_at(file, head).get(["b", "c"], measure) == [2.0, 2.0]
    assert calls == [[0, 1], [1]]
    part = tmp_path / "d.json.part"
    with part.open("ab") as stream:
        stream.write(b'["d", 4.0]\n7\n["e"]\n\xff\xfe\n["f", 6')
    assert table_at(file, head).seconds == {"a": 1.0, "b": 2.0, "c": 2.0, "d": 4.0}
    assert table_at(file, head | {"imgsz": 96}).seconds == {}
    assert part.read_text() == json.dumps(head | {"imgsz": 96}) + "\n"
    part.write_bytes(b"\x80\x81")
    assert table_at(file, head).seconds == {}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "the following arguments are required: workload"),
        (["nope.zip"], "nope.zip: no such file, expected the zip that `yolo-slim profile"),
        (["."], ".: a folder, expected the zip"),
        (["profile_device.py"], "profile_device.py: no workload, expected the zip"),
        (["other.zip"], "other.zip: no workload, expected the zip"),
        (["list.zip"], "list.zip: no workload, expected the zip"),
        (["workload.zip", "--threads", "0"], "--threads: 0, expected 1 to 1024"),
        (["workload.zip", "--runtime", "ncnn"], "--runtime: ncnn, expected onnxruntime, openvino"),
        (["workload.zip", "-o", "a/b/d.json"], "a/b/d.json: cannot be written (No such file"),
        (["workload.zip", "-o", "."], "--output: ., a folder, expected a file"),
    ],
)
def test_what_the_script_refuses(
    argv: list[str], expected: str, alone: Callable, tmp_path: Path
) -> None:
    for name, plan in (("other.zip", {"format": "another"}), ("list.zip", [1])):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("workload.json", json.dumps(plan))
    before = sorted(tmp_path.iterdir())
    code, text = alone(*argv)
    assert code == 2 and expected in text and "Traceback" not in text
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_that_is_not_installed(runtime: str, alone: Callable) -> None:
    code, text = alone("workload.zip", "--runtime", runtime, refused=PROJECT | {runtime})
    expected = f"error: --runtime: {runtime} is not installed, expected pip install {runtime}\n"
    assert (code, text) == (2, expected)


def test_all_runtimes_of_the_command_are_in_the_script() -> None:
    from yolo_slim.commands import profile

    assert list(RUNTIMES) == list(profile.RUNTIMES)
