"""What commands say of their results: names of files, spreads, warnings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from torch import nn

from yolo_slim import InputError, prune
from yolo_slim.cli import run
from yolo_slim.measure.latency import Latency, warning_of
from yolo_slim.report.timing import timing_text


def test_an_export_is_called_by_its_file(
    tiny_checkpoint: Path, empty_folder: Path, capfd: pytest.CaptureFixture
) -> None:
    argv = ["--weights", str(tiny_checkpoint), "--imgsz", "64", "--include", "onnx", "stock"]
    assert run("export", [*argv, "--repeats", "4"]) == 0
    text = capfd.readouterr().out
    assert "slim" not in text.replace("yolo-slim", "")
    assert "tiny.onnx" in text and "docs/use-onnx.md" in text
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1" in text
    assert "No model to compare it with" in text
    report = json.loads(Path("runs/export/exp/report.json").read_text())
    assert set(report["latency"]) == {"onnx"} and set(report["latency"]["onnx"]) == {"exported"}
    dense = ["--dense", str(tiny_checkpoint), "--include", "onnx", "--repeats", "4"]
    assert run("export", [*argv, *dense]) == 0
    assert "tiny.onnx takes " in capfd.readouterr().out
    latency = json.loads(Path("runs/export/exp2/report.json").read_text())["latency"]["onnx"]
    share = latency["exported"]["median"] / latency["dense"]["median"]
    assert latency["ratio"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--include", "stock"], "--dense: given for stock, expected a format that is timed"),
        (["--repeats", "0"], "--dense: given with --repeats 0"),
        (["--repeats", "1"], "--repeats: 1, expected 2 or more, or 0 for no timing"),
    ],
)
def test_a_dense_model_that_nothing_would_time(
    argv: list[str], expected: str, tiny_checkpoint: Path, refused
) -> None:
    options = ["--weights", tiny_checkpoint, "--dense", tiny_checkpoint]
    assert expected in refused("export", *options, *argv)


def test_rough_times_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.cpu_count() or 1
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    assert warning_of({"a": Latency(10, 1), "b": Latency(20, 3)}) == ""
    assert "up to 30% of a median apart. " in warning_of({"a": Latency(10, 3)})
    monkeypatch.setattr(os, "getloadavg", lambda: (cores + 1.5, 0, 0))
    assert f"{cores + 1.5:.1f} programs run on {cores} cores" in warning_of({"a": Latency(10, 1)})


def test_times_are_shares_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    sizes = {"threads": 2, "batch": 1, "imgsz": 640, "repeats": 60}
    text = timing_text({"before": Latency(20, 1), "best.onnx": Latency(10, 1)}, **sizes)
    assert text.splitlines()[-1].split() == ["best.onnx", "10.00", "1.00", "0.50"]
    assert "2 threads, 1 x 640 px, 60 rounds" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"percent": 1.5}, "percent: 1.5, expected a share"),
        ({"macs": 0.5, "params": 0.5}, "params: given besides macs"),
        ({"round_to": 0}, "round_to: 0"),
        ({"percent": 0.5, "criterion": "thinet"}, "expected calibration"),
        ({"percent": 0.5, "keep": ["nothing"]}, "keep: 'nothing'"),
    ],
)
def test_a_program_is_told_of_arguments(
    arguments: dict, expected: str, tiny_model: nn.Module
) -> None:
    with pytest.raises(InputError) as error:
        prune(tiny_model, imgsz=64, **arguments)
    assert expected in str(error.value) and "--" not in str(error.value)
