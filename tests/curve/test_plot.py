"""curve.png: each family in its colour, and the labels beside their points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from curves import BENT, SIZES, made_up
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from yolo_slim.curve.plot import label_of, line_of, plot_curve
from yolo_slim.curve.points import CUT
from yolo_slim.curve.words import bend_of
from yolo_slim.pictures import ACCENT, INK, LEAF

RUN = {"runs/slim/exp": (6.0, 0.48)}


def dots(file: Path, colour: str) -> int:
    """Pixels of a colour."""
    image = imread(file)[..., :3]
    return int((np.abs(image - to_rgb(colour)).max(-1) < 0.02).sum())


def test_each_family_has_its_colour(tmp_path: Path) -> None:
    curve = made_up(BENT, SIZES, RUN)
    all_of_it = plot_curve(curve, tmp_path / "a.png", bend_of(curve))
    cuts_alone = plot_curve(made_up(BENT), tmp_path / "b.png")
    assert min(dots(all_of_it, colour) for colour in (ACCENT, INK, LEAF)) > 100
    assert dots(cuts_alone, LEAF) == dots(cuts_alone, INK) == 0 < dots(cuts_alone, ACCENT)
    ring = dots(all_of_it, ACCENT)
    assert ring > dots(plot_curve(curve, tmp_path / "c.png"), ACCENT)


def test_one_point_alone_is_drawn(tmp_path: Path) -> None:
    assert plot_curve(made_up({}), tmp_path / "a.png").stat().st_size > 1000


def test_a_line_begins_at_the_dense_model() -> None:
    assert [p.label for p in line_of(made_up(BENT), CUT)] == ["dense", "0.9", "0.7", "0.5", "0.3"]


def test_a_long_name_is_shortened() -> None:
    long = "/home/somebody/projects/cells/runs/slim/exp12"
    (point,) = made_up({}, {}, {long: (5.0, 0.4)}).of("trained")
    assert label_of(point) == ".../cells/runs/slim/exp12"
    assert point.label == long


def test_a_table_changes_the_axis(tmp_path: Path) -> None:
    by_table = made_up(BENT, by="latency", device="onnxruntime 1.32.0, a processor")
    here = plot_curve(made_up(BENT), tmp_path / "a.png").read_bytes()
    assert plot_curve(by_table, tmp_path / "b.png").read_bytes() != here
