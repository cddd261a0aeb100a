"""What we read of a data yaml, and count as its images, is what the host's loader takes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from layouts import BOX, LAYOUTS, extensions, hidden, picture, several, symbolic_link_below, yaml_of
from yolov5.utils import general
from yolov5.utils.dataloaders import LoadImagesAndLabels

from yolo_slim import InputError
from yolo_slim.host.data import check_data, check_nc, images, labelled, read_data
from yolo_slim.host.data_yaml import read_data_yaml
from yolo_slim.host.images import labels_of
from yolo_slim.host.sightings import ReadableImages


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_images_are_those_of_the_host(layout: Callable[[Path], object], here: Path) -> None:
    entry = layout(here)
    data = read_data(yaml_of(train=entry, val=entry))
    ours = images(data, "val")
    loader = LoadImagesAndLabels(data["val"], img_size=32, batch_size=4, workers=0)
    assert sorted(set(map(str, ours))) == sorted(loader.im_files)
    assert len(set(ours)) == LAYOUTS[layout]
    assert sorted(set(labels_of(ours))) == sorted(loader.label_files)
    with_labels = layout not in (hidden, extensions)
    assert labelled(data, "val") == with_labels
    found = sum(map(len, loader.labels))
    if layout is symbolic_link_below:  # its label is looked for below labels/val/linked
        found += 1
    assert found == (len(ours) if with_labels else 0) or layout is several


def test_a_label_that_is_edited_to_the_same_size_is_read_anew(here: Path) -> None:
    image = picture("images/val/a.png")
    data = read_data(yaml_of(train="images/val", val="images/val"))

    def classes() -> list[float]:
        return LoadImagesAndLabels(data["val"], img_size=32, workers=0).labels[0][:, 0].tolist()

    assert classes() == [0]
    kept = image.parents[1].with_name("labels") / "val.cache"
    first = kept.stat().st_mtime_ns
    assert classes() == [0]
    assert kept.stat().st_mtime_ns == first  # read from the cache
    label = Path(labels_of(images(data))[0])
    label.write_text("3" + BOX[1:])
    os.utime(label, ns=(first + 10**9, first + 10**9))
    assert classes() == [3]


def test_no_image_that_can_be_read(here: Path) -> None:
    picture("images/val/a.png").write_bytes(b"")
    data = read_data(yaml_of(train="images/val", val="images/val"))
    for _ in range(2):  # also when the host has written its cache
        with pytest.raises(InputError, match="none of 1 image can be used .a.png: "):
            LoadImagesAndLabels(data["val"], img_size=32, workers=0)


@pytest.mark.parametrize("suffix", ["bmp", "tif", "webp", "jpg", "png"])
def test_an_image_that_ends_early_is_left_out(suffix: str, here: Path) -> None:
    picture("images/val/a.png")
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    content = cv2.imencode(f".{suffix}", noise)[1].tobytes()
    Path(f"images/val/b.{suffix}").write_bytes(content[: len(content) // 2])
    data = read_data(yaml_of(train="images/val", val="images/val"))
    loader = LoadImagesAndLabels(data["val"], img_size=32, workers=0)
    assert [Path(file).name for file in loader.im_files] == ["a.png"]


NAMES = {
    "[no, yes]": ["no", "yes"],
    "[on, Off, null, ~, 7, 1.50, 2020-01-01, 0x10, 1e3]": [
        *("on", "Off", "null", "~", "7", "1.50", "2020-01-01", "0x10", "1e3")
    ],
    "{0: no, 1: 2}": ["no", "2"],
    "{'0': cat, '1': dog}": ["cat", "dog"],
    "{1: dog, 0: cat}": ["cat", "dog"],
    "[cat, cat]": ["cat", "cat"],
    "[Bär, 猫]": ["Bär", "猫"],
}


@pytest.mark.parametrize("text", NAMES)
def test_names_are_the_words_as_written(text: str, here: Path) -> None:
    Path("data.yaml").write_text(f"train: .\nval: .\nnames: {text}\n", encoding="utf-8")
    data = read_data("data.yaml")
    assert list(data["names"].items()) == list(enumerate(NAMES[text]))
    assert data["nc"] == len(NAMES[text])


def test_classes_of_one_name_are_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    Path("same.yaml").write_text("train: .\nval: .\nnames: [cat, dog, cat]\n")
    read_data("same.yaml")
    told = capsys.readouterr().out
    assert "same.yaml: classes 0 and 2 have one name, cat; each stays a class" in told


WRONG = {
    'names: [a]\npath: "a\\0b"': "path: 'a.x00b', expected a folder",
    'names: [a]\ntest: ["a\\0b"]': "test: .'a.x00b'., expected a folder of images",
    "names: {0: a, 1: b, 3: c}": "classes 0, 1, 3, expected 0 to 2: class 2 has no name",
    "names: {1: a, 2: b}": "classes 1, 2, expected 0 to 1: class 0 has no name",
    "names: {cat: 0}": "names: 'cat': '0', expected class numbers, as in 0: car",
    "names: {raccoon, cat}": "expected class numbers, as in 0: car",
    "names: [a, '']": "names: no name of class 1, expected a name for each class",
    "names:\n- a\n-\n": "names: no name of class 1",
    "names: [a, [b]]": r"names: \['b'\] of class 1",
    "names: coco.names": "names: 'coco.names', expected a list of names; a file",
    "names: 4": "names: 4",
    "names: []": "no entry names",
    "nc: 3": "no entry names, .*nc: 3 does not say what they are called",
    "nc: 3\nnames: [raccoon]": "nc: 3, and names for 1 .raccoon., expected nc: 1",
    "nc: [1]\nnames: [a]": r"nc: \[1\], and names for 1",
    "names: {0: a, 0: b}": "'0' twice, in lines 3 and 3",
    "names: [a]\ntrain: x": "'train' twice, in lines 1 and 4",
    "names: [a]\n\tnc: 1": r"not yaml .line 4: .*a tab; yaml takes spaces",
    "names: [a": "not yaml .line ",
    "names: [a]\nval2: {": "not yaml .line ",
    "names: [a]\ntest: 5": "test: 5, expected a folder of images",
    "names: [a]\ntest: [5]": r"test: \[5\], expected a folder of images",
    "names: [a]\npath: 5": "path: 5, expected a folder",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_refused_in_a_data_yaml(text: str, here: Path) -> None:
    file = Path("data.yaml")
    file.write_text(f"train: .\nval: .\n{text}\n")
    with pytest.raises(InputError, match=WRONG[text]) as error:
        read_data(file)
    assert str(error.value).startswith("data.yaml: ")


@pytest.mark.parametrize("bom", [b"\xef\xbb\xbf", b"", "utf-16"])
def test_yamls_of_windows_are_read(bom: bytes | str, here: Path) -> None:
    text = "train: .\r\nval: .\r\ntest:\r\nnc: 1\r\nnames: [Bär]\r\n"
    content = text.encode(bom) if isinstance(bom, str) else bom + text.encode()
    Path("data.yaml").write_bytes(content)
    assert read_data("data.yaml")["names"] == {0: "Bär"}
    Path("data.yaml").write_bytes(text.encode("cp1252"))
    assert read_data("data.yaml")["names"] == {0: "Bär"}


def test_equal_keys_that_agree_are_read(here: Path) -> None:
    Path("data.yaml").write_text("train: .\nval: .\nval: .\nnames: [a]\n")
    assert read_data("data.yaml")["val"] == str(here)


def test_no_val_and_no_file(here: Path) -> None:
    Path("data.yaml").write_text("train: .\nnames: [a]\n")
    with pytest.raises(InputError, match="no entry val"):
        read_data("data.yaml")
    with pytest.raises(InputError, match="none.yaml: no such file"):
        read_data("none.yaml")
    with pytest.raises(InputError, match="a folder, expected a data yaml"):
        read_data(here)


def roboflow(root: Path) -> None:
    """As it exports: train/images and valid/images beside a yaml that says ../train/images."""
    picture(root / "train/images/a.png")
    picture(root / "valid/images/b.png")
    names = {"nc": 1, "names": ["a"]}
    text = yaml.safe_dump({"train": "../train/images", "val": "../valid/images", **names})
    (root / "data.yaml").write_text(text)


def test_a_yaml_of_roboflow_is_read_from_anywhere(here, monkeypatch, capsys) -> None:
    """Its `../` is one too many; YOLOv5's reading holds where the user stands beside it."""
    roboflow(here / "sets" / "cells")
    monkeypatch.chdir(here / "sets" / "cells")
    data = read_data("data.yaml")
    assert capsys.readouterr().out == ""
    monkeypatch.chdir(here)
    again = read_data("sets/cells/data.yaml")
    assert {k: again[k] for k in ("train", "val")} == {k: data[k] for k in ("train", "val")}
    told = capsys.readouterr().out
    assert told.startswith("sets/cells/data.yaml: train and val are read from its own folder, ")
    assert again["val"] == str(here / "sets/cells/valid/images")
    loader = LoadImagesAndLabels(again["val"], img_size=32, workers=0)
    assert [len(label) for label in loader.labels] == [1]


def test_paths_as_written_beside_the_yaml(here, monkeypatch) -> None:
    """The same yaml in a folder of its own: then `../` is right."""
    roboflow(here / "cells")
    (here / "cells" / "yamls").mkdir()
    shutil.move(here / "cells" / "data.yaml", here / "cells" / "yamls" / "data.yaml")
    assert read_data("cells/yamls/data.yaml")["train"] == str(here / "cells/train/images")


def test_the_reading_of_yolov5_comes_first(here, monkeypatch, capsys) -> None:
    roboflow(here / "one")
    roboflow(here / "two")
    monkeypatch.chdir(here / "two")
    assert read_data("../one/data.yaml")["val"] == str(here / "two/valid/images")
    assert "own folder" not in capsys.readouterr().out


def test_a_path_of_another_machine(here, capsys) -> None:
    roboflow(here / "cells")
    file = here / "cells" / "data.yaml"
    file.write_text("path: /content/elsewhere\ntrain: train/images\nval: valid/images\nnames: [a]")
    assert read_data(file)["val"] == str(here / "cells/valid/images")
    assert "are read from its own folder" in capsys.readouterr().out


def test_half_of_a_data_set_is_not_mixed_with_another(here, monkeypatch) -> None:
    """val alone lies where the user stands: the yaml's own folder has both."""
    roboflow(here / "cells")
    picture(here / "valid/images/other.png")
    data = read_data("cells/data.yaml")
    assert [data["train"], data["val"]] == [
        str(here / "cells/train/images"),
        str(here / "cells/valid/images"),
    ]


def test_paths_of_windows(here) -> None:
    picture("images/val/a.png")
    assert images(read_data(yaml_of(train="images\\val", val=["images\\val"])))


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_of_another_encoding_are_left_out(here, monkeypatch, capfd) -> None:
    """OpenCV ends the process on them."""
    monkeypatch.setattr(general.LOGGER, "disabled", True)  # no report can hold such a name
    picture("images/val/a.png")
    shutil.copy("images/val/a.png", os.fsdecode(b"images/val/gr\xfcn.png"))
    data = read_data(yaml_of(train="images/val", val="images/val"))
    loader = LoadImagesAndLabels(data["val"], img_size=32, workers=0)
    assert [Path(file).name for file in loader.im_files] == ["a.png"]
    assert [Path(file).name for file in ReadableImages(data["val"]).files] == ["a.png"]
    capfd.readouterr()


def test_the_smallest_image(here) -> None:
    for side in (1, 9, 10):
        cv2.imwrite(str(picture(f"images/val/{side}.png")), np.zeros((side, side, 3), np.uint8))
    data = read_data(yaml_of(train="images/val", val="images/val"))
    loader = LoadImagesAndLabels(data["val"], img_size=32, workers=0)
    assert [Path(file).name for file in loader.im_files] == ["10.png"]


def test_a_list_of_images_to_look_at(here) -> None:
    paths = [picture("images/a b.png"), picture("images/ü.png")]
    Path("list.txt").write_bytes(("\ufeff" + "\r\n".join(map(str, paths))).encode())
    assert ReadableImages("list.txt").files == sorted(map(str, paths))


def test_home(here, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    roboflow(here / "cells")
    assert read_data("~/cells/data.yaml")["val"] == str(here / "cells/valid/images")
    yaml_of(path="~/cells", train="train/images", val=["valid/images", "~/cells/train/images"])
    data = read_data("data.yaml")
    assert data["train"] == str(here / "cells/train/images")
    assert data["val"] == [str(here / "cells" / k / "images") for k in ("valid", "train")]


def test_nothing_is_downloaded_before_the_classes_are_compared(here) -> None:
    script = "open('ran', 'w').write('x')"
    file = yaml_of(train="none/train", val="none/val", download=script)
    with pytest.raises(InputError, match="1 class, expected the 4 of the model"):
        check_data(file, 4)
    assert not Path("ran").exists()
    with pytest.raises(InputError, match="val: .*none/val is not there"):
        check_data(file, 1)
    assert Path("ran").exists()


def test_splits(here) -> None:
    picture("images/val/a.png")
    file = yaml_of(train="images/none", val="images/val", test="")
    assert check_data(file)["val"] == str(here / "images/val")
    with pytest.raises(InputError, match="train: .*images/none is not there"):
        check_data(file, splits=("train",))
    with pytest.raises(InputError, match="no entry test"):
        check_data(file, splits=("test",))
    with pytest.raises(InputError, match="split: 'foo', expected one of train, val, test"):
        images(read_data(file), "foo")
    check_nc(read_data_yaml(file), 1, file)


def test_lines_that_name_no_file(here, capsys) -> None:
    """YOLOv5 takes `a.png` from where the user stands, and `./a.png` from the text file."""
    picture("sets/images/a.png")
    Path("sets/val.txt").write_text("images/a.png\n")
    file = yaml_of(train="sets/val.txt", val="sets/val.txt")
    with pytest.raises(InputError, match="val: none of 1 image is there, such as images/a.png"):
        check_data(file)
    Path("sets/val.txt").write_text("./images/a.png\nimages/a.png\n")
    check_data(file)
    assert "val: 1 image not there, such as images/a.png" in capsys.readouterr().out
