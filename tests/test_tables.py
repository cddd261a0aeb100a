"""One table each for criteria, recovery parts and formats: help and docs say what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import yolo_slim
from yolo_slim.cli import run
from yolo_slim.deploy.formats import FORMATS
from yolo_slim.late import function_at
from yolo_slim.pruning.criteria.score import function_of as criterion_function
from yolo_slim.pruning.criteria.table import AUTO, CRITERIA, Criterion
from yolo_slim.pruning.recover.table import ALL, PARTS

DOCS = Path(__file__).parents[1] / "docs"


def rows_of(page: str, head: str) -> list[list[str]]:
    """The cells of the rows of a table of the docs, which begins with this header."""
    lines = (DOCS / page).read_text().split(head, 1)[1].splitlines()[2:]
    lines = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.replace(r"\|", "").split("|")[1:-1]] for line in lines]


def names_in(cell: str) -> list[str]:
    """The names of a first cell: before what is said in brackets."""
    return re.findall(r"`([\w-]+)`", cell.partition(" (")[0])


def test_docs_of_criteria() -> None:
    rows = rows_of("choosing.md", "| `--criterion` |")
    names = [name for row in rows for name in names_in(row[0])]
    assert names == [AUTO, *(name for name, row in CRITERIA.items() if row.ours)]
    for row in rows[1:]:
        assert {CRITERIA[name].data for name in names_in(row[0])} == {row[2] == "yes"}


def test_docs_of_recovery() -> None:
    rows = rows_of("recovery.md", "| part |")
    assert [name for row in rows for name in names_in(row[0])] == list(PARTS)
    assert [row[1] == "yes" for row in rows] == [part.data for part in PARTS.values()]
    assert tuple(PARTS)[: len(ALL)] == ALL  # "all is the first three"


@pytest.mark.parametrize("command", ["prune", "export"])
def test_help(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run(command, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    ours = {name: row for name, row in CRITERIA.items() if row.ours}  # others may be there too
    tables = [ours, PARTS] if command == "prune" else [FORMATS]
    for name, row in ((n, r) for table in tables for n, r in table.items()):
        assert f"{name} ({row.help}" in text


def test_a_users_help_may_hold_a_percent_sign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(CRITERIA, "ten", Criterion("ten", print, "the top 10% of |gamma|"))
    with pytest.raises(SystemExit):
        run("prune", ["--help"])
    assert "ten (the top 10% of |gamma|)" in " ".join(capsys.readouterr().out.split())


def test_every_row_has_its_functions() -> None:
    for row in CRITERIA.values():
        assert callable(criterion_function(row))
    for part in PARTS.values():
        assert callable(function_at("yolo_slim.pruning.recover", part.home))
    for row in FORMATS.values():
        assert callable(function_at("yolo_slim.deploy", row.writer))
        assert callable(function_at("yolo_slim.deploy", row.runner))


def test_what_a_table_names_does_not_import_the_table() -> None:
    """No circle by names either, which the contract of imports does not see."""
    for table, homes in (
        ("pruning/criteria", [row.home for row in CRITERIA.values() if row.ours]),
        ("pruning/recover", [part.home for part in PARTS.values()]),
        ("deploy", [home for row in FORMATS.values() for home in (row.writer, row.runner)]),
    ):
        folder = Path(yolo_slim.__file__).parent / table
        for name in {home.partition(".")[0] for home in homes}:
            text = (folder / f"{name}.py").read_text()
            place = table.replace("/", ".")
            assert f"{place}.table import" not in text and f"{place}.formats import" not in text
