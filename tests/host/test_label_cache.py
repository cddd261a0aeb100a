"""A labels.cache that somebody else made: read as data, or not at all; nothing of it runs."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from yolo_slim import InputError
from yolo_slim.cli import run
from yolo_slim.host import label_cache
from yolo_slim.host.data import read_data
from yolo_slim.host.loading import dataloaders


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


@pytest.fixture
def own_data(shapes_yaml: Path, tmp_path: Path) -> Path:
    """The shapes in a folder of their own, for a cache to be written in it."""
    shutil.copytree(shapes_yaml.parent / "shapes", tmp_path / "shapes")
    for file in (tmp_path / "shapes").rglob("*.cache"):
        file.unlink()
    data = yaml.safe_load(shapes_yaml.read_text()) | {"path": str(tmp_path / "shapes")}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "own.yaml"


def loaded(file: Path) -> Any:
    """The host's loader of the validation images."""
    return dataloaders.LoadImagesAndLabels(read_data(file)["val"], 64, workers=0)


def cache_of(file: Path) -> Path:
    return file.parent / "shapes" / "labels" / "val.cache"


def write(file: Path, value: Any) -> None:
    """As the host writes it."""
    with file.open("wb") as content:
        np.save(content, np.array(value, dtype=object))


def test_a_cache_is_read_as_it_was_written(own_data: Path) -> None:
    first = loaded(own_data)
    file = cache_of(own_data)
    expected, ours = np.load(file, allow_pickle=True).item(), label_cache.read_cache(file)
    assert ours.keys() == expected.keys() and ours["hash"] == expected["hash"]
    for image in first.im_files:
        (labels, *rest), (others, *same) = ours[image], expected[image]
        assert rest == same and labels.dtype == others.dtype and np.array_equal(labels, others)
    written = file.stat().st_mtime_ns
    again = loaded(own_data)
    assert file.stat().st_mtime_ns == written  # it was used
    assert all(np.array_equal(a, b) for a, b in zip(first.labels, again.labels, strict=True))


PLACES = ["the whole", "an entry", "a label", "the dtype", "a bare pickle"]


@pytest.mark.parametrize("place", PLACES)
def test_a_cache_with_code(place: str, own_data: Path, capfd: pytest.CaptureFixture) -> None:
    expected, marker = loaded(own_data).labels, own_data.with_name("marker")
    file, call = cache_of(own_data), Call(os.system, f"touch {marker}")
    good = np.load(file, allow_pickle=True).item()
    first = next(key for key in good if key.endswith(("jpg", "png")))
    if place == "the whole":
        write(file, call)
    elif place == "an entry":
        write(file, good | {"more": [call]})
    elif place == "a label":
        write(file, good | {first: [call, *good[first][1:]]})
    elif place == "the dtype":
        write(file, good | {first: [Call(np.ndarray, (1,), call), *good[first][1:]]})
    else:
        file.write_bytes(pickle.dumps(call))
    labels = loaded(own_data).labels
    assert not marker.exists()
    assert all(np.array_equal(a, b) for a, b in zip(labels, expected, strict=True))
    assert label_cache.read_cache(file)["hash"]  # written anew
    told = f"{file}: not used, the labels are read anew (it: names posix.system"
    assert (told in capfd.readouterr().err) == (place != "a bare pickle")


@pytest.mark.parametrize("value", [[1, 2], "text", None, 5, {}, {"version": 0.6}])
def test_a_cache_of_other_things(value: Any, own_data: Path) -> None:
    expected = loaded(own_data).labels
    write(cache_of(own_data), value)
    labels = loaded(own_data).labels
    assert all(np.array_equal(a, b) for a, b in zip(labels, expected, strict=True))


def test_a_cache_that_changes_what_reads_it(tmp_path: Path) -> None:
    """A pickle may give a state to what it names: to none of our functions."""
    for name in label_cache.KNOWN:
        module, _, title = name.rpartition(".")
        state = b"N}\x8c\x0c__defaults__)s\x86b."  # (None, {"__defaults__": ()}) to BUILD
        with (tmp_path / "odd.cache").open("wb") as content:
            np.lib.format.write_array_header_1_0(
                content, {"descr": "|O", "fortran_order": False, "shape": ()}
            )
            content.write(b"\x80\x04c" + f"{module}\n{title}\n".encode() + state)
        with pytest.raises(Exception):  # noqa: B017 (whatever it is, the labels are read anew)
            label_cache.read_cache(tmp_path / "odd.cache")
    assert label_cache.scalar.__defaults__ is None


def test_an_array_of_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, os.system], dtype=object))
    with pytest.raises(InputError, match="names posix.system|expected arrays of numbers"):
        label_cache.load(tmp_path / "a.npy", allow_pickle=True)


def test_val_with_a_foreign_cache(
    own_data: Path, tiny_checkpoint: Path, empty_folder: Path
) -> None:
    marker = own_data.with_name("marker")
    write(cache_of(own_data), Call(os.system, f"touch {marker}"))
    argv = ["--weights", str(tiny_checkpoint), "--data", str(own_data), "--imgsz", "64"]
    assert run("val", [*argv, "--workers", "0", "--batch-size", "8"]) == 0
    assert not marker.exists()
