"""`make docs`: the pages become a site, each link leads somewhere, and no other host is asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree
from urllib.parse import urlsplit

import pytest
from places import ROOT

pytest.importorskip("mkdocs", reason='the site needs pip install -e ".[docs]"')
pytest.importorskip("material", reason='the site needs pip install -e ".[docs]"')

PAGES = sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))
SOURCES = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


def build(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), *argv],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Requests(HTMLParser):
    """What a browser asks for when it opens a page: scripts, styles, icons, pictures."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("rel") in ("next", "prev", "canonical"):  # no request, only words about it
            return
        address = values.get(SOURCES.get(tag, ""))
        self.addresses += [address] if address else []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    nav = text[text.index('<nav class="md-nav md-nav--primary') :]
    nav = nav[: nav.index('<div class="md-content"')]
    places = {address.partition("#")[0] for address in re.findall(r'href="([^"]+)"', nav)}
    for page in PAGES:
        name = "index.html" if page == "index.md" else page.removesuffix(".md") + ".html"
        assert (site / name).is_file()
        assert name in places or page == "index.md" and places & {"index.html", "."}, page


def test_no_other_host_is_asked(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)  # 404.html, and those from outside of docs/
    for page in pages:
        addresses = Requests(page).addresses
        assert any(address.endswith(".css") for address in addresses)
        for address in addresses:
            parts = urlsplit(address)
            assert not parts.scheme and not parts.netloc, f"{page.name}: {address}"
            if page.name != "404.html":  # it may be shown at any depth
                assert (page.parent / parts.path).is_file(), f"{page.name}: {address}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", text), style.name


def test_the_search_knows_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {entry["location"].partition("#")[0] for entry in index["docs"]}
    script = (site / "search" / "search_index.js").read_text(encoding="utf-8")  # for file://
    assert json.loads(script.removeprefix("var __index = ")) == index
    assert {page.removesuffix(".md") + ".html" for page in PAGES if page != "index.md"} <= places


def test_light_and_dark_follow_the_system(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    media = re.findall(r'data-md-color-media="([^"]*)"', text)
    schemes = re.findall(r'<input[^>]*data-md-color-scheme="(\w+)"', text)
    assert media == [
        "(prefers-color-scheme)",
        "(prefers-color-scheme: light)",
        "(prefers-color-scheme: dark)",
    ]
    assert {"default", "slate"} <= set(schemes)


@pytest.mark.parametrize("link", ["[a](no-page.md)", "[a](options.md#no-heading)", "[a](/at-root)"])
def test_a_link_that_leads_nowhere_ends_the_build(link: str, tmp_path: Path) -> None:
    """With the settings of the site, in a copy with one more sentence."""

    for name in ("docs", "examples"):
        copytree(ROOT / name, tmp_path / name)
    for name in ("mkdocs.yml", "CHANGELOG.md", "CONTRIBUTING.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    with (tmp_path / "docs" / "files.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    done = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode == 1 and "files.md" in done.stderr
