"""Numbers and tables as text, no wider than the screen."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

PAPER = 80  # columns of a text that no terminal shows: a log, a file, a pipe
GAP = "  "  # between two columns of a table
LEAST = 12  # columns that words get before the other columns make room
PIECE = r"\s*[^\s/]+/*|\s*/+"  # what stays in one line: a word, a folder or a file of a path


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

    What is too wide gets narrower step by step, and no figure and no name loses a character:
    headings take several lines, then words do, then the columns stand in several blocks.

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
    text = "" if title is None else f"{fold(title, width)}\n"
    return text + "\n".join(_lines(block, width) for block in _blocks(columns, width))


def fold(text: str, width: int | None = None, indent: str = "") -> str:
    """Text whose lines are broken between words; a word that is wider stays whole.

    Args:
        text: lines of words.
        width: columns; None: `screen_width`.
        indent: begins each line that a longer one goes on in.
    """
    width = width or screen_width()
    lines = [
        f"\n{indent}".join(_folded(line, width, r"\s*\S+", cells(indent)))
        for line in text.split("\n")
    ]
    return "\n".join(lines)


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
    return f"...{name[max(name.find('/'), 0) :]}"


def cells(text: str) -> int:
    """Columns that a text takes on a screen: Chinese characters take two."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _blocks(columns: list[list[str]], width: int) -> list[list[list[str]]]:
    """The columns in as many blocks as it takes, each with the first column."""
    blocks, block = [], columns[:1]
    for column in columns[1:]:
        if len(block) > 1 and _span([*map(_least, block), _least(column)]) > width:
            blocks.append(block)
            block = columns[:1]
        block = [*block, column]
    return [*blocks, block]


def _lines(columns: list[list[str]], width: int) -> str:
    """A block, with a line of dashes below its headings."""
    wide = [max(map(cells, column)) for column in columns]
    least = [_least(column) for column in columns]
    for words in (False, True):  # headings of figures give way before words do
        some = [i for i, column in enumerate(columns) if _is_words(column) == words]
        while _span(wide) > width and any(wide[i] > least[i] for i in some):
            wide[max(some, key=lambda i: (wide[i] > least[i], wide[i], i))] -= 1
    left = [index == 0 or _is_words(column) for index, column in enumerate(columns)]
    texts = []
    for number, row in enumerate(zip(*columns, strict=True)):
        folded = [_folded(cell, size) for cell, size in zip(row, wide, strict=True)]
        tall = max(map(len, folded))
        if not number:  # headings stand on the line below them
            folded = [[""] * (tall - len(cell)) + cell for cell in folded]
        for parts in zip_longest(*folded, fillvalue=""):
            padded = [
                part + " " * (size - cells(part)) if start else " " * (size - cells(part)) + part
                for part, size, start in zip(parts, wide, left, strict=True)
            ]
            texts.append(GAP.join(padded).rstrip())
        if not number:
            texts.append("-" * min(_span(wide), width))
    return "\n".join(texts) + "\n"


def _folded(text: str, size: int, piece: str = PIECE, indent: int = 0) -> list[str]:
    """A text in lines of so many columns, broken between pieces; of the later ones `indent` less.

    Args:
        text: one line.
        size: columns.
        piece: a pattern of what is never broken.
        indent: columns that the second line and later ones have less.
    """
    if cells(text) <= size:
        return [text]
    lines = [""]
    for part in re.findall(piece, text):
        if lines[-1] and cells(lines[-1] + part) > size - indent * (len(lines) > 1):
            lines.append(part.lstrip())
        else:
            lines[-1] += part
    return lines


def _least(column: Sequence[str]) -> int:
    """The fewest columns of the screen that a column fits into."""
    head, *body = column
    widest = max(map(cells, head.split()), default=0)
    if _is_words(column):
        pieces = [piece.strip() for cell in body for piece in re.findall(PIECE, cell)]
        longest = max(map(cells, body), default=0)
        return max([widest, min(LEAST, longest), *map(cells, pieces)])
    return max([widest, *map(cells, body)])


def _is_words(column: Sequence[str]) -> bool:
    """True of a column that is no column of figures: none begins with a digit, or one is a list."""
    return not any(c[:1].isdigit() for c in column[1:]) or any(", " in c for c in column[1:])


def _span(wide: Sequence[int]) -> int:
    return sum(wide) + len(GAP) * (len(wide) - 1)


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
