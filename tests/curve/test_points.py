"""curve.csv: what is written is read back, to the bit, and what is damaged is one line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from curves import BENT, SIZES, made_up

from yolo_slim.curve.job import network_of
from yolo_slim.curve.points import Point, ordered, parsed, read_curve, write_curve
from yolo_slim.errors import InputError
from yolo_slim.growing_csv import line

CURVE = made_up(BENT, SIZES, {"runs/slim/a, b": (5.0, 0.48)})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_curve(tmp_path / "curve.csv", CURVE.settings, CURVE.points)


def test_what_is_written_is_read_back(written: Path) -> None:
    curve = read_curve(written)
    assert (curve.points, curve.settings) == (CURVE.points, CURVE.settings)
    assert read_curve(written.parent) == curve
    assert (curve.timed, curve.by, curve.dense.label) == (True, "macs", "dense")
    assert [len(curve.of(f)) for f in ("dense", "cut", "size", "trained")] == [1, 4, 3, 1]


def test_to_the_last_bit_and_without_times(tmp_path: Path) -> None:
    odd = replace(CURVE.points[1], latency=None, spread=None, map=0.1 + 0.2, predicted=1 / 3)
    points = (CURVE.points[0], odd)
    curve = read_curve(write_curve(tmp_path / "curve.csv", CURVE.settings, points))
    assert curve.points == points and not curve.timed
    assert curve.points[1].time == 1 / 3
    with pytest.raises(ValueError, match="0.9: not timed yet"):
        _ = replace(odd, predicted=None).time


def test_a_line_without_its_end_is_dropped(written: Path) -> None:
    written.write_bytes(written.read_bytes() + b"cut,0.2,0.19,320,18")
    assert read_curve(written).points == CURVE.points


def test_the_order(written: Path) -> None:
    runs = ["b", "a"]
    last = [replace(CURVE.points[-1], label=name) for name in ("a", "b")]
    mixed = [*last, *CURVE.points[7:0:-1], CURVE.points[0]]
    expected = [p.label for p in CURVE.points[:-1]] + runs
    assert [p.label for p in ordered(mixed, runs)] == expected


def test_the_table() -> None:
    text = str(CURVE)
    assert "cut to 0.9" in text and "92%" in text and "0.490" in text
    untimed = [replace(p, latency=None) for p in CURVE.points]
    assert "of the time" not in str(replace(CURVE, points=tuple(untimed)))


DAMAGE = {
    "not a curve": lambda text: "family,label\n",
    "not a curve ": lambda text: text.replace("# imgsz: 320\n", ""),
    "other columns": lambda text: text.replace("family,label", "label,family"),
    "no point": lambda text: text[: text.index("dense,dense")],
    "line 15: 'cut,0.9": lambda text: re.sub("dense,dense.*\n", "", text),
    "line 16: 'cut,x": lambda text: text.replace("cut,0.9", "cut,x"),
    "line 16: 'cut,0.9,0.9,0,": lambda text: text.replace("cut,0.9,0.9,320", "cut,0.9,0.9,0"),
    "line 16: 'cut,0.9,nan": lambda text: text.replace("cut,0.9,0.9", "cut,0.9,nan"),
    "line 17: 'cut,0.9": lambda text: text.replace("cut,0.7", "cut,0.9"),
    "line 16: ''": lambda text: text.replace("cut,0.9", "\ncut,0.9"),
    "line 16: 'other": lambda text: text.replace("cut,0.9", "other,0.9"),
}


@pytest.mark.parametrize("expected", DAMAGE)
def test_a_damaged_file(expected: str, written: Path) -> None:
    text = written.read_text()
    written.write_text(DAMAGE[expected](text))
    assert written.read_text() != text
    with pytest.raises(InputError, match=re.escape(expected.strip())):
        read_curve(written)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file, expected a curve.csv of"):
        read_curve(tmp_path)


def test_a_line_is_a_point() -> None:

    for one in CURVE.points:
        assert isinstance(one, Point) and parsed(line(one).strip()) == one


def test_files_of_networks_are_told_apart() -> None:
    """Whatever the names of the folders are, and however long."""
    labels = ["runs/a b", "runs/a_b", "runs/" + 300 * "x", "0.5"]
    files = {network_of(Path("run"), ("trained", label)) for label in labels}
    assert len(files) == len(labels)
    assert all(len(file.name) < 40 for file in files)


def test_odd_ends_of_lines_in_a_name(tmp_path: Path) -> None:
    curve = made_up(BENT, SIZES, {"runs/u\u2028\x0b\x85v": (5.0, 0.48)})
    file = write_curve(tmp_path / "curve.csv", curve.settings, curve.points)
    assert read_curve(file).points == curve.points
