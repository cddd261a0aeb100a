"""README.md and the pages in docs/: short paragraphs, links that lead somewhere, a glossary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from places import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST = 60  # words of a paragraph, or of an entry of a list
WORDS = """gamma, mask, tied, pinned, floor, residual mode, criterion, recovery, hints, parity,
    going back, dense, sparse, stock, MACs, mAP50-95, round-to"""


def paragraphs(page: Path) -> list[str]:
    """Of a page, without code, tables and headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = ["" if line.startswith(("    ", "|", "#")) else line for line in text.splitlines()]
    return re.split(r"\n\s*\n|\n(?=- |\d+\. )", "\n".join(lines))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_paragraph_is_long(page: Path) -> None:
    for text in paragraphs(page):
        assert len(text.split()) <= LONGEST, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, link


def test_the_glossary() -> None:
    page = ROOT / "docs" / "glossary.md"
    entries = re.findall(r"^\*\*(.+?)\.\*\* (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for name, _ in entries]
    assert names == sorted(names, key=str.lower)
    for word in map(str.strip, WORDS.split(",")):
        assert any(word.lower() in name.lower() for name in names), word
    for name, text in entries:
        assert len(re.findall(r"[.:](?= |$)", text)) <= 4, name
    for other in ("options.md", "how-it-works.md"):
        assert "(glossary.md)" in (page.parent / other).read_text(encoding="utf-8")
