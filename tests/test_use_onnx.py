"""The program in docs/use-onnx.md, as it stands there, finds what `yolo-slim detect` finds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from places import ROOT

from yolo_slim.cli import run

IMGSZ = 320


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's yolov5n as best.onnx."""
    base = tmp_path_factory.mktemp("onnx")
    shutil.copy(shared / "weights" / "yolov5n.pt", base / "best.pt")
    argv = ["--weights", str(base / "best.pt"), "--imgsz", str(IMGSZ), "--include", "onnx"]
    argv += ["--repeats", "0", "--images", "1", "--project", str(base), "--name", "out"]
    assert run("export", argv) == 0
    shutil.copy(base / "out" / "best.onnx", base / "best.onnx")
    return base


@pytest.mark.parametrize("number", [0, 3, 7])
def test_the_program_finds_what_detect_finds(
    folder: Path, shared: Path, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = sorted((shared / "coco128" / "images").rglob("*.jpg"))[number]
    shutil.copy(photo, "image.jpg")
    shutil.copy(folder / "best.onnx", "best.onnx")
    page = (ROOT / "docs" / "use-onnx.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    argv = ["--weights", "best.onnx", "--source", "image.jpg", "--imgsz", str(IMGSZ), "--nosave"]
    assert run("detect", [*argv, "--save-txt", "--save-conf", "--project", "runs"]) == 0

    height, width = cv2.imread("image.jpg").shape[:2]
    theirs = np.loadtxt("runs/exp/labels/image.txt", ndmin=2)  # class, x, y, w, h, confidence
    theirs[:, 1:5] *= [width, height, width, height]
    index = np.array(scope["found"])
    boxes = scope["boxes"][index]
    ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    start, end = (np.clip(corner, 0, (width, height)) for corner in ends)
    places = np.hstack([(start + end) / 2, end - start])
    ours = np.column_stack([scope["classes"][index], places, scope["best"][index]])
    assert len(ours) == len(theirs) > 0
    for row in theirs:  # each has its own
        near = np.abs(ours - row)
        assert ((near[:, 0] == 0) & (near[:, 1:5].max(1) < 1.5) & (near[:, 5] < 0.01)).sum() == 1
    assert cv2.imread("found.jpg").shape == (height, width, 3)


def test_the_program_for_a_file_with_suppression(
    folder: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """It prints the boxes that the program for a file without finds."""
    monkeypatch.chdir(tmp_path)
    photo = sorted((shared / "coco128" / "images").rglob("*.jpg"))[3]
    shutil.copy(photo, "image.jpg")
    page = (ROOT / "docs" / "use-onnx.md").read_text(encoding="utf-8")
    (code,), (tail,) = (re.findall(rf"```{k}\n(.*?)```", page, re.DOTALL) for k in ("python", "py"))
    shutil.copy(folder / "best.onnx", "best.onnx")
    expected: dict = {}
    exec(code, expected)
    argv = ["--weights", str(folder / "best.pt"), "--imgsz", str(IMGSZ), "--include", "onnx"]
    argv += ["--repeats", "0", "--images", "1", "--nms", "--project", "out", "--name", "nms"]
    assert run("export", argv) == 0
    shutil.copy(Path("out", "nms", "best.onnx"), "best.onnx")
    scope: dict = {}
    capsys.readouterr()
    exec(code.split("rows = session.run")[0] + tail, scope)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == int(scope["count"][0]) == len(expected["found"]) > 0
    places = np.array([[float(number) for number in line.split()[-4:]] for line in lines])
    boxes = expected["boxes"][np.array(expected["found"])]
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    for corner in corners:
        assert np.abs(places - corner).max(1).min() <= 1
