"""The examples in docstrings run, and give what stands there."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from yolo_slim import (
    SparsityPenalty,
    calibrate,
    channel_graph,
    criterion,
    load,
    prune,
    rule,
    save,
)
from yolo_slim.channels.rules import RULES
from yolo_slim.pruning.criteria.table import CRITERIA

PACKAGE = Path(import_module("yolo_slim").__file__).parent
MODULES = sorted(
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if "    >>> " in file.read_text()
)
PUBLIC = (load, channel_graph, prune, save, SparsityPenalty, criterion, rule, calibrate)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What an example registers holds for that example."""
    tables = (RULES, CRITERIA)
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def test_public_functions_have_examples() -> None:
    """What a program begins with."""
    for each in PUBLIC:
        assert "    >>> " in (each.__doc__ or ""), each


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(name))
    assert result.attempted and not result.failed
