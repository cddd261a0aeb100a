"""The page in a real browser: it asks nobody, runs nothing of others, and can be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from chromium import Browser
from pages import HOSTILE, bare_page, hostile_page, sample_page, sample_training

from yolo_slim.page.html import render
from yolo_slim.page.model import Curve, CurvePoint, Histogram, Page, Series

pytest_plugins = ("chromium",)
CONTROL = "<!doctype html><title>control</title><img src='http://images.invalid/a.png'>"


def test_the_log_shows_a_request(browser: Browser) -> None:
    browser.open(CONTROL)
    assert "http://images.invalid/a.png" in browser.requests()
    assert any("ERR_NAME_NOT_RESOLVED" in error for error in browser.errors())


@pytest.mark.parametrize("page", [sample_page, bare_page, hostile_page])
def test_nothing_is_asked_of_anyone(browser: Browser, page: Callable[[], Page]) -> None:
    file = browser.open(page())
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.wait()
    assert browser.requests() == [file.as_uri()]
    assert (
        browser.run(
            "return performance.getEntriesByType('resource')"
            ".filter(e => !e.name.startsWith('data:')).length"
        )
        == 0
    )


def odd_pages() -> dict[str, Page]:
    """Pages of which a part is missing, or there once."""
    page, model = sample_page(pictures=2, layers=5), sample_page(pictures=0).models[0]
    cut, training, scan = page.cuts[0], page.trainings[0], page.scans[0]
    unseen = tuple(replace(p, found=(None, None, None)) for p in page.pictures)
    single = tuple(replace(p, found=p.found[:1]) for p in page.pictures)
    nothing = Series("nothing", (None,) * 24)
    curve = Curve((CurvePoint("cut", "0.5", 5.0, 0.5, 0.7),), "One point.", "ms")
    return {
        "not run": replace(page, pictures=unseen),
        "one model": replace(page, models=(model,), pictures=single),
        "no names": replace(page, classes=()),
        "one class": sample_page(classes=("cell",), pictures=1, layers=1),
        "no layers": replace(page, cuts=(replace(cut, layers=()),)),
        "no steps": replace(page, cuts=(replace(cut, before=None, steps=(), text=()),)),
        "one epoch": replace(page, trainings=(sample_training("short", 1),)),
        "no values": replace(page, trainings=(replace(training, panels={"mAP": (nothing,)}),)),
        "no epochs": replace(page, trainings=(replace(training, epochs=()),)),
        "gone": replace(page, histograms=(Histogram("a", 0.0, 0.0, (None, None, None)),)),
        "no scan": replace(page, scans=(replace(scan, layers=(("a", (None,) * 9),)),)),
        "one point": replace(page, curve=curve),
        "no point": replace(page, curve=replace(curve, points=())),
    }


def test_what_is_missing_is_no_error(browser: Browser) -> None:
    for name, page in odd_pages().items():
        browser.open(page)
        browser.run("scrollTo(0, document.body.scrollHeight)")
        browser.wait()
        text = browser.run("return document.querySelector('main').innerHTML")
        assert (name, browser.errors()) == (name, [])
        assert not re.search(r"NaN|undefined|Infinity", text), name


def test_the_policy_refuses_what_is_put_in(browser: Browser) -> None:
    """The page as it would be if markup had got through: nothing is loaded and nothing runs."""
    image = "<img src='http://images.invalid/a.png' onerror='window.ran = 1'>"
    markup = f"{image}<script>window.ran = 1</script><main"
    text = render(sample_page()).replace("<main", markup)
    file = browser.open(text)
    assert browser.requests() == [file.as_uri()]
    assert browser.run("return window.ran") is None
    assert len(browser.errors()) >= 2


def test_hostile_names_are_text_and_run_nothing(browser: Browser) -> None:
    browser.open(hostile_page())
    for selector in ("#show-names", "#show-truth"):
        browser.click(selector)
    assert browser.run("return document.title").startswith("</script><script>")
    assert browser.run("return document.querySelectorAll('img[onerror], script').length") == 2
    names = [cell.text for cell in browser.all("#classes tbody th")]
    assert names[:3] == list(HOSTILE[:3])
    browser.mouse("mouseMoved", browser.point("[data-plot='0'] .canvas", 0.5))
    assert "<img src=x onerror=alert(1)>" in browser.tip()


def test_tables_are_sorted(browser: Browser) -> None:
    browser.open(sample_page())
    table = "#cuts table.sortable"

    def column(number: int) -> list[str]:
        return [cell.text for cell in browser.all(f"{table} tbody tr > :nth-child({number})")]

    before = column(1)
    browser.click(f"{table} th:nth-child(3) button")
    kept = [int(text) for text in column(3)]
    assert kept == sorted(kept, reverse=True)
    browser.click(f"{table} th:nth-child(3) button")
    assert [int(text) for text in column(3)] == sorted(kept)
    assert browser.one(f"{table} th:nth-child(3)").get_attribute("aria-sort") == "ascending"
    browser.click(f"{table} th:nth-child(3) button")
    assert column(1) == before


def test_the_theme_can_be_chosen(browser: Browser) -> None:
    browser.open(bare_page())
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(ground)
    browser.click(".theme")
    dark = browser.run(ground)
    assert browser.run("return document.documentElement.dataset.theme") == "dark" and dark != light
    browser.click(".theme")
    assert browser.run(ground) == light
    browser.look(scheme="dark")
    browser.open(bare_page())
    assert browser.run(ground) == dark


def test_the_page_is_read_without_a_script(browser: Browser) -> None:
    page = sample_page(pictures=3)
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        shown = browser.command("DOMSnapshot.captureSnapshot", computedStyles=["display"])
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
    texts = shown["strings"]
    assert page.verdict.split("mAP")[0] in texts and "This plot needs JavaScript." in texts
    assert {"The boxes need JavaScript.", page.cuts[0].layers[3].name} < set(texts)
    assert sum(text.startswith("data:image/jpeg") for text in texts) >= 3
