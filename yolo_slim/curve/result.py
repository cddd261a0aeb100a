"""curve.json: what came of a curve, for programs and pages. It is written last: its run is over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from yolo_slim.curve.points import CUT, SIZE, Curve, Point
from yolo_slim.curve.words import EVEN, bend_of
from yolo_slim.files import write_aside


def choice(curve: Curve) -> Point:
    """The cut that a user may want: at the bend, else the smallest that costs next to nothing.

    Where every cut costs something it is the mildest. Those that are not faster than the model as
    it is do not count, where any is.
    """
    dense, bend = curve.dense, bend_of(curve)
    cuts = [point for point in curve.of(CUT) if point.time < dense.time] or curve.of(CUT)
    if bend in cuts:
        assert bend is not None
        return bend
    cheap = [point for point in cuts if point.map >= dense.map - EVEN]
    return min(cheap, key=lambda point: point.share) if cheap else cuts[0]


def better_size(curve: Curve, cut: Point) -> Point | None:
    """The smaller image that keeps more than a cut in no more time; None if there is none."""
    sizes = [point for point in curve.of(SIZE) if point.time <= cut.time]
    best = max(sizes, key=lambda point: point.map, default=None)
    return best if best is not None and best.map > cut.map + EVEN else None


def write_result(
    file: Path, curve: Curve, bend: Point | None, text: str, commands: Mapping[str, str]
) -> Path:
    """Write curve.json.

    Args:
        file: the json.
        curve: with all its times.
        bend: the point at which it bends.
        text: what is said of it.
        commands: name to the command line that makes the chosen cut, or trains one.
    """
    content = {
        "finished": True,
        "settings": dict(curve.settings),
        "bend": bend.label if bend else None,
        "text": text,
        "commands": dict(commands),
        "points": [asdict(point) for point in curve.points],
    }
    return write_aside(file, json.dumps(content, indent=2).encode())
