"""The sentence that a page begins with."""

from __future__ import annotations

from dataclasses import replace

from yolo_slim.page.model import Curve, Shown
from yolo_slim.page.verdict import verdict

DENSE = Shown("dense", "a.pt", 1000, 2000, 4000, ms=10.0, spread=0.1, map50=0.8, map=0.5)
SLIM = Shown("slim", "b.pt", 500, 900, 1000, ms=6.0, spread=0.1, map50=0.8, map=0.488)


def test_what_it_says() -> None:
    start = "The slim model takes 0.60 of the time and 25% of the file of the dense model"
    assert verdict([DENSE, SLIM]) == (
        f"{start}; mAP50-95 falls by 1.2 points, from 0.500 to 0.488."
    )
    better = replace(SLIM, map=0.51)
    assert verdict([DENSE, better]).endswith("rises by 1.0 points, from 0.500 to 0.510.")
    assert verdict([DENSE, replace(SLIM, map=0.5002)]).endswith("; mAP50-95 stays at 0.500.")


def test_what_was_not_measured_is_not_said() -> None:
    untimed = replace(SLIM, ms=None, spread=None, map=None, map50=None)
    assert verdict([DENSE, untimed]) == "The slim model takes 25% of the file of the dense model."
    renewed = replace(DENSE, map=None, map50=None)
    assert verdict([renewed, SLIM]).endswith("; mAP50-95 is 0.488.")


def test_a_model_of_several_runs_is_named() -> None:
    assert verdict([DENSE, replace(SLIM, label="slim, exp2")]).startswith(
        "Model “slim, exp2” takes"
    )


def test_one_model_alone() -> None:
    assert verdict([DENSE]) == "One model, with nothing to compare it with."
    curve = Curve((), "The curve bends at 0.7. More follows.", "ms")
    assert verdict([DENSE], curve) == "The curve bends at 0.7."
    curve = Curve((), "A smaller image keeps more: at 6.0 ms mAP50-95 is 0.3. More.", "ms")
    assert verdict([DENSE], curve) == "A smaller image keeps more."
