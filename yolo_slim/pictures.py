"""Pictures: the colours that all of them share, and how one is written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from yolo_slim.files import write_aside

INK, GONE, ACCENT, LEAF, GREY = "#1b4f72", "#d5d8dc", "#c0392b", "#1e8449", "#7f8c8d"
DPI, TALLEST = 120, 60_000  # dots an inch; px: what readers of .png files take


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure of so many inches, which pyplot knows nothing of: it would keep it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_picture(figure: Any, file: str | Path) -> Path:
    """Write a matplotlib figure to a .png, aside and renamed; very high ones in fewer dots.

    Raises:
        InputError: the file cannot be written.
    """
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=min(DPI, TALLEST / figure.get_figheight()))
    return write_aside(file, out.getvalue())
