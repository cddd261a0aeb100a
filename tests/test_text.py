"""Tables and sentences fit the screen, and lose nothing for it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_slim.text import PAPER, cells, fold, shortened, table

WORDS = st.text("abc/.-_ 猫é", min_size=1, max_size=30).map(str.strip)
FIGURES = st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,3})?( ms|%)?", fullmatch=True)


def squeezed(text: str) -> str:
    """A text without spaces and rules."""
    return "".join(text.replace("-" * 5, "").split())


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 14), st.integers(1, 4), st.integers(40, 120))
def test_a_table_fits_and_holds_every_cell(data, columns, rows, width) -> None:
    head = [data.draw(WORDS) for _ in range(columns)]
    body = [[data.draw(WORDS if i == 0 else FIGURES) for i in range(columns)] for _ in range(rows)]
    text = table(head, body, width=width)
    assert max(map(cells, text.splitlines())) <= width
    for row in body:
        for cell in row[1:]:
            assert cell in text  # a figure stands in one line
    if rows == 1 and columns > 1:
        assert all(letter in squeezed(text) for letter in squeezed(body[0][0]))


def test_a_wide_table_folds_headings_then_words_then_columns() -> None:
    head, row = ["layer", "median ms", "why it stays"], ["model.10.cv1", "12.5", "in a block"]
    assert table(head, [row], width=60).splitlines()[0] == "layer         median ms  why it stays"
    folded = table(head, [row], width=34).splitlines()
    assert [line.split() for line in folded[:2]] == [
        ["median", "why", "it"],
        ["layer", "ms", "stays"],
    ]
    assert folded[3] == "model.10.cv1    12.5  in a block"
    many = table(["", *[f"number {i}" for i in range(9)]], [["a", *["1,234,567"] * 9]], width=40)
    blocks = many.strip().split("\n\n")
    assert len(blocks) == 3 and all(block.splitlines()[-1].startswith("a ") for block in blocks)


def test_sentences_are_folded_between_words() -> None:
    path = "/a/very/long/path" * 6
    text = fold(f"The file is {path}, which no line may break.\nshort", 80)
    assert path in text
    assert " ".join(text.split()) == f"The file is {path}, which no line may break. short"
    assert fold("as it  is", 80) == "as it  is"


def test_a_long_name_keeps_its_end() -> None:
    assert shortened("runs/finetune/exp12/weights/best.pt", 20) == ".../weights/best.pt"
    assert shortened("best.pt", 20) == "best.pt"
    assert cells(shortened("猫" * 30, 20)) <= 20


def test_width_is_that_of_the_terminal_and_eighty_where_there_is_none() -> None:
    code = "from yolo_slim.text import screen_width; print(screen_width())"
    wide = os.environ | {"COLUMNS": "132"}
    piped = subprocess.run([sys.executable, "-c", code], env=wide, capture_output=True, text=True)
    assert int(piped.stdout) == PAPER
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], env=wide, stdout=theirs, check=True)
    os.close(theirs)
    assert int(os.read(ours, 100)) == 132
    os.close(ours)


def test_a_terminal_without_a_letter_ends_no_command(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "猫.pt"
    file.write_bytes(tiny_checkpoint.read_bytes())
    options = ["--weights", str(file), "--criterion", "l2", "--imgsz", "64", "--dry-run"]
    code = f"from yolo_slim.cli import run; run('prune', {options!r})"
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    argv = [sys.executable, "-c", code]
    end = subprocess.run(argv, env=ascii_only, cwd=tmp_path, capture_output=True, text=True)
    assert end.returncode == 0, end.stderr
    assert "\\u732b.pt" in end.stdout
