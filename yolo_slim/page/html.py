"""A page as one HTML file that asks nothing of the network.

The templates hold all markup; Jinja2 escapes whatever a user, a file or a data set brings. What the
script reads is JSON in an element that no browser runs, and the script writes it as text. A
Content-Security-Policy admits this script and this style, by their hashes, and images that are in
the page; whatever else would be loaded or run is refused by the browser.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from yolo_slim.page import figures, pairs, plots
from yolo_slim.page.model import Page
from yolo_slim.text import counted

TEMPLATES = Path(__file__).with_name("templates")
STYLES = ("style.css", "plots.css", "compare.css")
SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        *("base", "scale", "legend", "plot", "kinds", "lines", "bars", "histogram", "scatter"),
        *("heat", "judge", "compare", "tables", "page", "weights"),
    )
)


def render(page: Page) -> str:
    """The page as HTML, complete: its style, its script and its images are in it.

    Args:
        page: what it shows.
    """
    plotted = _plots(page)
    style = "\n".join(_template(name) for name in STYLES)
    script = "\n".join(_template(name) for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{script}}})();\n'
    html = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            style=style,
            script=script,
            policy=_policy(style, script),
            data={"compare": pairs.compared(page), "plots": plotted.pop("all")},
            plots=plotted,
            sections=_sections(page),
            tiles=figures.tiles(page),
            rows=figures.model_rows(page),
            classes=figures.class_rows(page),
            most_change=figures.most_change(page),
            validated=[model for model in page.models if model.classes],
            timed=any(model.ms is not None for model in page.models),
            tallies=[model for model in page.models if model.tally],
            pair=len(pairs.models_run(page)) > 1,
            figures=figures,
            steps_of=lambda cut: figures.step_rows(plots.all_steps(cut)),
            changed=pairs.changed,
        )
    )
    return html.encode("utf-8", "replace").decode("utf-8")  # names of files may hold half letters


def _sections(page: Page) -> list[tuple[str, str]]:
    """Id and name of each section that there is, but for the verdict."""
    names = {
        "curve": ("Curve", page.curve),
        "pictures": ("Pictures", page.pictures),
        "models": ("Models", page.models),
        "classes": ("Classes", figures.class_rows(page)),
        "cuts": ("Layers", page.cuts),
        "trainings": ("Training", page.trainings),
        "weights": ("Weights", page.histograms),
        "scans": ("Sensitivity", page.scans),
        "ancestry": ("Ancestry", page.ancestry),
        "made": ("Again", page.made),
    }
    return [(key, name) for key, (name, content) in names.items() if content]


def _environment() -> Environment:
    """Templates in which everything is escaped and nothing may be missing."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["counted"] = counted
    environment.filters["whole"] = _whole
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment


def _whole(text: str) -> Markup:
    """A text in which the name of the measure does not break between lines."""
    name = "mAP50-95"
    return Markup(escape(text).replace(name, Markup('<span class="whole">%s</span>') % name))


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """What a browser may load and run on the page: what is in it."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _plots(page: Page) -> dict[str, Any]:
    """All plots in a list, under "all", and their places in it, section by section."""
    made = list[plots.Plot]()

    def add(plot: plots.Plot) -> int:
        made.append(plot)
        return len(made) - 1

    return {
        "layers": [add(plots.layers_plot(cut)) for cut in page.cuts],
        "steps": [add(plots.steps_plot(cut)) if cut.steps else None for cut in page.cuts],
        "trainings": [
            [add(plots.training_plot(t, title, panel)) for title, panel in t.panels.items()]
            for t in page.trainings
        ],
        "histograms": [add(plots.histogram_plot(h, page)) for h in page.histograms],
        "scans": [add(plots.scan_plot(scan)) for scan in page.scans],
        "curve": add(plots.curve_plot(page.curve)) if page.curve else None,
        "all": made,
    }
