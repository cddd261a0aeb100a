"""Pictures: the style and the colours that all of them share, and how one is written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_slim.files import write_aside

# Dark, middle, light: told apart in grey, and by who sees red and green alike (Okabe and Ito 2008).
INK, ACCENT, LEAF = "#1b4f72", "#d55e00", "#009e73"
GONE, GREY = "#d5d8dc", "#7f8c8d"
DPI, TALLEST = 120, 60_000  # dots an inch; px: what readers of .png files take
STYLE = {"font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "legend.fontsize": 8}


@contextmanager
def own_style() -> Iterator[None]:
    """In the block matplotlib draws in our style, whatever others have set; theirs comes back.

    YOLOv5's plots leave seaborn's style behind. Also a decorator: `@own_style()`.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure of so many inches, which pyplot knows nothing of: it would keep it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@own_style()
def write_picture(figure: Any, file: str | Path) -> Path:
    """Write a matplotlib figure to a .png, aside and renamed; very high ones in fewer dots.

    Raises:
        InputError: the file cannot be written.
    """
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=min(DPI, TALLEST / figure.get_figheight()))
    return write_aside(file, out.getvalue())
