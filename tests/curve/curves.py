"""Curves that nobody measured."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.curve.points import CUT, DENSE, SETTINGS, SIZE, TRAINED, Curve, Point

KNOWN = {
    "imgsz": "320",
    "by": "macs",
    "device": "-",
    "threads": "2",
    "images": "100",
    "shares": "0.9 0.7 0.5 0.3",
}


def point(family: str, label: str, time: float, accuracy: float, share: float = 1.0) -> Point:
    """One of 320 px that was timed."""
    macs, imgsz = int(5e8 * share), int(label.split()[0]) if family == SIZE else 320
    numbers = (1_800_000, macs, 7_000_000, None, time, 0.1)
    return Point(family, label, share, imgsz, *numbers, accuracy + 0.1, accuracy)


def made_up(
    cuts: dict[str, tuple[float, float]],
    sizes: dict[str, tuple[float, float]] | None = None,
    trained: dict[str, tuple[float, float]] | None = None,
    **settings: str,
) -> Curve:
    """Label to (ms, mAP50-95) of each family; the dense model takes 10 ms and has 0.5."""
    points = [point(DENSE, "dense", 10.0, 0.5)]
    points += [point(CUT, name, *both, share=float(name)) for name, both in cuts.items()]
    points += [point(SIZE, name, *both) for name, both in (sizes or {}).items()]
    points += [point(TRAINED, name, *both) for name, both in (trained or {}).items()]
    known = dict.fromkeys(SETTINGS, "x") | KNOWN | settings
    return Curve(Path("curve.csv"), known, tuple(points))


BENT = {"0.9": (9.2, 0.49), "0.7": (7.5, 0.47), "0.5": (6.0, 0.44), "0.3": (4.0, 0.1)}
STEEP = {"0.9": (9.2, 0.3), "0.7": (7.5, 0.15), "0.5": (6.0, 0.05), "0.3": (4.0, 0.0)}
SIZES = {"288 px": (8.4, 0.46), "224 px": (5.5, 0.35), "160 px": (3.0, 0.2)}
