"""What each command prints fits 80 columns, on a real model and real images.

A line may be longer where it has no space to break at, or is a command that is to be pasted.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from yolo_slim.cli import run
from yolo_slim.report.tables import ancestry_table
from yolo_slim.text import PAPER, cells

QUICK = ["--imgsz", "64"]


@pytest.fixture(scope="module")
def place(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's yolov5n, four images of COCO, their data yaml, and a cut model."""
    base = tmp_path_factory.mktemp("width")
    shutil.copy(shared / "weights" / "yolov5n.pt", base / "yolov5n.pt")
    for number, photo in enumerate(sorted((shared / "coco128" / "images").rglob("*.jpg"))):
        label = shared / "coco128" / "labels" / photo.relative_to(shared / "coco128" / "images")
        label = label.with_suffix(".txt")
        if number >= 8 or not label.is_file():
            continue
        for file, kind in ((photo, "images"), (label, "labels")):
            (base / kind).mkdir(exist_ok=True)
            shutil.copy(file, base / kind / file.name)
    names = {i: f"class {i}" for i in range(80)}
    data = {"path": str(base), "train": "images", "val": "images", "names": names}
    (base / "data.yaml").write_text(yaml.safe_dump(data))
    argv = ["--weights", str(base / "yolov5n.pt"), "--percent", "0.3", "--criterion", "l2"]
    argv += [*QUICK, "--project", str(base / "runs" / "prune")]
    assert run("prune", argv) == 0
    return base


DATA = ["--data", "data.yaml"]
CUT = "runs/prune/exp/pruned.pt"
COMMANDS = {
    "prune": ["--weights", "yolov5n.pt", *DATA, *QUICK, "--macs", "0.7", "--workers", "0"],
    "prune --dry-run": ["--weights", "yolov5n.pt", "--percent", "0.5", "--criterion", "l2"],
    "prune --layers": ["--weights", CUT, "--percent", "0.2", "--keep", "model.2", *QUICK],
    "export": ["--weights", CUT, *DATA, *QUICK, "--repeats", "3", "--include", "onnx", "stock"],
    "bench": ["yolov5n.pt", CUT, *QUICK, "--repeats", "3", "--layers"],
    "inspect": ["yolov5n.pt", "--residual", "group"],
    "curve": ["yolov5n.pt", *DATA, "--imgsz", "160", "--sizes", "96", "--calib-images", "8"],
    "sensitivity": ["yolov5n.pt", *DATA, "--imgsz", "160", "--kind", "channels", "--images", "8"],
    "finegrained": ["yolov5n.pt", *DATA, *QUICK, "--repeats", "3", "--workers", "0", "--layers"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_line_fits(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(place)
    name, *flags = command.split()
    argv = [*COMMANDS[command], *flags]
    argv += ["--shares", "0.5"] if name in ("curve", "sensitivity") else []
    argv += ["--processes", "1"] if name == "curve" else []
    capfd.readouterr()
    assert run(name, argv) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) > 3
    for line in lines:
        assert cells(line) <= PAPER or " " not in line or line.startswith("Next: "), line


def test_the_table_of_several_cuts_fits() -> None:
    cuts = [{"params": [46_000_000, 23_000_000], "achieved": 0.5}] * 3
    assert max(map(cells, ancestry_table(cuts).splitlines())) <= PAPER
