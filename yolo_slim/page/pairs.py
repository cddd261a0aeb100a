"""The pictures of a page with all boxes, as plain values for its script."""

from __future__ import annotations

from typing import Any

from yolo_slim.page.model import Box, Page, Picture


def compared(page: Page) -> dict[str, Any]:
    """Names of models and classes, and the boxes of each picture and model.

    A true object is [class, left, top, right, bottom]; what a model found has its score and the
    index of the true object that it meets, too.
    """
    return {
        "models": [model.label for model in page.models],
        "classes": list(page.classes),
        "pictures": [
            {
                "name": picture.name,
                "size": [picture.width, picture.height],
                "truth": [_box(box)[:5] for box in picture.truth],
                "found": [
                    None if boxes is None else [_box(box) for box in boxes]
                    for boxes in picture.found
                ],
            }
            for picture in page.pictures
        ],
    }


def models_run(page: Page) -> set[int]:
    """Indices of the models that were run on a picture."""
    return {n for p in page.pictures for n, boxes in enumerate(p.found) if boxes is not None}


def changed(picture: Picture) -> tuple[int, int]:
    """How many true objects of a picture the last model lost and gained, against the first."""
    run = [boxes for boxes in picture.found if boxes is not None]
    if len(run) < 2:
        return 0, 0
    before, after = ({box.match for box in boxes} - {-1} for boxes in (run[0], run[-1]))
    return len(before - after), len(after - before)


def _box(box: Box) -> list[float]:
    return [box.label, *(round(c, 1) for c in box.corners), round(box.score, 3), box.match]
