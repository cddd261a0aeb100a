"""export --int8: a run from checkpoint to files and report; what is refused, and when."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
import yaml
from torch import nn

from yolo_slim import save
from yolo_slim.cli import run

COMMON = ["--imgsz", "64", "--threads", "1", "--int8", "--project", "out", "--exist-ok"]


def test_a_file_in_8_bits_beside_the_float_one(
    pruned_tiny: Path, shapes_yaml: Path, empty_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    """Report, table of methods, time; it is validated by the host as any ONNX file."""
    argv = ["--weights", str(pruned_tiny), "--include", "onnx", "--data", str(shapes_yaml)]
    assert run("export", [*argv, *COMMON, "--repeats", "2"]) == 0
    folder, text = Path("out/exp"), capsys.readouterr().out
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["pruned-int8.onnx", "pruned.onnx", "report.json"]
    report = json.loads((folder / "report.json").read_text())["int8"]
    made = report["files"]["onnx"]
    assert (report["images"], report["max_drop"], made["float_layers"]) == (13, 0.5, {})
    assert made["bytes"] == (folder / "pruned-int8.onnx").stat().st_size
    costs = {name: each["cost"] for name, each in made["methods"].items()}
    assert made["method"] == min(costs, key=costs.__getitem__) and len(costs) == 4
    assert made["attempts"] == [
        {"float_layers": [], "drop": 100 * (made["float"]["map"] - made["int8"]["map"])}
    ]
    assert "What calibration costs in 8 bits, on 13 images" in text
    assert "pay here in ONNX Runtime" in text.replace("\n", " ")
    argv = ["--weights", str(folder / "pruned-int8.onnx"), "--data", str(shapes_yaml)]
    assert run("val", [*argv, "--imgsz", "64", "--project", "out", "--name", "val"]) == 0


def test_with_suppression_in_the_file(
    tiny_checkpoint: Path, shapes_yaml: Path, empty_folder: Path
) -> None:
    argv = ["--weights", str(tiny_checkpoint), "--include", "onnx", "--data", str(shapes_yaml)]
    assert run("export", [*argv, *COMMON, "--repeats", "0", "--nms"]) == 0
    ends = [
        [out.name for out in onnx.load(f"out/exp/tiny{kind}.onnx").graph.output]
        for kind in ("", "-int8")
    ]
    assert ends[0] == ends[1]


def test_masks(tiny_seg: nn.Module, seg_yaml: Path, empty_folder: Path) -> None:
    """mAP of boxes and of masks, in the validation of segment/."""
    save(tiny_seg, "seg.pt")
    argv = ["--weights", "seg.pt", "--include", "onnx", "--data", str(seg_yaml), *COMMON]
    assert run("export", [*argv, "--repeats", "0", "--batch-size", "2"]) == 0
    made = json.loads(Path("out/exp/report.json").read_text())["int8"]["files"]["onnx"]
    assert made["int8"]["mask_map"] is not None
    assert all(each["masks"] > 0 for each in made["methods"].values())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--int8", "--half"], "--int8: given with --half, expected one of the two"),
        (["--int8", "--include", "torchscript"], "--int8: given for torchscript, expected one of"),
        (["--int8", "--max-drop", "-1"], "--max-drop: -1.0, expected points of mAP, from 0 to 100"),
        (["--int8", "--max-drop", "nan"], "--max-drop: nan, expected points of mAP, from 0 to"),
        (["--max-drop", "1"], "--max-drop: given without --int8, expected --int8 too"),
        (["--calibration-images", "99"], "--calibration-images: given without --int8"),
        (["--int8", "--calibration-images", "15"], "--calibration-images: 15, expected 16 or more"),
        (["--int8", "--calibration-images", "0"], "--calibration-images: 0, expected 16 or more"),
        (["--int8", "--opset", "12"], "--opset: 12 with --int8, expected 13 or more"),
        (["--int8", "--imgsz", "64", "96"], "--int8: given with --imgsz 64 96, expected one num"),
    ],
)
def test_refused_at_first_sight(
    argv: list[str], message: str, empty_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("export", ["--weights", __file__, *argv]) == 2
    assert message in capsys.readouterr().err
    assert not any(empty_folder.iterdir())


def changed(shapes_yaml: Path, folder: Path, *, images: int = 16, labels: bool = True) -> Path:
    """A copy of the shapes with fewer images to train on, or without labels to validate on."""
    data = yaml.safe_load(shapes_yaml.read_text())
    shutil.copytree(data["path"], folder / "copy")
    for file in sorted((folder / "copy" / "images" / "train").iterdir())[images:]:
        file.unlink()
    if not labels:
        shutil.rmtree(folder / "copy" / "labels" / "val")
    (folder / "copy.yaml").write_text(yaml.safe_dump({**data, "path": str(folder / "copy")}))
    return folder / "copy.yaml"


def test_refused_before_anything_is_exported(
    tiny_checkpoint: Path,
    shapes_yaml: Path,
    tmp_path: Path,
    empty_folder: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """No data, too few images, no labels: one line, and no folder."""
    few = changed(shapes_yaml, tmp_path / "few", images=15)
    bare = changed(shapes_yaml, tmp_path / "bare", labels=False)
    argv = ["--weights", str(tiny_checkpoint), "--include", "onnx", *COMMON]
    for more, message in (
        ([], "--int8: no --data, expected --data mydata.yaml, to calibrate and to validate on"),
        (["--data", str(few)], "15 images, expected 16 or more, to calibrate on"),
        (["--data", str(bare)], "label"),
    ):
        assert run("export", [*argv, *more]) == 2
        assert message in capsys.readouterr().err
    assert not any(empty_folder.iterdir())
