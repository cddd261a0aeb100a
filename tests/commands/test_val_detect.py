"""val and detect: what is wrong is one line and leaves no folder; what can be read is read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import leftovers
from p6 import p6_yaml
from torch import nn

from yolo_slim import load, save
from yolo_slim.cli import run
from yolo_slim.deploy.export import to_onnx
from yolo_slim.host.checkpoint import save_model
from yolo_slim.models.model import build_model

SEEN = ["--imgsz", "64"]
QUICK = [*SEEN, "--workers", "0", "--batch-size", "8"]
EARLY = [  # known without the model; {} is the folder that the test made
    ("val", "--weights a.pt b.pt", "--weights: 2 files, expected one (ensembles"),
    ("val", "--weights {}/folder", "folder: a folder, expected a checkpoint (.pt), or an"),
    ("val", "--weights nope.onnx", "nope.onnx: no such file, expected a checkpoint (.pt), or a"),
    ("val", "--weights {}/model.pth", "model.pth: a .pth file, expected a checkpoint (.pt), or a"),
    ("val", "--weights https://example.com/a.pt", "a.pt: a URL, expected a file: weights are not"),
    ("val", "--weights", "argument --weights: expected at least one argument"),
    ("val", "--task foo", "--task: foo, expected train, val, test, speed, study"),
    ("val", "--workers -1", "--workers: -1, expected 0 or more"),
    ("val", "--batch-size 0", "--batch-size: 0, expected 1 or more"),
    ("val", "--imgsz 100", "--imgsz: 100, expected a multiple of the stride, 32"),
    ("val", "--conf-thres 2", "--conf-thres: 2.0, expected a number in [0, 1]"),
    ("val", "--data {}/text.yaml", "text.yaml: a str, expected a data yaml"),
    ("val", "--max-det 0", "--max-det: 0, expected 1 or more"),
    ("val", "--project {}/text.yaml/runs", "cannot be written"),
    ("detect", "--dnn", "--dnn: given for "),
    ("detect", "--source {}/nope", "nope: no such file or folder, expected an image"),
    ("detect", "--source {}/*.jpg", "*.jpg: nothing matches, expected images or videos"),
    ("detect", "--source {}/empty.txt", "empty.txt: an empty list, expected a file with names"),
    ("detect", "--source {}/list.txt", "list.txt: gone.jpg is not there, expected images"),
    ("detect", "--vid-stride 0", "--vid-stride: 0, expected 1 or more"),
    ("detect", "--classes 0 -1", "--classes: -1, expected 0 or more"),
    ("detect", "--conf-thres 7", "--conf-thres: 7.0, expected a number in [0, 1]"),
    ("detect", "--conf-thres nan", "--conf-thres: nan, expected a number in [0, 1]"),
    ("detect", "--iou-thres -1", "--iou-thres: -1.0, expected a number in [0, 1]"),
    ("detect", "--max-det 0", "--max-det: 0, expected 1 or more"),
    ("detect", "--line-thickness -1", "--line-thickness: -1, expected 0 or more"),
    ("detect", "--line-thickness 40000", "--line-thickness: 40000, expected 0 to 100 px"),
    ("detect", "--update --weights {}/fixed.onnx", "--update: given for "),
    ("detect", "--imgsz 64 64 64", "--imgsz: 64 64 64, expected one number, or height and width"),
]
LATE = [
    ("val", "", "--data: not given, expected a data yaml"),
    ("val", "--data {data} --task test", "no entry test, expected "),
    ("val", "--data {}/two.yaml", "two.yaml: 2 classes, expected the 4 of the model"),
    ("val", "--data {data} --device 7", "--device: 7, expected cpu (no GPU)"),
    ("val", "--data {data} --half", "--half: given, expected a GPU: a CPU computes in float32"),
    ("val", "--data {data} --weights {}/damaged.onnx", "damaged.onnx: ONNX Runtime refuses it ("),
    ("val", "--data {data} --weights {}/fixed.onnx --imgsz 96", "--imgsz: 96, expected 64, as"),
    ("val", "--data {data} --weights {}/damaged.torchscript", "PyTorch refuses it ("),
    ("detect", "--source {}/folder", "folder: no image and no video, expected files such as .jpg"),
    ("detect", "--source {}/text.yaml", "text.yaml: no image and no video, expected files such"),
    ("detect", "--source {}/broken", "none of 2 can be read, expected whole image or video files"),
    ("detect", "--source {}/broken/film.mp4", "none of 1 can be read, expected whole image or"),
    ("detect", "--classes 0 4 99 --source {}/broken", "--classes: 4 99, expected 0 to 3, the"),
    ("detect", "--classes 4 --source {}/broken --weights {}/fixed.onnx", "--classes: 4, expected"),
    ("detect", "--device mps --source {}/broken", "--device: mps, expected cpu (no GPU)"),
    ("detect", "--device cuda --source {}/broken", "--device: cuda, expected cpu (no GPU)"),
    ("detect", "--device -1 --source {}/broken", "--device: -1, expected cpu (no GPU)"),
    ("detect", "--source 77", "--source 77: cannot be opened, expected a camera or a stream"),
    ("detect", "--source https://localhost:9/a.jpg", "cannot be downloaded ("),
    ("detect", "--source screen", "needs mss, expected that package installed"),
]


@pytest.fixture
def place(shapes_yaml: Path, tiny_model: nn.Module, tmp_path: Path) -> Path:
    """Files of which each has one thing wrong."""
    folder = tmp_path / "made"
    (folder / "folder").mkdir(parents=True)
    (folder / "broken").mkdir()
    (folder / "text.yaml").write_text("hello")
    (folder / "empty.txt").write_text("\n")
    (folder / "list.txt").write_text("gone.jpg\n")
    for name in ("damaged.onnx", "damaged.torchscript", "broken/a.jpg", "broken/film.mp4"):
        (folder / name).write_bytes(b"no such thing")
    (folder / "fixed.onnx").write_bytes(to_onnx(tiny_model, imgsz=64))
    torch.save({}, folder / "model.pth")
    data = yaml.safe_load(shapes_yaml.read_text()) | {"names": ["a", "b"]}
    (folder / "two.yaml").write_text(yaml.safe_dump(data))
    return folder


@pytest.mark.parametrize(
    ("command", "given", "expected"), EARLY + LATE, ids=[" ".join(row[:2]) for row in EARLY + LATE]
)
def test_one_line(
    command: str,
    given: str,
    expected: str,
    refused: Any,
    place: Path,
    tiny_checkpoint: Path,
    shapes_yaml: Path,
) -> None:
    words = given.replace("{data}", str(shapes_yaml)).replace("{}", str(place)).split()
    line = refused(command, "--weights", tiny_checkpoint, *SEEN, *words)
    assert expected in line


def test_a_camera_that_is_not_there_leaves_no_folder(
    tiny_checkpoint: Path, empty_folder: Path
) -> None:
    argv = ["--weights", str(tiny_checkpoint), "--source", "99", *SEEN]
    assert run("detect", argv) == run("detect", [*argv, "--save-txt", "--name", "camera"]) == 2
    assert not list(empty_folder.iterdir())
    (empty_folder / "runs").mkdir()
    assert run("detect", argv) == 2
    assert [file.name for file in empty_folder.rglob("*")] == ["runs"]


def test_classes_that_are_there(tiny_checkpoint: Path, empty_folder: Path) -> None:
    cv2.imwrite("a.png", np.zeros((32, 32, 3), np.uint8))
    argv = ["--weights", str(tiny_checkpoint), "--source", "a.png", "--classes", "0", "3"]
    assert run("detect", [*argv, "--line-thickness", "0", *SEEN]) == 0


def test_without_weights(refused: Any) -> None:
    assert "--weights: not given, expected a checkpoint (.pt), or an" in refused("val")


def test_no_stride_of_64(refused: Any, tiny_yaml: dict, shapes_yaml: Path, tmp_path: Path) -> None:
    """96 px are a multiple of 32, not of a P6 model's stride."""
    file = save(build_model(p6_yaml(tiny_yaml)).eval(), tmp_path / "p6.pt")
    for command, more in (("val", ["--data", shapes_yaml]), ("detect", [])):
        line = refused(command, "--weights", file, "--imgsz", "96", *more)
        assert "--imgsz: 96, expected a multiple of the stride, 64" in line


def test_val_takes_the_data_of_the_training(
    tiny_model: nn.Module, shapes_yaml: Path, empty_folder: Path
) -> None:
    file = save_model(tiny_model, empty_folder / "trained.pt", opt={"data": str(shapes_yaml)})
    assert run("val", ["--weights", str(file), *QUICK]) == 0
    assert (empty_folder / "runs" / "val" / "exp").is_dir()


def test_val_of_another_split(
    tiny_checkpoint: Path, shapes_yaml: Path, empty_folder: Path, capfd: pytest.CaptureFixture
) -> None:
    argv = ["--weights", str(tiny_checkpoint), "--data", str(shapes_yaml), "--task", "train"]
    assert run("val", [*argv, *QUICK]) == 0
    assert " 16 " in capfd.readouterr().err  # images of the training split


def test_val_of_all_classes_as_one(
    tiny_yaml: dict[str, Any], shapes_yaml: Path, empty_folder: Path
) -> None:
    """A model that was trained with --single-cls takes the classes of the data for one."""
    train = {"data": str(shapes_yaml), "single_cls": True}
    one = build_model({**tiny_yaml, "nc": 1}).eval()
    file = save_model(one, empty_folder / "one.pt", opt=train)
    assert run("val", ["--weights", str(file), *QUICK]) == 0


def test_detect_skips_what_cannot_be_read(
    tiny_checkpoint: Path, shapes_yaml: Path, empty_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = empty_folder / "images"
    shutil.copytree(shapes_yaml.parent / "shapes" / "images" / "val", images)
    whole = sorted(file.name for file in images.iterdir())
    (images / "0000a.jpg").write_bytes(b"no image")
    assert run("detect", ["--weights", str(tiny_checkpoint), "--source", str(images), *SEEN]) == 0
    done = empty_folder / "runs" / "detect" / "exp"
    assert sorted(file.name for file in done.iterdir()) == whole
    assert f"skipped: {images / '0000a.jpg'} cannot be read as an image" in caplog.text


def test_detect_takes_lists_globs_and_names_with_signs(
    tiny_checkpoint: Path, empty_folder: Path
) -> None:
    folder = empty_folder / "odd [names]"
    folder.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((32, 32, 3), np.uint8))
    (empty_folder / "a.txt").write_text("b.png\n")
    shutil.copy(folder / "b.png", empty_folder / "b.png")
    for source in ("a.txt", "*.png", str(folder / "a.png")):
        argv = ["--weights", str(tiny_checkpoint), "--source", source, "--save-txt", *SEEN]
        assert run("detect", argv) == 0


def test_an_export_is_validated(
    tiny_model: nn.Module, shapes_yaml: Path, place: Path, empty_folder: Path
) -> None:
    argv = ["--weights", str(place / "fixed.onnx"), "--data", str(shapes_yaml), *SEEN]
    assert run("val", [*argv, "--workers", "0"]) == 0
    assert leftovers(empty_folder)
    assert load(save(tiny_model, place / "again.pt")).names
