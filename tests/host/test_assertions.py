"""What YOLOv5 raises comes in our words, and what is a fault of the program stays one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from yolo_slim.cli import run
from yolo_slim.host.assertions import TABLE, in_our_words, is_hosts
from yolo_slim.host.compat import mend

mend()

from yolov5.models.common import DetectMultiBackend  # noqa: E402
from yolov5.utils import dataloaders, general, torch_utils  # noqa: E402


def raised(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Exception:
    with pytest.raises(Exception) as error:
        call(*args, **kwargs)
    return error.value


def test_of_the_loaders(tmp_path: Path, shapes_yaml: Path) -> None:
    """With the colours that their prefixes have."""
    images = tmp_path / "images"
    images.mkdir()
    prefix = general.colorstr("train: ")
    load = dataloaders.LoadImagesAndLabels
    line = in_our_words(raised(load, str(images), prefix=prefix), "training")
    assert str(line).startswith(f"{images}: cannot be loaded (") and "\x1b" not in str(line)
    source = next((shapes_yaml.parent / "shapes" / "images" / "val").iterdir())
    (images / "a.png").write_bytes(source.read_bytes())
    error = raised(load, str(images), augment=True, prefix=prefix)
    line = in_our_words(error, "training")
    assert is_hosts(error) and line.parts[1] == "no labels for any training image"
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("")
    (tmp_path / "labels.cache").unlink()
    line = in_our_words(raised(load, str(images), augment=True, prefix=prefix), "training")
    assert line.parts[1] == "no object in any training image"
    line = in_our_words(raised(dataloaders.LoadImages, str(tmp_path / "labels")), "detect")
    assert str(line).startswith(f"--source {tmp_path / 'labels'}: no images or videos there")
    line = in_our_words(raised(dataloaders.LoadImages, "/nope"), "detect")
    assert str(line) == "/nope: no such file or folder, expected an image, a video or a folder"
    line = in_our_words(raised(dataloaders.LoadStreams, "77"), "detect")
    assert str(line) == "--source 77: cannot be opened, expected a camera or a stream"


def test_of_the_rest() -> None:
    for call, args, expected in (
        (torch_utils.select_device, ("7",), "--device: 7, expected a GPU that is there, or cpu"),
        (general.check_file, ("nope.yaml",), "nope.yaml: no such file, expected a file that is"),
        (general.non_max_suppression, (None, 2.0), "--conf-thres: 2.0, expected a number from 0"),
        (general.non_max_suppression, (None, 0.5, 2), "--iou-thres: 2, expected a number from 0"),
        (DetectMultiBackend, ("a_web_model",), "YOLOv5's val: "),
    ):
        error = raised(call, *args)
        if isinstance(error, FileNotFoundError):  # of ours, in the place of a download
            continue
        assert is_hosts(error) and str(in_our_words(error, "val")).startswith(expected), error


def test_a_text_that_is_in_no_table() -> None:
    line = in_our_words(AssertionError(general.colorstr("red", "bold", "odd") + " \u274c"), "val")
    assert str(line) == "YOLOv5's val: odd, expected options and data that it can use (see --help)"


def test_what_is_no_word_to_a_user() -> None:
    """An assertion of ours, and an error of Python in YOLOv5, end in a traceback."""
    assert not is_hosts(raised(lambda: [][1]))
    assert not is_hosts(raised(our_assertion))
    assert not is_hosts(raised(general.check_img_size, "x"))


def our_assertion() -> None:
    raise AssertionError


def test_rows_use_the_groups_that_they_have() -> None:
    for pattern, parts in TABLE:
        used = {int(number) for part in parts for number in re.findall(r"{(\d)}", part)}
        assert used <= set(range(1, re.compile(pattern).groups + 1)), pattern


def test_a_training_without_labels(
    shapes_yaml: Path, tiny_checkpoint: Path, empty_folder: Path, capfd: pytest.CaptureFixture
) -> None:
    """One line, and no folder of a run."""
    for split in ("train", "val"):
        folder = empty_folder / "bare" / "images" / split
        folder.mkdir(parents=True)
        source = shapes_yaml.parent / "shapes" / "images" / split
        for file in list(source.iterdir())[:4]:
            (folder / file.name).write_bytes(file.read_bytes())
    data = {"path": str(empty_folder / "bare"), "train": "images/train", "val": "images/val"}
    Path("bare.yaml").write_text(yaml.safe_dump({**data, "names": list("abcd")}))
    argv = ["--weights", str(tiny_checkpoint), "--data", "bare.yaml", "--img", "64"]
    assert run("sparse", [*argv, "--epochs", "1", "--workers", "0"]) == 2
    text = capfd.readouterr().err
    assert "no label" in text.strip().splitlines()[-1] and "Traceback" not in text
    assert not (empty_folder / "runs" / "train" / "exp").exists()
