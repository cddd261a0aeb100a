"""The page in a real browser: Chromium, headless, from a file, with nothing from the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pages import HOSTILE, bare_page, drawn_picture, hostile_page, sample_page

from yolo_slim.page.html import render
from yolo_slim.page.model import Box, Page, Picture

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)

WIDE, NARROW = 1280, 390
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root in a container there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
CONTROL = "<!doctype html><title>control</title><img src='http://images.invalid/a.png'>"


class Browser:
    """A Chromium that shows pages of a folder and tells what they asked for and wrote."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def command(self, name: str, **values: Any) -> Any:
        """A command of the Chrome DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, values)

    def look(self, width: int = WIDE, scheme: str = "light", touch: bool = False) -> None:
        """Set the width of the window and what the system prefers."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": touch}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.command("Emulation.setEmulatedMedia", features=features)

    def open(self, page: Page | str) -> Path:
        """Show a page, drawn to its end; logs of what was before are gone."""
        text = page if isinstance(page, str) else render(page)
        file = self.folder / "page & <report>.html"
        file.write_text(text, encoding="utf-8")
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self.driver.get(file.as_uri())
        return file

    def run(self, code: str, *values: Any) -> Any:
        """What a function's body returns in the page."""
        return self.driver.execute_script(code, *values)

    def wait(self) -> None:
        """Until what follows a change is drawn."""
        code = "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))"
        self.driver.execute_async_script(code)

    def one(self, selector: str) -> Any:
        """The element of a selector."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        """All elements of a selector."""
        return self.driver.find_elements("css selector", selector)

    def click(self, selector: str) -> None:
        """Click on an element, in the middle of the window."""
        node = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", node)
        node.click()
        self.wait()

    def point(self, selector: str, across: float, down: float = 0.5) -> tuple[float, float]:
        """A point of an element, in shares of its size, once it is in sight; px of the window."""
        code = """arguments[0].scrollIntoView({block: "center", behavior: "instant"});
            const r = arguments[0].getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"""
        x, y, width, height = self.run(code, self.one(selector))
        return x + across * width, y + down * height

    def mouse(self, kind: str, at: tuple[float, float], **more: Any) -> None:
        """Move, press or release the mouse at a point of the window."""
        values = {"type": kind, "x": at[0], "y": at[1], **more}
        self.command("Input.dispatchMouseEvent", **values)
        self.wait()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse, move it and release it."""
        pressed = {"button": "left", "buttons": 1, "clickCount": 1}
        self.mouse("mouseMoved", start)
        self.mouse("mousePressed", start, **pressed)
        self.mouse("mouseMoved", end, button="left", buttons=1)
        self.mouse("mouseReleased", end, button="left", clickCount=1)

    def requests(self) -> list[str]:
        """What the page asked for since it was opened, but for what is in it."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        sent = [e["params"]["request"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [r["url"] for r in sent if not r["url"].startswith("data:")]

    def errors(self) -> list[str]:
        """What the page wrote to the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def tip(self) -> str:
        """The text of the tooltip; "" where it is hidden."""
        return self.run("const t = document.getElementById('tip'); return t.hidden ? '' : t.innerText")


@pytest.fixture(scope="module")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Browser(driver, tmp_path_factory.mktemp("pages"))
    driver.quit()


@pytest.fixture
def browser(_browser: Browser) -> Iterator[Browser]:
    """One browser for all tests, each of which leaves its console empty."""
    _browser.look()
    yield _browser
    assert _browser.errors() == []


def two_models() -> Page:
    """A picture with a lost and a gained object, one that both find, a missed one, a false alarm."""
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
    assert browser.run("return performance.getEntriesByType('resource')"
                       ".filter(e => !e.name.startsWith('data:')).length") == 0


def test_the_policy_refuses_what_is_put_in(browser: Browser) -> None:
    """The page as it would be if markup had got through: nothing is loaded and nothing runs."""
    text = render(sample_page()).replace(
        "<main", "<img src='http://images.invalid/a.png' onerror='window.ran = 1'><script>window.ran = 1</script><main"
    )
    file = browser.open(text)
    assert browser.requests() == [file.as_uri()]
    assert browser.run("return window.ran") is None
    assert len(browser.errors()) >= 2


def test_hostile_names_are_text_and_run_nothing(browser: Browser) -> None:
    browser.open(hostile_page())
    for selector in ("#show-names", "#show-truth"):
        browser.click(selector)
    browser.one("#pictures").send_keys if False else None
    assert browser.run("return document.title").startswith("</script><script>")
    assert browser.run("return document.querySelectorAll('img[onerror], script').length") == 2
    names = [cell.text for cell in browser.all("#classes tbody th")]
    assert sorted(names)[1:] == sorted(n.replace("\u2028", " ") for n in HOSTILE)[1:] or set(
        names[:3]
    ) == set(HOSTILE[:3])
    browser.mouse("mouseMoved", browser.point("[data-plot='0'] .canvas", 0.5))
    assert "<img src=x onerror=alert(1)>" in browser.tip()


def test_boxes_are_told_apart_and_counted(browser: Browser) -> None:
    browser.open(two_models())
    assert looks(browser, "a") == ["false", "found", "gained missed", "lost", "missed"]
    assert looks(browser, "b") == ["found", "gained", "lost missed", "missed"]
    assert browser.one("#picture-counts").text == (
        "4 true objects: 2 found on the left, 2 on the right: 1 lost, 1 gained. False alarms: 1 and 0."
    )
    words = browser.run("return [...document.querySelectorAll('.panel.b .label text')].map(t => t.textContent)")
    assert sorted(words) == ["+ gained platelet", "\u2212 lost white cell"]
    browser.click("#show-false")
    assert "false" not in looks(browser, "a")
    browser.click("#show-truth")
    assert looks(browser, "b").count("truth") == 4
    browser.click("#show-names")
    words = browser.run("return [...document.querySelectorAll('.panel.a .label text')].map(t => t.textContent)")
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
    code = "return ['a', 'b'].map(s => getComputedStyle(document.querySelector('.panel.' + s)).clipPath)"
    return browser.run(code)


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


def plot(browser: Browser, kind: str) -> str:
    """Selector of the first plot of a kind."""
    code = "return JSON.parse(document.getElementById('data').textContent).plots.map(p => p.kind)"
    return f"[data-plot='{browser.run(code).index(kind)}']"


def test_values_are_read_under_the_pointer_and_by_keys(browser: Browser) -> None:
    page = sample_page()
    browser.open(page)
    figure = plot(browser, "lines")
    browser.mouse("mouseMoved", browser.point(f"{figure} .canvas", 0.999))
    values = page.trainings[0].panels["mAP"]
    lines = browser.tip().split("\n")
    assert lines[0] == "epoch 24"
    assert f"{values[0].values[23]:.4g}" in lines and f"{values[1].values[23]:.4g}" in lines
    browser.mouse("mouseMoved", (1, 1))
    assert browser.tip() == ""
    canvas = browser.one(f"{figure} .canvas")
    canvas.send_keys("\ue014\ue014\ue014\ue014\ue014\ue014")
    assert browser.tip().split("\n")[0] == "epoch 6" and "not measured" in browser.tip()


def test_a_plot_is_zoomed_and_shown_whole_again(browser: Browser) -> None:
    browser.open(sample_page())
    figure = plot(browser, "lines")
    ticks = "return [...document.querySelectorAll(arguments[0])].map(t => t.textContent)"
    labels = f"{figure} .axes text"
    whole = browser.run(ticks, labels)
    reset = browser.one(f"{figure} .reset")
    assert not reset.is_enabled()
    browser.drag(browser.point(f"{figure} .canvas", 0.4), browser.point(f"{figure} .canvas", 0.7))
    assert browser.run(ticks, labels) != whole and reset.is_enabled()
    browser.mouse("mouseMoved", browser.point(f"{figure} .canvas", 0.999))
    assert 14 < int(browser.tip().split("\n")[0].split()[1]) < 21
    browser.click(f"{figure} .reset")
    assert browser.run(ticks, labels) == whole
    browser.click(f"{figure} [title^='Zoom in']")
    assert browser.run(ticks, labels) != whole
    browser.one(f"{figure} .canvas").send_keys("0")
    assert browser.run(ticks, labels) == whole
    browser.mouse("mouseWheel", browser.point(f"{figure} .canvas", 0.5), deltaX=0, deltaY=-100)
    assert browser.run(ticks, labels) != whole  # the plot has the focus


def test_a_legend_switches_series_off(browser: Browser) -> None:
    browser.open(sample_page())
    figure = plot(browser, "lines")
    assert len(browser.all(f"{figure} .curve")) == 2
    browser.click(f"{figure} .legend button")
    assert len(browser.all(f"{figure} .curve")) == 1
    assert browser.one(f"{figure} .legend button").get_attribute("aria-pressed") == "false"


def test_each_kind_of_plot_tells_its_values(browser: Browser) -> None:
    page = sample_page()
    browser.open(page)
    browser.mouse("mouseMoved", browser.point(f"{plot(browser, 'heat')} .canvas", 0.99, 0.012))
    name, values = page.scans[0].layers[0]
    assert name in browser.tip() and "90%" in browser.tip()
    assert f"{values[8]:.3g}" in browser.tip()
    canvas = f"{plot(browser, 'scatter')} .canvas"
    browser.one(canvas).send_keys("\ue014")
    assert browser.tip().split("\n")[0] == "cut: 0.3" and "4.4 ms" in browser.tip()
    layer = page.cuts[0].layers[0]
    browser.one(f"{plot(browser, 'bars')} .canvas").send_keys("\ue014")
    assert browser.tip().split("\n") == [layer.name, "dense", str(layer.channels), "kept", str(layer.kept)]


def test_weights_are_found_and_counted(browser: Browser) -> None:
    page = sample_page()
    browser.open(page)
    seen = "return [...document.querySelectorAll('.plot.small')].filter(f => !f.hidden).length"
    assert browser.run(seen) == 12
    browser.click("#weights-all")
    assert browser.run(seen) == len(page.histograms)
    browser.one("#weights-find").send_keys("model.6.")
    assert browser.run(seen) == 3
    gone = next(n for n, h in enumerate(page.histograms) if None in h.counts)
    browser.wait()
    text = browser.run("return document.querySelectorAll('.plot.small')[arguments[0]].textContent", gone)
    assert "gone after the cut" in text


UNFIT = """
const cut = [];
const scrolls = (node) => node && (/(auto|scroll)/.test(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
for (const node of document.querySelectorAll("body *")) {
  const box = node.getBoundingClientRect();
  if (!box.width || node.closest("clipPath, defs, noscript, .skip") || scrolls(node.parentElement)) continue;
  if (node.closest(".stage svg, .canvas svg")) continue;
  if (box.right > innerWidth + 0.5 || box.left < -0.5) cut.push(node.outerHTML.slice(0, 120));
}
for (const text of document.querySelectorAll(".canvas svg text")) {
  const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
  if (box.left < frame.left - 1 || box.right > frame.right + 1) cut.push("text " + text.textContent);
  if (box.bottom > frame.bottom + 2) cut.push("low text " + text.textContent);
}
for (const text of document.querySelectorAll(".stage .label text")) {
  const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
  if (box.left < frame.left - 1 || box.right > frame.right + 1) cut.push("label " + text.textContent);
}
return [document.documentElement.scrollWidth, innerWidth, cut];
"""


@pytest.mark.parametrize("page", [sample_page, hostile_page, bare_page])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_nothing_is_cut_off(browser: Browser, width: int, page: Callable[[], Page]) -> None:
    browser.look(width, touch=width == NARROW)
    browser.open(page())
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.wait()
    scrolled, inner, cut = browser.run(UNFIT)
    assert (scrolled, inner, cut) == (width, width, [])


def test_a_long_run_fits_a_phone(browser: Browser) -> None:
    names = tuple(f"a_class_with_a_long_name_{n}" for n in range(80))
    browser.look(NARROW, touch=True)
    browser.open(sample_page(classes=names, layers=200, cuts=3, masks=True, pictures=2))
    assert browser.run(UNFIT) == [NARROW, NARROW, []]


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
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement, words = walker.currentNode.textContent.trim();
  if (!words || !node.getClientRects().length || node.closest("script, style, :disabled, .stage svg")) continue;
  const style = getComputedStyle(node), drawn = node.closest("svg");
  const color = parsed(drawn ? style.fill : style.color), under = ground(drawn ? drawn.parentElement : node);
  const [a, b] = [light(color), light(under)].sort((m, n) => n - m);
  if ((a + 0.05) / (b + 0.05) < 4.5) faint.push([words.slice(0, 30), style.color, under.join()]);
}
return faint;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Browser, scheme: str) -> None:
    browser.look(scheme=scheme)
    browser.open(sample_page())
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.mouse("mouseMoved", browser.point(f"{plot(browser, 'lines')} .canvas", 0.5))
    assert browser.run(FAINT) == []
    assert browser.run("document.body.style.color = '#999'; document.body.style.background = '#aaa';"
                       "return document.body.matches('*')")


def test_the_page_is_read_without_a_script(browser: Browser) -> None:
    page = sample_page(pictures=3)
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        shown = browser.command("DOMSnapshot.captureSnapshot", computedStyles=["display"])
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
    texts = " ".join(shown["strings"])
    assert page.verdict.split(":")[0] in texts and "This plot needs JavaScript." in texts
    assert sum(text.startswith("data:image/jpeg") for text in shown["strings"]) >= 3
