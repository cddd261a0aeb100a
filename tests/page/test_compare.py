"""Before and after in a real browser: boxes, slider, switch, and the order of the pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chromium import NARROW, Browser
from pages import drawn_picture, sample_page

from yolo_slim.page.model import Box, Page, Picture

pytest_plugins = ("chromium",)


def two_models() -> Page:
    """An object is lost, one gained, one found by both, one missed; there is a false alarm."""
    corners = [(10.0 + 60 * n, 60.0, 50.0 + 60 * n, 110.0) for n in range(5)]
    truth = tuple(Box(n % 3, corners[n]) for n in range(4))
    left = (Box(0, corners[0], 0.9, 0), Box(1, corners[1], 0.8, 1), Box(2, corners[4], 0.4))
    right = (Box(0, corners[0], 0.7, 0), Box(2, corners[2], 0.6, 2))
    blank = drawn_picture(0, 3, 1)
    picture = Picture("a.jpg", blank.width, blank.height, blank.jpeg, truth, (left, None, right))
    same = replace(picture, name="b.jpg", found=(left, None, left))
    return replace(sample_page(), pictures=(same, picture))


def looks(browser: Browser, side: str) -> list[str]:
    """The boxes of a panel: how each of them looks."""
    code = "return [...document.querySelectorAll(arguments[0])].map(r => r.getAttribute('class'))"
    return sorted(c.removeprefix("box ") for c in browser.run(code, f".panel.{side} rect.box"))


def test_boxes_are_told_apart_and_counted(browser: Browser) -> None:
    browser.open(two_models())
    assert looks(browser, "a") == ["false", "found", "gained missed", "lost", "missed"]
    assert looks(browser, "b") == ["found", "gained", "lost missed", "missed"]
    assert browser.one("#picture-counts").text == (
        "4 true objects: 2 found on the left, 2 on the right: 1 lost, 1 gained. "
        "False alarms: 1 and 0."
    )
    words = browser.run(
        "return [...document.querySelectorAll('.panel.b .label text')].map(t => t.textContent)"
    )
    assert sorted(words) == ["+ gained platelet", "\u2212 lost white cell"]
    browser.click("#show-false")
    assert "false" not in looks(browser, "a")
    browser.click("#show-truth")
    assert looks(browser, "b").count("truth") == 4
    browser.click("#show-names")
    words = browser.run(
        "return [...document.querySelectorAll('.panel.a .label text')].map(t => t.textContent)"
    )
    assert "red cell 0.90" in words


def test_pictures_with_most_changes_come_first(browser: Browser) -> None:
    browser.open(two_models())
    assert browser.one("#picture-name").text == "a.jpg"
    badges = [item.text for item in browser.all(".strip li")]
    assert [text.split() for text in badges] == [["\u22121", "+1"], []]
    browser.click("#next")
    assert browser.one("#picture-name").text == "b.jpg"
    browser.run("document.body.focus()")
    browser.one("body").send_keys("p")
    assert browser.one("#picture-name").text == "a.jpg"


def test_models_that_did_not_detect_cannot_be_chosen(browser: Browser) -> None:
    browser.open(two_models())
    chosen = [option.text for option in browser.all("#left-model option")]
    assert chosen == ["before the cut", "finetuned"]
    browser.run("""const s = document.getElementById("left-model"); s.value = "2";
        s.dispatchEvent(new Event("change"))""")
    assert looks(browser, "a") == ["found", "found", "missed", "missed"]


def clips(browser: Browser) -> list[str]:
    """What is seen of both panels."""
    code = "return getComputedStyle(document.querySelector(arguments[0])).clipPath"
    return [browser.run(code, f".panel.{side}") for side in "ab"]


def test_the_slider_moves_by_mouse_and_by_keys(browser: Browser) -> None:
    browser.open(two_models())
    assert clips(browser) == ["inset(0px 50% 0px 0px)", "inset(0px 0px 0px 50%)"]
    browser.drag(browser.point(".stage", 0.5), browser.point(".stage", 0.25))
    assert clips(browser) == ["inset(0px 75% 0px 0px)", "inset(0px 0px 0px 25%)"]
    browser.one(".stage input").send_keys("\ue014")  # the right arrow
    assert clips(browser) == ["inset(0px 74% 0px 0px)", "inset(0px 0px 0px 26%)"]
    left = browser.run("return document.querySelector('.handle').getBoundingClientRect().left")
    frame = browser.run("return document.querySelector('.stage').getBoundingClientRect().toJSON()")
    assert left == pytest.approx(frame["left"] + 0.26 * frame["width"], abs=2)


def test_the_slider_follows_a_finger(browser: Browser) -> None:
    browser.look(NARROW, touch=True)
    browser.open(two_models())
    browser.swipe(browser.point(".stage", 0.5), browser.point(".stage", 0.75))
    assert clips(browser) == ["inset(0px 25% 0px 0px)", "inset(0px 0px 0px 75%)"]


@pytest.mark.parametrize(
    ("mode", "seen"), [("left", [True, False]), ("right", [False, True]), ("both", [True, True])]
)
def test_the_switch_shows_one_or_both(browser: Browser, mode: str, seen: list[bool]) -> None:
    browser.open(two_models())
    browser.click(f".switch [data-mode={mode}]")
    assert [panel.is_displayed() for panel in browser.all(".panel")] == seen
    assert clips(browser) == ["none", "none"]
    if mode == "both":
        a, b = (panel.rect for panel in browser.all(".panel"))
        assert a["x"] + a["width"] < b["x"] + 1


def test_the_pointer_reads_a_box(browser: Browser) -> None:
    browser.open(two_models())
    page = two_models().pictures[0]
    browser.mouse("mouseMoved", browser.point(".stage", 35 / page.width, 85 / page.height))
    assert browser.tip().split("\n")[0] == "red cell" and "0.90" in browser.tip()
    browser.mouse("mouseMoved", browser.point(".stage", 0.5, 0.02))
    assert browser.tip() == ""
