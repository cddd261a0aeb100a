"""The page as text: complete in itself, escaped, and without what a run does not have."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import CLASSES, HOSTILE, bare_page, drawn_picture, hostile_page, sample_page

from yolo_slim.page import figures, html, plots, write
from yolo_slim.page.html import render
from yolo_slim.page.model import Page, Shown, Tally

VOID = {"meta", "link", "img", "input", "br"}
CARRIERS = ("src", "href", "srcset", "action", "data", "poster", "style")
MODEL = Shown("as it is", "best.pt", 100, 1000, 5000)


class Reader(HTMLParser):
    """Elements, their attributes and their texts; fails where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts = list[str](), list[tuple[str, dict]](), dict[str, str]()
        self.words = list[str]()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            kind = self.tags[-1][1].get("id", self.open[-1])
            self.texts[kind] = self.texts.get(kind, "") + data
        else:
            self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def sections(text: str) -> list[str]:
    """Ids of the sections."""
    return [a["id"] for tag, a in Reader(text).tags if tag == "section"]


def test_a_page_holds_all_that_it_needs() -> None:
    text = render(sample_page())
    reader = Reader(text)
    for tag, attributes in reader.tags:
        for name in CARRIERS:
            value = attributes.get(name)
            assert value is None or re.match(r"data:(image/jpeg;base64,|,)|#", value), (tag, value)
    assert (reader.count("script"), reader.count("style"), reader.count("link")) == (2, 1, 1)
    assert not re.search(r"@import|url\((?!#)", reader.texts["style"])
    code = reader.texts["script"].replace("http://www.w3.org/2000/svg", "")
    assert not re.search(
        r"https?:|fetch\(|XMLHttpRequest|import\(|WebSocket|innerHTML|eval\(", code
    )


def test_the_policy_admits_this_script_and_this_style_alone() -> None:
    reader = Reader(render(sample_page()))
    policy = next(a["content"] for _, a in reader.tags if "http-equiv" in a)
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for kind in ("script", "style"):
        digest = hashlib.sha256(reader.texts[kind].encode()).digest()
        assert parts[f"{kind}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert (parts["default-src"], parts["img-src"]) == ("'none'", "data:")


def test_each_image_is_in_the_file_once() -> None:
    page = sample_page(pictures=5)
    text = render(page)
    for picture in page.pictures:
        assert text.count(base64.b64encode(picture.jpeg).decode()) == 1


def test_a_page_of_many_layers_and_classes_stays_small() -> None:
    names = tuple(f"class {n}" for n in range(80))
    page = sample_page(classes=names, layers=200, cuts=3, masks=True, pictures=2)
    images = sum(4 * len(picture.jpeg) / 3 for picture in page.pictures)
    assert len(render(page).encode()) - images < 1_500_000


def test_names_with_markup_are_text() -> None:
    plain, text = (
        render(sample_page(classes=HOSTILE, pictures=3, layers=12)),
        render(hostile_page()),
    )
    reader, other = Reader(text), Reader(plain)
    assert [tag for tag, _ in reader.tags if tag in ("script", "img", "style")] == [
        tag for tag, _ in other.tags if tag in ("script", "img", "style")
    ]
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    for name in HOSTILE:
        assert any(name in words for words in "".join(reader.words).split("\n"))
    assert not re.search("[<>&\u2028\u2029]", reader.texts["data"])
    assert json.loads(reader.texts["data"])["compare"]["classes"] == list(HOSTILE)


def test_names_of_files_that_are_no_text_can_be_written() -> None:
    picture = replace(drawn_picture(0, 1, 3), name="half\udcff.jpg")
    text = render(replace(sample_page(), pictures=(picture,), title="a\udcffb"))
    assert "half?.jpg" in text and "a?b" in text
    text.encode("utf-8")


def test_all_sections_stand_in_the_bar_and_on_the_page() -> None:
    text = render(sample_page())
    there = sections(text)
    assert there == [
        "verdict",
        "curve",
        "pictures",
        "models",
        "classes",
        "cuts",
        "trainings",
        "weights",
        "scans",
        "ancestry",
        "made",
    ]
    links = [a["href"] for tag, a in Reader(text).tags if tag == "a"]
    assert links == ["#main", *(f"#{name}" for name in there[1:])]


EMPTIES = {
    "pictures": "pictures",
    "cuts": "cuts",
    "trainings": "trainings",
    "histograms": "weights",
    "scans": "scans",
    "ancestry": "ancestry",
    "made": "made",
}


@pytest.mark.parametrize("field", EMPTIES)
def test_what_is_empty_is_left_out(field: str) -> None:
    text = render(replace(sample_page(), **{field: ()}))
    assert EMPTIES[field] not in sections(text)
    assert f'"#{EMPTIES[field]}"' not in text


def test_next_to_nothing_is_a_page() -> None:
    assert sections(render(bare_page())) == ["verdict", "models"]
    assert sections(render(Page("title", "verdict", ()))) == ["verdict"]
    assert sections(render(replace(sample_page(), curve=None, classes=()))).count("curve") == 0


def test_one_model_has_no_changes() -> None:
    page = replace(sample_page(), models=sample_page().models[:1], cuts=())
    page = replace(page, pictures=tuple(replace(p, found=p.found[:1]) for p in page.pictures))
    text = render(page)
    assert 'class="change' not in text
    assert "Before and after" not in "".join(Reader(text).words)


def test_models_that_were_not_run_on_a_picture() -> None:
    picture = drawn_picture(1, 3, 3)
    page = replace(
        sample_page(), pictures=(replace(picture, found=(None, picture.found[1], None)),)
    )
    reader = Reader(render(page))
    data = json.loads(reader.texts["data"])
    assert "Before and after" not in "".join(reader.words)  # one of them alone was run
    assert [found is None for found in data["compare"]["pictures"][0]["found"]] == [
        True,
        False,
        True,
    ]


def test_what_is_no_number_is_not_measured() -> None:
    nan, infinite = float("nan"), float("inf")
    page = sample_page()
    models = (replace(MODEL, map=nan, ms=infinite), replace(MODEL, map=0.5, ms=2.0))
    reader = Reader(render(replace(page, models=models)))
    assert not re.search(r"NaN|Infinity|\bnan\b|\binf\b", reader.texts["data"])
    assert not re.search(r"\bnan\b|\binf\b", "".join(reader.words))


def test_the_verdict_and_the_notes_are_there_as_they_are() -> None:
    reader = Reader(render(sample_page()))
    words = " ".join("".join(reader.words).split())
    assert sample_page().verdict in words and sample_page().notes[0] in words


def test_changes_have_a_sign_and_an_arrow() -> None:
    assert figures.points(0.6, 0.614) == figures.Change("▲ +1.4", "good", 0.014)
    assert figures.points(0.6, 0.595) == figures.Change("▼ −0.5", "bad", -0.005)
    assert figures.points(0.6, 0.6004) == figures.Change("±0.0", "even")
    assert figures.points(None, 0.6) is None
    assert figures.factor(10.0, 4.0) == figures.Change("▼ to 40.0%", "good", -0.6)
    assert figures.factor(10.0, 11.0) == figures.Change("▲ to 110.0%", "bad", pytest.approx(0.1))
    assert figures.factor(10.0, 10.0) == figures.Change("100.0%", "even")
    assert figures.factor(0, 3.0) is None


def test_the_key_figures() -> None:
    first = replace(MODEL, params=1_765_270, macs=10**9, bytes=3_870_000, ms=10.4, map=0.6)
    last = replace(MODEL, params=688_400, macs=459 * 10**6, bytes=1_600_000, ms=6.2, map=0.595)
    tiles = figures.tiles(Page("", "", (first, last)))
    assert [(tile.name, tile.before, tile.after) for tile in tiles] == [
        ("mAP50-95", "0.600", "0.595"),
        ("Latency", "10.4", "6.2 ms"),
        ("MACs", "1", "0.459 G"),
        ("Parameters", "1.77 M", "688 k"),
        ("File", "3.87", "1.6 MB"),
    ]
    assert [tile.after for tile in figures.tiles(Page("", "", (MODEL,)))] == [
        "1e-06 G",
        "0.1 k",
        "0.005 MB",
    ]


def test_steps_are_compared_with_what_was_kept() -> None:
    steps = [("cut", 0.5, 0.3, True), ("weights", 0.4, 0.2, False), ("statistics", 0.6, 0.4, True)]
    changes = [map_.change and map_.change.text for _, map_, _, _ in figures.step_rows(steps)]
    assert changes == [None, "▼ −10.0", "▲ +10.0"]


def test_the_tallies_are_those_of_all_images() -> None:
    models = (
        replace(MODEL, tally=Tally(1040, 0, 0, 88, 1138)),
        replace(MODEL, tally=Tally(1018, 34, 12, 74, 1138)),
    )
    page = replace(sample_page(), models=models, looked=(64, 870), threshold=0.3)
    words = " ".join("".join(Reader(render(page)).words).split())
    assert (
        "Counts over 64 of 870 validation images: boxes with a confidence of 0.3 or more" in words
    )
    rows = re.findall(r"1,138\s*(.*?)</tr>", render(page), re.DOTALL)
    cells = [re.findall(r">([^<>]+)</td>", row) for row in rows]
    assert cells == [["1,040", "–", "–", "88"], ["1,018", "34", "12", "74"]]


def test_plots_have_the_values_that_were_measured() -> None:
    page = sample_page()
    cut, training = page.cuts[0], page.trainings[0]
    layers = plots.layers_plot(cut)
    assert layers["series"][1]["values"] == [layer.kept for layer in cut.layers]
    assert plots.steps_plot(cut)["names"][:2] == ["before the cut", "cut"]
    panel = plots.training_plot(training, "mAP", training.panels["mAP"])
    assert panel["series"][1]["values"] == list(training.panels["mAP"][1].values)
    assert panel["marks"] == [[8.5, "back to epoch 7"], [16.5, "stronger: sr x 2"]]
    gone = next(h for h in page.histograms if None in h.counts)
    assert plots.histogram_plot(gone, page)["series"][1] is None
    scan = plots.scan_plot(page.scans[0])
    assert scan["columns"][:2] == ["10%", "20%"] and scan["values"][7][7] is None
    assert page.curve is not None
    assert [s["name"] for s in plots.curve_plot(page.curve)["series"]] == list(
        plots.FAMILIES.values()
    )


def test_the_script_can_stand_in_a_page() -> None:
    """Nothing in it ends its element, and each of its files is in it."""
    text = "\n".join(html._template(name) for name in (*html.SCRIPTS, *html.STYLES))
    assert not re.search("</(script|style)|<!--", text, re.IGNORECASE)
    there = {file.name for file in html.TEMPLATES.iterdir() if file.suffix in (".js", ".css")}
    assert there == {*html.SCRIPTS, *html.STYLES}


def test_class_rows_follow_the_classes() -> None:
    rows = figures.class_rows(sample_page())
    assert [row[0] for row in rows] == list(CLASSES)
    name, objects, ap, ap50 = rows[1]
    assert (objects.text, ap[0].text, ap50[0].text) == ("350", "0.550", "0.830")


def test_a_page_that_would_be_too_large_shows_fewer_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = sample_page(pictures=8)
    monkeypatch.setattr(write, "page_of", lambda *_, **__: page)
    whole = write.write_page([], tmp_path / "a.html").stat().st_size
    few = len(render(replace(page, pictures=page.pictures[:2])).encode())
    monkeypatch.setattr(write, "MOST", few)
    assert write.write_page([], tmp_path / "a.html").stat().st_size == few < whole
