"""A Chromium without a window and without a network, which shows pages and tells of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from yolo_slim.page.html import render
from yolo_slim.page.model import Page

WIDE, NARROW = 1280, 390  # px
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root in a container there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


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
        self.command("Emulation.setTouchEmulationEnabled", enabled=touch)

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

    def swipe(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Put a finger down, move it and lift it."""
        for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
            places = [{"x": x, "y": y} for x, y in points]
            self.command("Input.dispatchTouchEvent", type=kind, touchPoints=places)
            self.wait()

    def requests(self) -> list[str]:
        """What the page asked for since it was opened, but for what is in it."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        refused = {
            e["params"]["requestId"] for e in events if e["params"].get("blockedReason") == "csp"
        }
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [p["request"]["url"] for p in sent if p["requestId"] not in refused]
        return [url for url in urls if not url.startswith("data:")]

    def errors(self) -> list[str]:
        """What the page wrote to the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def tip(self) -> str:
        """The text of the tooltip; "" where it is hidden."""
        return self.run(
            "const t = document.getElementById('tip'); return t.hidden ? '' : t.innerText"
        )


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    reason = "selenium is not installed"
    webdriver = pytest.importorskip("selenium.webdriver", reason=reason)
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield Browser(driver, tmp_path_factory.mktemp("pages"))
    driver.quit()


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    """One browser for all tests, each of which leaves its console empty."""
    _chromium.look()
    yield _chromium
    assert _chromium.errors() == []
