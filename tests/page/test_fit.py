"""The page fits its window, and its text can be read, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from chromium import NARROW, WIDE, Browser
from pages import bare_page, hostile_page, sample_page

from yolo_slim.page.model import Page

pytest_plugins = ("chromium",)
UNFIT = """
const cut = [];
const moves = (node) => /(auto|scroll)/.test(getComputedStyle(node).overflowX);
const scrolls = (node) => node && (moves(node) || scrolls(node.parentElement));
const inside = (node) => {
  const box = node.getBoundingClientRect(), frame = node.ownerSVGElement.getBoundingClientRect();
  const wide = box.left >= frame.left - 1 && box.right <= frame.right + 1;
  return wide && box.bottom <= frame.bottom + 2;
};
for (const node of document.querySelectorAll("body *")) {
  const box = node.getBoundingClientRect();
  if (!box.width || node.closest("clipPath, noscript, .skip, .stage svg, .canvas svg")) continue;
  if (scrolls(node.parentElement)) continue;
  if (box.right > innerWidth + 0.5 || box.left < -0.5) cut.push(node.outerHTML.slice(0, 120));
}
for (const text of document.querySelectorAll(".canvas svg text, .stage .label text")) {
  if (!inside(text)) cut.push("text " + text.textContent);
}
return [document.documentElement.scrollWidth, innerWidth, cut];
"""
FAINT = """
const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
const ground = (node) => {
  const color = parsed(getComputedStyle(node).backgroundColor);
  return color.length === 4 && color[3] === 0 ? ground(node.parentElement) : color;
};
const faint = [];
const skipped = "script, style, :disabled, .stage svg";
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement, words = walker.currentNode.textContent.trim();
  if (!words || !node.getClientRects().length || node.closest(skipped)) continue;
  const style = getComputedStyle(node), drawn = node.closest("svg");
  const color = parsed(drawn ? style.fill : style.color);
  const under = ground(drawn ? drawn.parentElement : node);
  const [a, b] = [light(color), light(under)].sort((m, n) => n - m);
  if ((a + 0.05) / (b + 0.05) < 4.5) faint.push([words.slice(0, 30), style.color, under.join()]);
}
return faint;
"""


@pytest.mark.parametrize("page", [sample_page, hostile_page, bare_page])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_nothing_is_cut_off(browser: Browser, width: int, page: Callable[[], Page]) -> None:
    browser.look(width, touch=width == NARROW)
    browser.open(page())
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.wait()
    scrolled, inner, cut = browser.run(UNFIT)
    assert scrolled <= inner == width and cut == []


def test_a_long_run_fits_a_phone(browser: Browser) -> None:
    names = tuple(f"a_class_with_a_long_name_{n}" for n in range(80))
    browser.look(NARROW, touch=True)
    browser.open(sample_page(classes=names, layers=200, cuts=3, masks=True, pictures=2))
    assert browser.run(UNFIT) == [NARROW, NARROW, []]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Browser, scheme: str) -> None:
    browser.look(scheme=scheme)
    browser.open(sample_page())
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.mouse("mouseMoved", browser.point("[data-plot='0'] .canvas", 0.5))
    assert browser.run(FAINT) == []
    faint = "{color: '#777', background: '#888'}"
    browser.run(f"Object.assign(document.querySelector('h1').style, {faint})")
    assert len(browser.run(FAINT)) >= 1  # what is faint is caught
