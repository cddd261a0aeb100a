"""val and detect on each exported file: what the checkpoint finds; what is wrong is one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import nn

from yolo_slim import save
from yolo_slim.cli import run
from yolo_slim.deploy.formats import FORMATS, Format
from yolo_slim.deploy.options import ExportOptions, Nms
from yolo_slim.host.compat import replaced
from yolo_slim.host.tasks import DETECTION
from yolo_slim.models import load

ROWS = [row for row in FORMATS.values() if not row.exact]
NAMES = [row.name for row in ROWS]


def put(row: Format, model: nn.Module, folder: Path, side: int = 64) -> Path:
    for module in row.needs:
        pytest.importorskip(module)
    options = ExportOptions((side, side))
    return row.put(folder, "best", row.write(model, options))


def seen(file: Path, source: Path, *more: str) -> dict[str, np.ndarray]:
    """What detect writes down: class, x, y, w, h, (outline,) confidence of each image's objects."""
    shutil.rmtree("runs", ignore_errors=True)
    argv = ["--weights", str(file), "--source", str(source), "--project", "runs", "--nosave"]
    argv += ["--save-txt", "--save-conf", "--conf-thres", "0.001", "--max-det", "5", *more]
    assert run("detect", argv) == 0
    texts = {path.name: path.read_text() for path in Path("runs").rglob("*.txt")}
    assert texts
    return {name: np.array([float(n) for n in text.split()]) for name, text in texts.items()}


@pytest.mark.parametrize("kind", ["tiny_model", "tiny_seg"])
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_detect_finds_what_it_finds_with_the_checkpoint(
    row: Format, kind: str, request: pytest.FixtureRequest, shapes_yaml: Path, empty_folder: Path
) -> None:
    model = request.getfixturevalue(kind)
    source = shapes_yaml.parent / "shapes" / "images" / "val"
    expected = seen(save(model, empty_folder / "best.pt"), source, "--imgsz", "64")
    actual = seen(put(row, model, empty_folder), source)  # --imgsz: that of the file
    assert set(actual) == set(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(actual[name], numbers, atol=2e-3)


def maps(*argv: object) -> tuple[float, float]:
    """mAP50 and mAP50-95 of YOLOv5's val."""
    host, results = DETECTION.script("val"), list[Any]()
    run_val = host.run

    def kept(*args: Any, **kwargs: Any) -> Any:
        results.append(run_val(*args, **kwargs))
        return results[-1]

    with replaced(host, run=kept):
        assert run("val", [str(word) for word in argv]) == 0
    return results[0][0][2:4]


def test_val_gives_the_map_of_the_checkpoint(shared: Path, empty_folder: Path) -> None:
    """COCO's yolov5n on photos that are not square: --square pads them as an export needs it."""
    photos = sorted((shared / "coco128" / "images").rglob("*.jpg"))[:12]
    for kind in ("images", "labels"):
        (empty_folder / kind).mkdir()
    for photo in photos:
        label = Path(str(photo).replace("images", "labels")).with_suffix(".txt")
        shutil.copy(photo, empty_folder / "images")
        if label.is_file():
            shutil.copy(label, empty_folder / "labels")
    checkpoint = shutil.copy(shared / "weights" / "yolov5n.pt", empty_folder / "best.pt")
    model = load(checkpoint).model
    data = {"path": str(empty_folder), "train": "images", "val": "images", "names": model.names}
    Path("photos.yaml").write_text(yaml.safe_dump(data))
    more = ["--data", "photos.yaml", "--workers", "0"]
    expected = maps("--weights", checkpoint, "--imgsz", "160", "--square", *more)
    assert expected[0] > 0.1
    for row in ROWS:
        file = put(row, model, empty_folder, 160)
        assert maps("--weights", file, *more) == pytest.approx(expected, abs=1e-3), row.name


@pytest.mark.parametrize(("name", "part"), [("openvino", "best.xml"), ("ncnn", "best.param")])
def test_a_file_stands_for_its_folder(
    name: str, part: str, tiny_model: nn.Module, shapes_yaml: Path, empty_folder: Path
) -> None:
    folder = put(FORMATS[name], tiny_model, empty_folder)
    argv = ["--weights", folder / part, "--data", shapes_yaml, "--workers", "0"]
    assert maps(*argv) == maps("--weights", folder, *argv[2:])


def test_a_file_of_others_without_metadata(
    tiny_model: nn.Module, shapes_yaml: Path, empty_folder: Path
) -> None:
    """YOLOv5 then takes stride 32 and class0, class1, ...; an OpenVINO folder needs its yaml."""
    source = shapes_yaml.parent / "shapes" / "images" / "val"
    content = FORMATS["litert"].write(tiny_model, ExportOptions((64, 64)))
    assert isinstance(content, bytes)
    plain = Path("plain.tflite")
    plain.write_bytes(content[: content.index(b"PK\x03\x04")])
    assert seen(plain, source)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_what_is_wrong_is_one_line(
    row: Format, tiny_model: nn.Module, shapes_yaml: Path, tmp_path: Path, refused: Callable
) -> None:
    file = put(row, tiny_model, tmp_path)
    data = yaml.safe_load(shapes_yaml.read_text()) | {"names": ["a", "b"]}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(data))
    given = ["--weights", file, "--data"]
    line = refused("val", *given, tmp_path / "two.yaml")
    assert "two.yaml: 2 classes, expected the 4 of the model" in line
    line = refused("val", *given, shapes_yaml, "--imgsz", "96")
    assert "--imgsz: 96, expected 64, as best" in line
    line = refused("detect", "--weights", file, "--classes", "4", "--source", shapes_yaml.parent)
    assert "--classes: 4, expected 0 to 3, the classes of best" in line
    for part in [file] if file.is_file() else sorted(file.iterdir()):
        if part.suffix != ".yaml":
            part.write_bytes(part.read_bytes()[:300])
    assert "refuses it" in refused("val", *given, shapes_yaml)


def test_an_openvino_folder_without_names(
    tiny_model: nn.Module, shapes_yaml: Path, tmp_path: Path, refused: Callable
) -> None:
    folder = put(FORMATS["openvino"], tiny_model, tmp_path)
    (folder / "best.yaml").unlink()
    line = refused("val", "--weights", folder, "--data", shapes_yaml)
    assert "no best.yaml beside best.xml, expected" in line
    (folder / "best.yaml").write_text("stride: 32\nnames: [a]\n")
    line = refused("val", "--weights", folder, "--data", shapes_yaml)
    assert "names: 1 name, expected one for each of 4 classes" in line


def test_a_batch_or_a_shape_that_val_does_not_give(
    tiny_model: nn.Module, shapes_yaml: Path, tmp_path: Path, refused: Callable
) -> None:
    row = FORMATS["litert"]
    for options, told in (
        (ExportOptions((64, 64), 4), "exported for batches of 4, expected an export with"),
        (ExportOptions((64, 96)), "exported for images of 64 x 96 px (height x width), expected"),
    ):
        file = row.put(tmp_path, "odd", row.write(tiny_model, options))
        assert told in refused("val", "--weights", file, "--data", shapes_yaml)


def test_a_runtime_that_is_not_installed(
    tmp_path: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    spec = importlib.util.find_spec
    gone = ("ncnn", "ai_edge_litert", "openvino")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in gone else spec(name, *a)
    )
    (tmp_path / "best_ncnn_model").mkdir()
    (tmp_path / "best_openvino_model").mkdir()
    (tmp_path / "best.tflite").write_bytes(b"1234TFL3")
    for name, module, extra in (
        ("best_ncnn_model", "ncnn", "ncnn"),
        ("best_openvino_model", "openvino", "openvino"),
        ("best.tflite", "ai_edge_litert", "litert"),
    ):
        line = refused("detect", "--weights", tmp_path / name)
        assert f'{module} is not installed, expected pip install "yolo-slim[{extra}]"' in line


def test_half_precision_is_validated_and_suppression_is_refused(
    tiny_model: nn.Module, shapes_yaml: Path, tmp_path: Path, refused: Callable
) -> None:
    given = ["--data", shapes_yaml, "--workers", "0"]
    for name in ("onnx", "openvino"):
        row = put_with(name, tiny_model, tmp_path, half=True)
        assert maps("--weights", row, *given)
    file = put_with("onnx", tiny_model, tmp_path, nms=Nms())
    line = refused("val", "--weights", file, *given)
    assert "suppression is in it, expected an export without --nms" in line


def put_with(name: str, model: nn.Module, folder: Path, **options: Any) -> Path:
    row = FORMATS[name]
    return row.put(folder, "best", row.write(model, ExportOptions((64, 64), **options)))
