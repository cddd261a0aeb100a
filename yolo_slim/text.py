"""Numbers and tables as text, no wider than the screen."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Sequence

PAPER = 80  # columns of a text that no terminal shows: a log, a file, a pipe
GAP = 2  # columns of the screen between two columns of a table
LEAST = 12  # columns that words get before the other columns of a table make room

Column = Sequence[str]  # a heading, and the cells below it


def screen_width() -> int:
    """Columns of the terminal that stdout goes to, at least PAPER; PAPER where it is none."""
    return max(PAPER, shutil.get_terminal_size().columns) if sys.stdout.isatty() else PAPER


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
    width: int | None = None,
) -> str:
    """A plain table: its first column is left-aligned, the others right, but for words.

    What is too wide gets narrower step by step, and no figure loses a character: headings take
    several lines, then words do, then the columns stand in several blocks.

    Args:
        head: a heading for each column.
        rows: their cells.
        title: stands above the table.
        width: columns of the screen; None: `screen_width`.

    Example:
        >>> print(table(["", "dense", "pruned"], [["file", "3.71 MB", "1.28 MB"]]), end="")
                dense   pruned
        ----------------------
        file  3.71 MB  1.28 MB
    """
    width = width or screen_width()
    columns = [list(column) for column in zip(head, *rows, strict=True)]
    blocks = [columns[:1]]
    for column in columns[1:]:
        if len(blocks[-1]) > 1 and _span([*blocks[-1], column], narrow=True) > width:
            blocks.append(columns[:1])
        blocks[-1].append(column)
    text = "" if title is None else f"{fold(title, width)}\n"
    return text + "\n".join(_printed(block, width) for block in blocks)


def fold(text: str, width: int | None = None, indent: str = "") -> str:
    """Text whose lines are broken between words; a word that is wider stays whole.

    Args:
        text: lines of words.
        width: columns; None: `screen_width`.
        indent: begins each line that a longer one goes on in.
    """
    width = width or screen_width()
    folder = textwrap.TextWrapper(
        width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    lines = text.split("\n")
    return "\n".join(folder.fill(line) if cells(line) > width else line for line in lines)


def say(text: str) -> None:
    """Print text, folded."""
    print(fold(text))


def shortened(name: str, width: int) -> str:
    """The end of a name that is wider, such as a file's: its last folders, where they fit.

    Example:
        >>> shortened("runs/finetune/exp12/weights/best.pt", 22)
        '.../weights/best.pt'
    """
    if cells(name) <= width:
        return name
    while cells(name) > width - 3:
        name = name[1:]
    start = name.find("/")
    return f"...{name[start:] if start >= 0 else name}"


def cells(text: str) -> int:
    """Columns that a text takes on a screen: Chinese characters take two."""
    from rich.cells import cell_len

    return cell_len(text)


def _printed(columns: Sequence[Column], width: int) -> str:
    """A block of columns, with a line of dashes below its headings."""
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    narrow = _span(columns, narrow=False) > width
    line = Box("    \n    \n -- \n    \n    \n    \n    \n    \n")  # below the headings alone
    grid = Table(box=line, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    for index, column in enumerate(columns):
        words = _is_words(column) or not index
        heading = _folded_heading(column) if narrow else column[0]
        grid.add_column(
            Text(heading),
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="fold",
        )
    for row in zip(*(column[1:] for column in columns), strict=True):
        grid.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(grid)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _span(columns: Sequence[Column], *, narrow: bool) -> int:
    """Columns of the screen that a block takes; `narrow`: with all folded that may be."""
    return sum(_wide(c, narrow=narrow) for c in columns) + GAP * (len(columns) - 1)


def _wide(column: Column, *, narrow: bool) -> int:
    head, *body = column
    longest = max(map(cells, body), default=0)
    if not narrow:
        return max(longest, cells(head))
    words = max(map(cells, head.split()), default=0)
    return max(words, min(longest, LEAST) if _is_words(column) else longest)


def _folded_heading(column: Column) -> str:
    """A heading in lines that are no wider than the cells below it, or than its longest word."""
    width = max(1, _wide(column, narrow=True))
    return "\n".join(textwrap.wrap(column[0], width, break_long_words=False))


def _is_words(column: Column) -> bool:
    """True of a column that is no column of figures: none begins with a digit, or one is a list."""
    return not any(c[:1].isdigit() for c in column[1:]) or any(", " in c for c in column[1:])


def counted(number: int, noun: str) -> str:
    """A number of things: all texts say "1 class" and "2 classes".

    Args:
        number: how many.
        noun: one of them, whose last word gets the ending: "label file".

    Example:
        >>> counted(1, "class"), counted(2, "class"), counted(1200, "label file")
        ('1 class', '2 classes', '1,200 label files')
    """
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x", "sh", "tch")) else "s"
    return f"{number:,} {noun}{ending}"


def indices(number: int) -> str:
    """The numbers that things have, counted from 0.

    Example:
        >>> indices(80), indices(1)
        ('0 to 79', '0')
    """
    return f"0 to {number - 1}" if number > 1 else "0"


def apart(one: float, other: float, digits: int = 3) -> tuple[str, str]:
    """Two numbers with as many decimals as it takes to tell them apart.

    Args:
        one, other: the numbers.
        digits: decimals, where these are enough.

    Example:
        >>> apart(0.31, 0.3), apart(0.0081, 0.0083), apart(0.5, 0.5)
        (('0.310', '0.300'), ('0.0081', '0.0083'), ('0.500', '0.500'))
    """
    while f"{one:.{digits}f}" == f"{other:.{digits}f}" and one != other and digits < 9:
        digits += 1
    return f"{one:.{digits}f}", f"{other:.{digits}f}"


def ratio(after: float, before: float) -> str:
    """A share in percent."""
    return f"{after / before:.1%}"


def times_fewer(before: float, after: float) -> str:
    """2.1x fewer; "as many" where that is no change."""
    return "as many" if f"{before / after:.1f}" == "1.0" else f"{before / after:.1f}x fewer"


def giga(macs: float) -> str:
    """2.31 G"""
    return f"{macs / 1e9:.3g} G"


def mega(size: float) -> str:
    """3.75 MB (10^6 bytes)"""
    return f"{size / 1e6:.3g} MB"
