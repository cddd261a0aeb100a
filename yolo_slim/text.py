"""Numbers and tables as text."""

from __future__ import annotations

import io


def table(head: list[str], rows: list[list[str]], title: str | None = None) -> str:
    """A plain table, first column left, the others right but for a last column of words."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(*head, title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(grid.columns):
        words = index == 0 or not any(any(c.isdigit() for c in row[index][:1]) for row in rows)
        column.justify = "left" if words else "right"
        column.no_wrap = index == 0
    for row in rows:
        grid.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=100).print(grid)
    return out.getvalue()


def ratio(after: float, before: float) -> str:
    """A share in percent."""
    return f"{after / before:.1%}"


def giga(macs: float) -> str:
    """2.31 G"""
    return f"{macs / 1e9:.3g} G"


def mega(size: float) -> str:
    """3.75 MB (10^6 bytes)"""
    return f"{size / 1e6:.3g} MB"
