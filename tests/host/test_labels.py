"""The pass over label files judges each as the host's own check does, and is never stale."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_slim import InputError
from yolo_slim.host import data as sets
from yolo_slim.host import labels
from yolo_slim.host.label_faults import faults
from yolo_slim.host.labels import BOXES, EMPTY, MISSING, MIXED, OUTLINES, UNREADABLE
from yolo_slim.host.loading import open_text, verify_image_label

BOX = "0 0.5 0.5 0.2 0.2"
OUTLINE = "0 0.1 0.1 0.9 0.1 0.5 0.9"
CONTENTS = {
    "boxes": (f"{BOX}\n1 0.1 0.1 0.1 0.1\n", BOXES),
    "tabs": (BOX.replace(" ", "\t"), BOXES),
    "trailing spaces": (f"{BOX}   \n  \n{BOX[:-1]}3 \n\n", BOXES),
    "byte order mark": (b"\xef\xbb\xbf" + BOX.encode(), BOXES),
    "CRLF": (f"{BOX}\r\n1 0.1 0.1 0.1 0.1\r\n", BOXES),
    "CR": (f"{BOX}\r1 0.1 0.1 0.1 0.1\r", BOXES),
    "UTF-16": (BOX.encode("utf-16"), BOXES),
    "1e-3": ("0 5e-1 .5 1e-3 1.E-1", BOXES),
    "0.0": ("0.0 0.5 0.5 0.1 0.1", BOXES),
    "full width": ("０ ０.５ 0.5 0.1 0.1", BOXES),
    "duplicates": (f"{BOX}\n{BOX}\n", BOXES),
    "1.00000005": ("0 0.5 0.5 1.00000005 1", BOXES),
    "-1e-60": ("0 -1e-60 0.5 0.1 -0.0", BOXES),
    "empty": ("", EMPTY),
    "spaces": ("  \n\t\n", EMPTY),
    "outlines": (f"{OUTLINE}\n{OUTLINE} 0.2 0.3\n", OUTLINES),
    "outline outside": ("0 -0.05 0.1 0.9 0.1 0.5 0.9", OUTLINES),
    "outline far outside": ("0 -0.5 0.1 0.9 0.1 0.5 0.9 0.1 0.1", UNREADABLE),
    "mixed": (f"{OUTLINE}\n{BOX}\n", MIXED),
    "odd outline": (f"{OUTLINE} 0.4", UNREADABLE),
    "a class beside outlines": (f"{OUTLINE}\n0\n", UNREADABLE),
    "six columns": (f"{BOX} 0.9", UNREADABLE),
    "four columns": ("0 0.5 0.5 0.1", UNREADABLE),
    "ragged": (f"{BOX}\n{BOX} 0.9", UNREADABLE),
    "commas": (BOX.replace(" ", ","), UNREADABLE),
    "comma and space": (BOX.replace(" ", ", "), UNREADABLE),
    "semicolons": (BOX.replace(" ", ";"), UNREADABLE),
    "text": (f"class x y w h\n{BOX}", UNREADABLE),
    "nan": ("0 nan 0.5 0.1 0.1", UNREADABLE),
    "nan as class": ("nan 0.5 0.5 0.1 0.1", UNREADABLE),
    "inf": ("0 inf 0.5 0.1 0.1", UNREADABLE),
    "pixels": ("0 320 240 64 48", UNREADABLE),
    "1.0001": ("0 0.5 0.5 0.1 1.0001", UNREADABLE),
    "negative": ("0 -0.1 0.5 0.1 0.1", UNREADABLE),
    "NUL": (BOX.encode() + b"\0\0", UNREADABLE),
    "Latin-1": (BOX.encode() + b" # gr\xfcn", UNREADABLE),
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture with a place for its label beside it."""
    file = tmp_path / "images" / "a.png"
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(file), np.full((20, 20, 3), 99, np.uint8))
    return file


def write(image: Path, content: str | bytes) -> Path:
    file = image.parents[1] / "labels" / "a.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def host_keeps(image: Path, file: Path) -> tuple[bool, int]:
    """Whether the host takes the image with its label, and how many rows."""
    taken, rows, *_ = verify_image_label((str(image), str(file), ""))
    return taken is not None, 0 if rows is None else len(rows)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_label_file_is_judged_as_by_the_host(name: str, image: Path) -> None:
    content, kind = CONTENTS[name]
    file = write(image, content)
    label = labels.judge_file(str(file))
    assert label.kind == kind
    kept, rows = host_keeps(image, file)
    assert kept == (kind != UNREADABLE)
    assert (rows > 0) == (kind in (BOXES, OUTLINES, MIXED))
    fault = next(faults(str(file), None), None)
    assert (fault is not None) == (kind == UNREADABLE)


WORDS = st.sampled_from(["0", "1", "0.5", "1.0", "-0.1", "1.2", "nan", "inf", "x", "1e-3", "7.5"])
ROWS = st.lists(st.lists(WORDS, min_size=1, max_size=8), max_size=3)


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_any_rows_are_judged_as_by_the_host(made: Path, rows: list[list[str]]) -> None:
    file = write(made, "\n".join(map(" ".join, rows)))
    label = labels.judge_file(str(file))
    if any(float(row[0]) < 0 for row in rows if row[0] not in ("x", "nan")):
        return  # a negative class is an error of ours
    assert host_keeps(made, file)[0] == (label.kind != UNREADABLE), rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As `image`, for all examples."""
    root = tmp_path_factory.mktemp("rows")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    file = root / "images" / "a.png"
    cv2.imwrite(str(file), np.full((20, 20, 3), 99, np.uint8))
    yield file


@pytest.mark.parametrize("name", ["byte order mark", "CRLF", "CR", "UTF-16", "trailing spaces"])
def test_the_host_reads_the_boxes_that_stand_there(name: str, image: Path) -> None:
    file = write(image, CONTENTS[name][0])
    rows = verify_image_label((str(image), str(file), ""))[1]
    np.testing.assert_allclose(sorted(rows.tolist())[0][:3], [0, 0.5, 0.5])
    assert open_text(str(file)).read().startswith("0 0.5 0.5")


@pytest.mark.parametrize("wrong", ["7", "7.5", "-1", "3", "2.5", "1e9", "inf"])
def test_a_class_that_has_no_name_is_named(wrong: str, image: Path) -> None:
    file = write(image, f"{BOX}\n\n{wrong} 0.5 0.5 0.1 0.1\n")
    data = {"nc": 3, "val": str(image.parent)}
    with pytest.raises(InputError) as error:
        sets.check_labels(data, ("val",))
    text = f"{file}: class {wrong}, expected 0 to 2 (line 3; the data yaml has 3 names)"
    assert str(error.value) == text
    if wrong != "-1":  # which YOLOv5 drops
        sets.check_labels(data, ("val",), single_cls=True)  # all are class 0 to the host then


def test_what_is_dropped_is_told(image: Path, capsys: pytest.CaptureFixture) -> None:
    file = write(image, f"{BOX}\n{BOX} 0.9\n")
    data = {"nc": 1, "val": str(image.parent)}
    cv2.imwrite(str(image.with_name("b.png")), np.full((20, 20, 3), 99, np.uint8))
    sets.check_labels(data, ("val",))
    told = capsys.readouterr().out
    assert told.startswith("val: 1 of 2 label files cannot be read, its image is left out: ")
    assert f"{file}, line 2: 6 columns, not 5 (class x y w h)" in told
    with pytest.raises(InputError, match="no label file of 1 can be read; .*line 2: 6 columns"):
        sets.check_labels(data, ("val",), needed=("val",))


@pytest.mark.parametrize("content", ["", None])
def test_a_split_needs_a_label(content: str | None, image: Path) -> None:
    if content is not None:
        write(image, content)
    data = {"nc": 1, "train": str(image.parent)}
    with pytest.raises(InputError, match="empty or missing|no labels of 1 image,"):
        sets.check_labels(data, ("train",), needed=("train",))
    sets.check_labels(data, ("train",))


def test_a_split_needs_an_image_that_can_be_read(image: Path) -> None:
    write(image, BOX)
    data = {"nc": 1, "train": str(image.parent)}
    sets.check_labels(data, ("train",), needed=("train",))
    image.write_bytes(b"no image")
    with pytest.raises(InputError, match="none of 1 image can be read with its label"):
        sets.check_labels(data, ("train",), needed=("train",))
    with pytest.raises(InputError, match="none of 1 image can be .* .a.png: not an image"):
        sets.check_labels(data, ("train",))


def test_a_folder_is_no_label(image: Path, capsys: pytest.CaptureFixture) -> None:
    (image.parents[1] / "labels" / "a.txt").mkdir()
    sets.check_labels({"nc": 1, "val": str(image.parent)}, ("val",))
    assert "is a folder, no label file" in capsys.readouterr().out
    assert host_keeps(image, image.parents[1] / "labels" / "a.txt") == (True, 0)


def test_boxes_are_no_outlines(image: Path) -> None:
    data = {"nc": 1, "val": str(image.parent)}
    for content, right in ((OUTLINE, True), (BOX, False), (f"{OUTLINE}\n{BOX}", False)):
        write(image, content)
        if right:
            sets.check_labels(data, ("val",), outlines=True)
            continue
        with pytest.raises(InputError, match="a box .*, expected an outline"):
            sets.check_labels(data, ("val",), outlines=True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read all files")
def test_a_label_that_may_not_be_read(image: Path) -> None:
    file = write(image, BOX)
    file.chmod(0)
    assert labels.judge_file(str(file)).kind == UNREADABLE
    assert "Permission denied" in str(next(faults(str(file), None)))


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Label files that are old enough to be kept."""
    monkeypatch.setattr(labels, "KEPT_FROM", 3)
    for i in range(5):
        file = tmp_path / f"{i}.txt"
        file.write_text(BOX)
        os.utime(file, ns=(10**18 + i, 10**18 + i))
    return [str(tmp_path / f"{i}.txt") for i in range(5)]


def test_results_are_kept_until_a_file_changes(many, tmp_path, monkeypatch) -> None:
    kept = tmp_path / "kept.json"
    first = labels.read_labels(many, kept)
    judged: list[str] = []
    judge = labels.judge_file
    monkeypatch.setattr(labels, "judge_file", lambda file: judged.append(file) or judge(file))
    assert labels.read_labels(many, kept) == first
    assert judged == []
    Path(many[1]).write_text("1" + BOX[1:])  # the same size, another time
    Path(many[2]).write_text(BOX + " 1")  # another size, the same time
    os.utime(many[2], ns=(10**18 + 2, 10**18 + 2))
    again = labels.read_labels(many, kept)
    assert judged == many[1:3]
    assert (again[1].top, again[2].kind) == (1, UNREADABLE)
    Path(many[3]).unlink()
    assert labels.read_labels(many, kept)[3].kind == MISSING


def test_what_was_just_written_is_read_again(many, tmp_path) -> None:
    now = time.time_ns()
    Path(many[0]).write_text(BOX)
    os.utime(many[0], ns=(now, now))
    labels.read_labels(many, tmp_path / "kept.json")
    Path(many[0]).write_text("1" + BOX[1:])  # within what a disk's clock can tell
    os.utime(many[0], ns=(now, now))
    assert labels.read_labels(many, tmp_path / "kept.json")[0].top == 1


@pytest.mark.parametrize("content", ["{}", "[", "[1]", '{"version": 1, "files": [1]}', "\0"])
def test_a_foreign_file_in_its_place_is_not_taken(content, many, tmp_path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(content)
    assert {label.kind for label in labels.read_labels(many, kept)} == {BOXES}
    assert labels.read_kept(kept).keys() == set(many)


def test_no_place_to_keep_results(many) -> None:
    assert len(labels.read_labels(many, Path("/proc/no/kept.json"))) == 5


def test_the_same_from_several_processes(many, monkeypatch) -> None:
    one = labels.read_labels(many)
    monkeypatch.setattr(labels, "SHARED_FROM", 2)
    assert labels.read_labels(many) == one


def test_a_label_in_another_case_is_told(image: Path, capsys: pytest.CaptureFixture) -> None:
    write(image, BOX).rename(image.parents[1] / "labels" / "a.TXT")
    data = {"nc": 1, "val": str(image.parent)}
    sets.check_labels(data, ("val",))
    told = capsys.readouterr().out
    assert "val: 1 label file with another case at the end, such as " in told
    assert "a.txt: mAP will be 0" in told
    with pytest.raises(InputError, match=r"no labels of 1 image, .*a.txt \(a.TXT is there\)"):
        sets.check_labels(data, ("val",), needed=("val",))


def test_a_class_beyond_the_only_one(image: Path) -> None:
    write(image, "1 0.5 0.5 0.2 0.2")
    expected = r"expected 0 \(line 1; the data yaml has 1 name\)"
    with pytest.raises(InputError, match=expected):
        sets.check_labels({"nc": 1, "train": str(image.parent)}, ("train",))
