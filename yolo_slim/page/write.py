"""report.html: written aside and renamed, by the command `report` or at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_slim.as_called import as_called
from yolo_slim.errors import InputError
from yolo_slim.files import write_aside
from yolo_slim.page.build import page_of
from yolo_slim.page.html import render
from yolo_slim.runs import PAGE
from yolo_slim.text import say

MOST = 5_000_000  # bytes of a page: where they are more, fewer pictures are shown


def write_page(places: Sequence[str | Path], file: Path, **options: Any) -> Path:
    """Write the page of runs.

    Args:
        places: see `page_of`.
        file: where to.
        options: of `page_of`.

    Raises:
        InputError: see `page_of`; the file cannot be written. The old one stays whole.
    """
    page = page_of(places, **options)
    content = render(page).encode()
    while len(content) > MOST and page.pictures:
        page = replace(page, pictures=page.pictures[: len(page.pictures) // 2])
        content = render(page).encode()
    return write_aside(file, content)


def leave_page(folder: Path, **options: Any) -> None:
    """Leave the page of a run in its folder, or say in a line why there is none.

    The run is over and its results are there: nothing here makes it fail.

    Args:
        folder: of the run, which is finished.
        options: of `page_of`.
    """
    if int(os.getenv("RANK", "-1")) > 0:
        return
    try:
        say(f"{write_page([folder], folder / PAGE, **options)}: open it in a browser")
    except Exception as error:  # whatever it is: hours of training lie behind this line
        why = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        again = as_called("report", folder)
        say(f"{PAGE} was not written ({' '.join(why.split())}); `{again}` makes it.")
