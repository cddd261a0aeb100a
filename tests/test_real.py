"""The COCO-pretrained yolov5n and real images. Skipped where they are absent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
import yolov5

from yolo_slim import load, prune
from yolo_slim.cli import run
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import evaluate


@pytest.fixture
def coco(shared: Path, tmp_path: Path) -> Path:
    """A data yaml of 32 images of COCO128, copied aside (the host writes a cache beside labels)."""
    for kind, end in (("images", ".jpg"), ("labels", ".txt")):
        (tmp_path / kind).mkdir()
        for file in sorted((shared / "coco128" / "images").rglob("*.jpg"))[:32]:
            source = Path(str(file).replace("/images/", f"/{kind}/")).with_suffix(end)
            if source.is_file():
                shutil.copyfile(source, tmp_path / kind / source.name)
    names = yaml.safe_load((Path(yolov5.__file__).parent / "data" / "coco128.yaml").read_text())[
        "names"
    ]
    file = tmp_path / "coco.yaml"
    file.write_text(
        yaml.safe_dump({"path": str(tmp_path), "train": "images", "val": "images", "names": names})
    )
    return file


def test_pretrained_model_from_a_clone(shared: Path, coco: Path) -> None:
    """It finds what it was trained on; keep-all finds the same, 5% less by gamma much less."""
    model = load(shared / "weights" / "yolov5n.pt").model
    data = check_data(coco, model.nc)
    dense = evaluate(model, data, imgsz=320, workers=0)
    assert dense.map50 > 0.4
    assert evaluate(prune(model, 0.0).model, data, imgsz=320, workers=0) == dense
    assert evaluate(prune(model, 0.05).model, data, imgsz=320, workers=0).map50 < dense.map50 - 0.1


def test_scripts_on_it(
    shared: Path, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = str(shared / "weights" / "yolov5n.pt")
    assert run("prune", ["--weights", weights, "--percent", "0.6", "--imgsz", "320"]) == 0
    report = json.loads((tmp_path / "runs" / "prune" / "exp" / "report.json").read_text())
    assert report["before"]["params"] == 1_872_157
    assert report["achieved"] == pytest.approx(0.6, abs=0.01)
    assert report["parity"] < 1e-9
    cut = "runs/prune/exp/pruned.pt"
    argv = ["--weights", cut, "--data", str(coco), "--imgsz", "320", "--images", "4"]
    assert run("export", [*argv, "--repeats", "8", "--include", "onnx"]) == 0
    report = json.loads((tmp_path / "runs" / "export" / "exp" / "report.json").read_text())
    assert report["agreement"]["onnx"]["images"] == 4
    assert report["latency"]["onnx"]["ratio"] < 1
