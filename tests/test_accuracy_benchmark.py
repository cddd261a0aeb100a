"""The accuracy benchmark's bookkeeping: what is finished is kept, and stands in the page once."""

from __future__ import annotations

import json
from pathlib import Path

import accuracy
import pytest

CELL = {"macs": 0.448, "params": 0.4, "end": [0.9, 0.55], "before": None, "cut": None}


def test_a_finished_cell_is_kept(tmp_path: Path) -> None:
    calls = []

    def make() -> dict:
        calls.append(1)
        return CELL

    file = tmp_path / "ours-0.json"
    assert accuracy.once(file, make) == accuracy.once(file, make) == CELL
    assert calls == [1]


def test_a_cell_that_fails_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "ours-0.json"
    with pytest.raises(ZeroDivisionError):
        accuracy.once(file, lambda: {"end": 1 / 0})
    assert not file.exists()


def test_tables_of_what_is_finished(tmp_path: Path) -> None:
    """Each seed is shown, and their mean; a method without a finished seed is left out."""
    for name, seed, end in (("dense", 0, 0.59), ("ours", 0, 0.56), ("ours", 2, 0.58)):
        cell = CELL | {"end": [0.9, end]}
        if name == "ours":
            cell |= {"before": [0.8, 0.4], "cut": [0.7, 0.3]}
        (tmp_path / f"{name}-{seed}.json").write_text(json.dumps(cell))
    (tmp_path / "ours-sparse-0.json").write_text(json.dumps(CELL))
    lines = accuracy.bccd_table(tmp_path).splitlines()
    assert len(lines) == 5 and "torch-pruning" not in "".join(lines)
    assert lines[3] == (
        "| yolo-slim slim | 44.8% | 40.0% | 0.800 → 0.700, 0.800 → 0.700 | 0.560, 0.580 | 0.570 |"
    )


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    """Twice the same; the rest of the page stays."""
    page = tmp_path / "results.md"
    page.write_text(
        "# A\n\n<!-- accuracy bccd -->\nold\n<!-- accuracy bccd end -->\n\nB\n\n"
        "<!-- accuracy coco --><!-- accuracy coco end -->\nC\n"
    )
    (tmp_path / "dense-0.json").write_text(json.dumps(CELL))
    for half in (0, 1):
        file = tmp_path / f"coco-640-ours-0.9-{half}.json"
        file.write_text(json.dumps({"macs": 0.9, "dense": 0.5, "map50": 0.4 + half / 10}))
    accuracy.write_tables(page, tmp_path, [640])
    text = page.read_text()
    accuracy.write_tables(page, tmp_path, [640])
    assert page.read_text() == text
    assert "old" not in text and text.startswith("# A\n\n") and text.endswith("\nC\n")
    assert "dense, not cut" in text and "**0.450** (0.400, 0.500)" in text and "\n\nB\n" in text


def test_the_real_page_has_the_marks() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "results.md").read_text()
    for name in ("bccd", "coco"):
        assert text.count(f"<!-- accuracy {name} -->") == 1
        assert text.count(f"<!-- accuracy {name} end -->") == 1
