"""Data that people really have, in each command: read, left out with a line, or refused at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from places import ROOT

from yolo_slim import InputError, calibrate, load
from yolo_slim.cli import run
from yolo_slim.shapes import NAMES, make_shapes

TRAIN = ["--imgsz", 64, "--epochs", 1, "--batch-size", 8, "--workers", 0, "--noplots"]
SIZE = ["--imgsz", 64]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A data yaml of 6 + 4 shapes, to be damaged; images and labels lie beside it."""
    root = make_shapes(tmp_path / "sets", train=6, val=4, size=64)
    text = {"train": "images/train", "val": "images/val", "names": list(NAMES)}
    (root / "data.yaml").write_text(yaml.safe_dump(text))
    return root / "data.yaml"


def label(shapes: Path, split: str, index: int = 0) -> Path:
    return sorted((shapes.parent / "labels" / split).glob("*.txt"))[index]


def image(shapes: Path, split: str, index: int = 0) -> Path:
    return sorted((shapes.parent / "images" / split).glob("[0-9]*.png"))[index]


@pytest.fixture
def calls(tiny_checkpoint: Path, pruned_tiny: Path, shapes: Path) -> dict[str, list]:
    """Options with which each command that looks at labels would run."""
    data = ["--data", shapes]
    return {
        "sparse": ["--weights", tiny_checkpoint, *data, *TRAIN],
        "slim": ["--weights", tiny_checkpoint, *data, *TRAIN, "--epochs", 2],
        "finetune": ["--weights", pruned_tiny, *data, *TRAIN],
        "prune": ["--weights", tiny_checkpoint, *data, *SIZE],
        "sensitivity": [tiny_checkpoint, *data, *SIZE],
        "val": ["--weights", tiny_checkpoint, *data, *SIZE],
    }


def call(command: str, argv: list) -> int:
    return run(command, [str(word) for word in argv])


@pytest.mark.parametrize("wrong", ["7", "7.5", "-1"])
def test_a_class_without_a_name(wrong, calls, shapes, refused) -> None:
    file = label(shapes, "val", 2)
    file.write_text(file.read_text() + f"{wrong} 0.5 0.5 0.1 0.1\n")
    for command, argv in calls.items():
        line = refused(command, *argv)
        assert f"{file}: class {wrong}, expected 0 to 3 (line " in line, command


def test_names_and_yamls_are_refused_before_anything_is_imported(shapes, tmp_path) -> None:
    """In one process, in which no command may have imported torch."""
    wrong = ["names: {0: a, 2: b}", "nc: 2\nnames: [a]", "names: [a]\n\tx: 1", "names: [a, '']"]
    for index, text in enumerate(wrong):
        yml = f"train: images/train\nval: images/val\n{text}\n"
        (shapes.parent / f"wrong{index}.yaml").write_text(yml)
    shutil.copy(shapes, shapes.parent / "wrong4.yaml")
    shutil.rmtree(shapes.parent / "images" / "val")
    program = f"""
import sys
from yolo_slim.cli import run
for index in range(5):
    data = ["--data", f"{shapes.parent}/wrong{{index}}.yaml"]
    for command in ("sparse", "slim", "finetune", "prune", "export", "val"):
        assert run(command, ["--weights", __file__, *data]) == 2, (command, index)
    assert run("sensitivity", [__file__, *data]) == 2
assert not {{"torch", "yolov5", "cv2"}} & sys.modules.keys()
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 35
    assert "class 1 has no name" in done.stderr
    assert "not there" in done.stderr


def test_no_label_that_can_be_read(calls, shapes, refused) -> None:
    for file in (shapes.parent / "labels" / "train").glob("*.txt"):
        file.write_text("0,0.5,0.5,0.1,0.1\n")
    for command in ("sparse", "slim", "finetune"):
        line = refused(command, *calls[command])
        assert "no label file of 6 can be read; " in line
        assert f"{label(shapes, 'train')}, line 1: '0,0.5,0.5,0.1,0.1' is no number" in line


@pytest.mark.parametrize("command", ["prune", "sensitivity"])
def test_a_criterion_that_needs_labels(command, tiny_checkpoint, shapes, empty_folder, capsys):
    """Labels are missing: told before the criterion looks at an image; another one needs none."""
    shutil.rmtree(shapes.parent / "labels" / "train")
    model = ["--weights"] * (command == "prune") + [str(tiny_checkpoint)]
    argv = [*model, "--data", str(shapes), "--imgsz", "64", "--criterion"]
    assert run(command, [*argv, "taylor"]) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert "no labels of 6 images, such as " in line and "expected an image with a label" in line
    assert "Pruning" not in told.out and "measured" not in told.out
    if command == "prune":
        assert run(command, [*argv, "thinet", "--dry-run"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "a cut by thinet needs none, a training does. Pruning " in text


def test_no_image_that_can_be_read(calls, shapes, refused) -> None:
    for file in (shapes.parent / "images" / "train").glob("*.png"):
        file.write_bytes(b"")
    for command in ("sparse", "slim", "finetune"):
        assert "images can be read with its label" in refused(command, *calls[command])
    assert "images can be read with its label" in refused("prune", *calls["prune"])
    for file in (shapes.parent / "images" / "train").glob("*.png"):
        file.write_bytes(image(shapes, "val").read_bytes())
    for file in (shapes.parent / "images" / "val").glob("*.png"):
        file.write_bytes(b"")
    for command, argv in calls.items():
        assert "val: " in refused(command, *argv)


def test_files_of_windows_are_trained_on(calls, shapes, empty_folder, capfd) -> None:
    """Byte order marks, CRLF, UTF-16; one file of six columns is left out with a line."""
    for index, encoding in enumerate(["utf-8-sig", "utf-16", "utf-8-sig", "utf-8-sig"]):
        file = label(shapes, "train", index)
        file.write_bytes(file.read_text().replace("\n", "\r\n").encode(encoding))
    bad = label(shapes, "train", 4)
    bad.write_text("0 0.5 0.5 0.1 0.1 0.9\n")
    shapes.write_bytes(shapes.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    assert call("sparse", calls["sparse"]) == 0
    text = capfd.readouterr()
    told = "train: 1 of 6 label files cannot be read, its image is left out: "
    assert f"{told}{bad}, line 1: 6 columns, not 5 (class x y w h)" in text.out
    assert "6 images, 0 backgrounds, 1 corrupt" in text.err


def test_single_cls_takes_any_class(calls, shapes, empty_folder) -> None:
    label(shapes, "val").write_text("9 0.5 0.5 0.2 0.2\n")
    assert call("sparse", [*calls["sparse"], "--single-cls"]) == 0


def test_an_image_that_cannot_be_read_is_skipped(
    calls, shapes, empty_folder, capfd, caplog
) -> None:
    """Of export, prune, val and detect; hidden files of macOS are not seen at all."""
    image(shapes, "val").write_bytes(b"no image")
    image(shapes, "train").write_bytes(b"")
    for split in ("train", "val"):
        (shapes.parent / "images" / split / "._0001.png").write_bytes(b"\0\5\x16\7")
    weights = calls["finetune"][:2]
    export = [*weights, "--data", shapes, *SIZE, "--repeats", 0, "--images", 3]
    assert call("export", [*export, "--include", "stock"]) == 0
    assert f"{image(shapes, 'val')}: not an image that OpenCV reads, skipped" in (
        capfd.readouterr().out
    )
    assert call("prune", calls["prune"]) == 0
    assert call("val", [*calls["val"], "--project", "val"]) == 0
    assert "3 images, 0 backgrounds, 1 corrupt" in capfd.readouterr().err
    source = ["--weights", weights[1], "--source", shapes.parent / "images" / "val"]
    assert call("detect", [*source, *SIZE, "--project", "detect", "--nosave"]) == 0
    assert f"skipped: {image(shapes, 'val')} cannot be read as an image" in caplog.text
    paths = [image(shapes, "val", i).rename(shapes.parent / f"a b{i}.png") for i in (1, 2)]
    Path("list.txt").write_bytes(("\ufeff" + "\r\n".join(map(str, paths))).encode())
    source = ["--weights", weights[1], "--source", "list.txt"]
    assert call("detect", [*source, *SIZE, "--project", "detect", "--nosave"]) == 0


def test_no_image_of_the_validation_can_be_read(calls, shapes, refused) -> None:
    for file in (shapes.parent / "images" / "val").glob("*.png"):
        file.write_bytes(b"no image")
    weights = calls["finetune"][:2]
    line = refused("export", *weights, "--data", shapes, *SIZE, "--repeats", 0)
    assert "none of 4 images can be read" in line
    source = ["--weights", weights[1], "--source", shapes.parent / "images" / "val", *SIZE]
    assert "none of 4 can be read" in refused("detect", *source, "--nosave")


def test_odd_pictures_are_read(calls, shapes, empty_folder) -> None:
    """16 bits, grey, CMYK, turned by EXIF, animated; 1 px and 9 px, which YOLOv5 leaves out."""
    from PIL import Image

    folder = shapes.parent / "images" / "val"
    colours = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
    cv2.imwrite(str(folder / "a16.png"), colours.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "b16grey.png"), colours[..., 0].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "cgrey.jpg"), colours[..., 0])
    Image.fromarray(np.dstack([colours, colours[..., 0]]), "CMYK").save(folder / "d.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours).save(folder / "e.jpg", exif=exif)
    frames = [Image.fromarray(colours), Image.fromarray(255 - colours)]
    frames[0].save(folder / "f.webp", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "g.gif", save_all=True, append_images=frames[1:])
    cv2.imwrite(str(folder / "h.png"), colours[:1, :1])
    cv2.imwrite(str(folder / "i.png"), colours[:9, :9])
    (folder / "j.heic").write_bytes(b"\0\0\0\x18ftypheic")
    weights = calls["finetune"][:2]
    export = [*weights, "--data", shapes, *SIZE, "--repeats", 0, "--images", 20]
    assert call("export", [*export, "--include", "stock"]) == 0
    assert call("val", [*calls["val"], "--project", "val"]) == 0


def test_val_of_a_split_that_is_not_there(calls, shapes, refused) -> None:
    line = refused("val", *calls["val"], "--task", "test")
    assert "no entry test" in line
    shutil.rmtree(shapes.parent / "images" / "val")
    for command in ("val", "prune", "sensitivity", "sparse"):
        assert "is not there" in refused(command, *calls[command])


def test_another_number_of_classes_starts_no_download(calls, shapes, refused) -> None:
    text = {"train": "none/t", "val": "none/v", "names": ["a"], "download": "open('ran', 'w')"}
    shapes.write_text(yaml.safe_dump(text))
    for command in ("finetune", "sensitivity", "val"):
        assert "1 class, expected the 4 of the model" in refused(command, *calls[command])
        assert not Path("ran").exists()


def test_numbers_of_a_hyp(calls, shapes, empty_folder) -> None:
    from yolo_slim.host.options import HYP

    text = HYP.read_text(encoding="utf-8").replace("lr0: 0.01", "lr0: 1e-2")
    text = text.replace("lrf: 0.01", "lrf: .1E-1").replace("momentum: 0.937", "momentum: +937e-3")
    Path("hyp.yaml").write_text(text)
    assert call("sparse", [*calls["sparse"], "--hyp", "hyp.yaml"]) == 0
    trained = yaml.safe_load(Path("runs/train/exp/hyp.yaml").read_text())
    assert (trained["lr0"], trained["lrf"], trained["momentum"]) == (0.01, 0.01, 0.937)


def test_numbers_of_a_model_yaml(tiny_yaml, empty_folder) -> None:
    from yolo_slim.models.model import build_model

    text = yaml.safe_dump(tiny_yaml).replace("depth_multiple: 0.33", "depth_multiple: 33e-2")
    text = text.replace("width_multiple: 0.25", "width_multiple: 2.5E-1").replace(
        "nc: 4", "nc: 4e0"
    )
    Path("model.yaml").write_text(text)
    plain = build_model(tiny_yaml)
    sizes = [p.shape for p in build_model("model.yaml").parameters()]
    assert sizes == [p.shape for p in plain.parameters()]


def test_home_in_any_path(calls, shapes, tiny_checkpoint, refused, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(shapes.parent))
    shutil.copy(tiny_checkpoint, shapes.parent / "tiny.pt")
    lines = [
        refused("prune", "--weights=~/none.pt"),
        refused("prune", "--weights=~/tiny.pt", "--budget", "~/none.csv"),
        refused("sparse", "--weights=~/tiny.pt", "--data", "~/none.yaml"),
        refused("sparse", "--weights=~/tiny.pt", "--hyp", "~/none.yaml"),
        refused("sparse", "--cfg", "~/none.yaml"),
        refused("finetune", "--weights=~/tiny.pt", "--teacher", "~/none.pt"),
        refused("export", "--weights=~/tiny.pt", "--dense", "~/none.pt"),
        refused("val", "--weights=~/none.pt", "--data", "~/data.yaml"),
        refused("detect", "--weights=~/tiny.pt", "--source", "~/none.png"),
        refused("inspect", "~/none.pt"),
    ]
    for line in lines:
        assert f"{shapes.parent}/none" in line, line
    assert "~" not in "".join(lines)


def test_calibrate_answers_in_one_line(shapes, tiny_checkpoint) -> None:
    model = load(tiny_checkpoint).model
    for wrong in (None, 5, {}, {"train": "x"}):
        with pytest.raises(InputError, match="data: "):
            calibrate(wrong, model, imgsz=64)
    with pytest.raises(InputError, match="none.yaml: no such file, expected a data yaml"):
        calibrate("none.yaml", model, imgsz=64)
    with pytest.raises(InputError, match="split: 'foo', expected one of train, val, test"):
        calibrate(shapes, model, imgsz=64, split="foo")
    with pytest.raises(InputError, match="no images"):
        calibrate(shapes, model, imgsz=64, split="test")
    assert calibrate(shapes, model, imgsz=64, images=99).source.startswith("6 of 6 images")
    image(shapes, "train", 3).write_bytes(b"")
    assert calibrate(str(shapes), model, imgsz=64, images=5).source.startswith("5 of 6 images")


@pytest.fixture
def foreign(shapes: Path) -> Path:
    """The data set with names that ASCII lacks: of its folder, images, yaml and classes."""
    root = shapes.parent.rename(shapes.parents[1] / "Bilder ä 图")
    for kind in ("images", "labels"):
        for file in sorted((root / kind).rglob("*.*")):
            file.rename(file.with_name(f"grün{file.name}"))
    text = "train: images/train\nval: images/val\nnames: [Kreis, Würfel, 三角, ✚]\n"
    (root / "Daten ü.yaml").write_bytes(text.encode())
    return root / "Daten ü.yaml"


IN_ASCII = """
import sys
from yolo_slim.cli import restart_in_utf8, run
restart_in_utf8()
for command, *argv in {calls}:
    print("command", command, flush=True)
    assert run(command, argv) == 0, command
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a locale C whose files are UTF-8")
def test_a_locale_without_utf8(foreign: Path, tiny_checkpoint: Path, empty_folder: Path) -> None:
    data, weights = ["--data", foreign], ["--weights", tiny_checkpoint]
    best = empty_folder / "runs/train/exp/weights/best.pt"
    calls = [
        ["sparse", *weights, *data, *TRAIN],
        ["prune", *weights, *data, *SIZE, "--criterion", "l2"],
        ["val", "--weights", best, *data, *SIZE, "--project", "val"],
    ]
    program = IN_ASCII.format(calls=[[str(word) for word in call] for call in calls])
    (empty_folder / "program.py").write_text(program, encoding="utf-8")
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    env |= {"PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "program.py"]
    done = subprocess.run(argv, cwd=empty_folder, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode("ascii")
    assert "Daten \\xfc.yaml: train and val are read from its own folder, " in text
    assert load(best).names == {0: "Kreis", 1: "Würfel", 2: "三角", 3: "✚"}
    assert "4 images, 0 backgrounds, 0 corrupt" in done.stderr.decode()
