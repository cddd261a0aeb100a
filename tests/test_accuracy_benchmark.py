"""The accuracy benchmarks' bookkeeping: what is finished is kept, and stands in the page once."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import accuracy
import pytest
import untrained
from _common import put_between
from _rows import Cell, Row, table

CELL = Cell("bccd", 60, "slim", 0.45, 1, 0)
ROW = Row(**asdict(CELL), map50=0.9, map=0.55, macs_left=0.448, params_left=0.4)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data is copied: nothing is trained here."""
    monkeypatch.setattr(accuracy, "data_set", lambda name, root: root / f"{name}.yaml")
    return tmp_path


def test_a_finished_cell_is_kept(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a row at once, and is not run again."""
    calls = []
    monkeypatch.setitem(
        accuracy.METHODS, "slim", lambda w: calls.append(w.cell) or work / "best.pt"
    )
    monkeypatch.setattr(accuracy.Work, "row", lambda self, end: ROW)
    file = work / "rows.csv"
    assert [accuracy.once(CELL, work, file) for _ in range(2)] == [ROW, ROW]
    assert calls == [CELL] and accuracy.read_rows(file) == [ROW]
    other = replace(CELL, seed=1)
    monkeypatch.setattr(accuracy.Work, "row", lambda self, end: replace(ROW, seed=1))
    accuracy.once(other, work, file)
    assert calls == [CELL, other] and len(accuracy.read_rows(file)) == 2


def test_a_cell_that_fails_is_not_kept(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(accuracy.METHODS, "slim", lambda w: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        accuracy.once(CELL, work, work / "rows.csv")
    assert not (work / "rows.csv").exists()


def test_the_first_seed_decides_the_learning_rate() -> None:
    """Also where the other one is better on another seed; other experiments do not count."""
    rows = [
        replace(ROW, times=times, seed=seed, map=value)
        for times, seed, value in ((1, 0, 0.5), (2, 0, 0.6), (1, 1, 0.9), (2, 1, 0.55))
    ]
    rows.append(replace(ROW, macs=0.3, map=0.99))
    found = accuracy.chosen(rows, "bccd", 60, "slim", 0.45)
    assert [(row.times, row.seed, row.map) for row in found] == [(2, 0, 0.6), (2, 1, 0.55)]
    assert accuracy.chosen(rows, "bccd", 60, "dense", 1.0) == []


def test_tables_of_what_is_finished() -> None:
    """Each seed is shown, their mean, and what is lost; what has no finished run is left out."""
    dense = replace(ROW, method="dense", macs=1.0, macs_left=1.0, params_left=1.0, map=0.6)
    rows = [dense, ROW, replace(ROW, seed=1, map=0.57, params_left=0.41)]
    lines = table(rows, "bccd").splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 60 | dense, not cut | 100.0% | 100.0% | x 1 | 0.600 | 0.600 |")
    assert lines[3] == (
        "| 60 | yolo-slim slim | 44.8% | 41.0% | x 1 | 0.550, 0.570 | 0.560 | 0.020 | -4.0 |"
    )
    assert table(rows, "cards").count("\n") == 1


def test_the_rows_that_are_committed() -> None:
    """Each is a cell of the benchmark, and there once."""
    rows = accuracy.read_rows(accuracy.ROWS)
    known = set(accuracy.experiments(accuracy.SETS))
    assert all((r.data, r.epochs, r.method, r.macs) in known for r in rows)
    cells = [(r.data, r.epochs, r.method, r.macs, r.times, r.seed) for r in rows]
    assert len(cells) == len(set(cells))
    assert all(0 < r.map < 1 and not r.map50 <= r.map for r in rows)  # some map50 are NaN
    assert all(r.macs_left <= r.macs for r in rows)


def test_the_page_has_the_tables_of_the_rows() -> None:
    """docs/results.md is what --write makes of docs/accuracy.csv."""
    text = PAGE.read_text()
    rows = accuracy.read_rows(accuracy.ROWS)
    for data in accuracy.SETS:
        content = table(rows, data)
        assert f"<!-- accuracy {data} -->\n{content}\n<!-- accuracy {data} end -->" in text


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    """Twice the same; the rest of the page stays."""
    page = tmp_path / "results.md"
    page.write_text("# A\n\n<!-- accuracy coco -->\nold\n<!-- accuracy coco end -->\nC\n")
    for half in (0, 1):
        file = tmp_path / f"coco-640-ours-0.9-{half}.json"
        file.write_text(json.dumps({"macs": 0.9, "dense": 0.5, "map50": 0.4 + half / 10}))
    put_between(page, "coco", untrained.coco_table(tmp_path, 640))
    text = page.read_text()
    put_between(page, "coco", untrained.coco_table(tmp_path, 640))
    assert page.read_text() == text
    assert "old" not in text and text.startswith("# A\n\n") and text.endswith("\nC\n")
    assert "**0.450** (0.400, 0.500)" in text
    assert PAGE.read_text().count("<!-- accuracy coco -->") == 1
