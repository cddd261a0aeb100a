"""The demo: four steps from nothing, and what a user does next."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yolo_slim.cli import run
from yolo_slim.commands import demo
from yolo_slim.shapes import make_shapes


def test_the_four_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    make_shapes("datasets/shapes", train=16, val=8)  # the demo's own are 592
    assert run("demo", ["--epochs", "1", "1"]) == 0
    text, log = capfd.readouterr()
    assert "not found" not in text + log
    assert [f"=== {n} of 4" in text for n in (1, 2, 3, 4)] == [True] * 4
    files = re.findall(r"^  (\S+)  ", text[text.rindex("Pictures:") :], re.MULTILINE)
    assert [Path(file).name for file in files] == [
        "sparsity.png",
        "channels.png",
        "best.pt",
        "best.onnx",
        "best.torchscript",
    ]
    assert all(Path(file).is_file() for file in files)
    assert text.endswith(demo.OWN_DATA.format(slim="yolo-slim slim") + "\n")


def test_the_data_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn: list[Path] = []
    monkeypatch.setattr("yolo_slim.shapes.make_shapes", drawn.append)
    demo.draw_once()
    Path("datasets/shapes/images/val").mkdir(parents=True)
    demo.draw_once()
    assert drawn == [Path("datasets/shapes")]
