"""Plots in a real browser: values under the pointer and by keys, zoom, legends."""

from __future__ import annotations

from chromium import NARROW, Browser
from pages import sample_page

pytest_plugins = ("chromium",)


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


def test_values_are_read_by_touch(browser: Browser) -> None:
    browser.look(NARROW, touch=True)
    browser.open(sample_page())
    canvas = f"{plot(browser, 'lines')} .canvas"
    x, y = browser.point(canvas, 0.6)
    browser.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.wait()
    tip = browser.tip()
    browser.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert tip.startswith("epoch 1") and "mAP50-95" in tip


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
    browser.mouse("mouseMoved", browser.point(f"{plot(browser, 'heat')} .canvas", 0.99, 0.5))
    name, values = page.scans[0].layers[29]
    assert name in browser.tip() and "90%" in browser.tip()
    assert f"{values[8]:.3g}" in browser.tip()
    browser.mouse("mouseMoved", (1, 1))
    canvas = f"{plot(browser, 'scatter')} .canvas"
    browser.one(canvas).send_keys("\ue014")
    assert browser.tip().split("\n")[0] == "cut: 0.3" and "4.4 ms" in browser.tip()
    layer = page.cuts[0].layers[0]
    browser.one(f"{plot(browser, 'bars')} .canvas").send_keys("\ue014")
    assert [line for line in browser.tip().split("\n") if line] == [
        layer.name,
        "dense",
        str(layer.channels),
        "kept",
        str(layer.kept),
    ]


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
    text = browser.run(
        "return document.querySelectorAll('.plot.small')[arguments[0]].textContent", gone
    )
    assert "gone after the cut" in text


def test_labels_of_layers_leave_out_what_all_have(browser: Browser) -> None:
    browser.look(NARROW, touch=True)
    browser.open(sample_page())
    for kind in ("bars", "heat"):
        labels = [label.text for label in browser.all(f"{plot(browser, kind)} .axes text")]
        assert "0.conv" in labels and "model.0.conv.bn" not in labels
