"""What is said of a curve, and which cut is chosen."""

from __future__ import annotations

import json
import re
from pathlib import Path

from curves import BENT, SIZES, STEEP, made_up
from places import ROOT

from yolo_slim.curve import words
from yolo_slim.curve.result import better_size, choice, write_result
from yolo_slim.curve.words import bend_of, paragraph


def test_a_curve_that_bends() -> None:
    curve = made_up(BENT, SIZES)
    bend = bend_of(curve)
    assert bend is not None and bend.label == "0.5" and choice(curve) is bend
    text = paragraph(curve)
    assert (
        "bends at 0.5 of the MACs: mAP50-95 is 0.440 there, 0.500 uncut, and 0.100 at 0.3" in text
    )
    both = "keeps more than the cut to 0.3, and the cuts to 0.7, 0.5 keep more than a smaller"
    assert f"a smaller image {both}" in text


def test_a_curve_that_falls_at_once() -> None:
    curve = made_up(STEEP, SIZES)
    assert bend_of(curve) is None and choice(curve).label == "0.9"
    text = paragraph(curve)
    assert "no bend: of mAP50-95 0.500 uncut, 0.9 of the MACs leaves 0.300, 0.3 leaves 0.0" in text
    assert "without a training, a smaller image keeps more than each cut: at 6.0 ms" in text


def test_the_smallest_cut_that_costs_next_to_nothing() -> None:
    level = {"0.9": (9.0, 0.5), "0.7": (7.0, 0.5), "0.5": (6.0, 0.495)}
    assert choice(made_up(level)).label == "0.5"


def test_smaller_images_may_be_worse_alike_or_not_comparable() -> None:
    better = {name: (ms, accuracy + 0.2) for name, (ms, accuracy) in SIZES.items()}
    cuts = {"0.9": (9.2, 0.49), "0.7": (7.5, 0.49)}
    bad = {name: (ms, 0.1) for name, (ms, _) in SIZES.items()}
    assert "each cut keeps more than a smaller image: at" in paragraph(made_up(cuts, bad))
    assert "a smaller image keeps more than each cut" in paragraph(made_up(STEEP, better))
    alike = {"288 px": (8.0, 0.49)}
    assert "about as good as a cut" in paragraph(made_up({"0.9": (9.0, 0.495)}, alike))
    far = {"288 px": (9.9, 0.49)}
    assert "they cannot be compared" in paragraph(made_up({"0.9": (9.0, 0.495)}, far))
    assert "smaller image" not in paragraph(made_up(cuts))


def test_finished_runs_are_told() -> None:
    text = paragraph(made_up(BENT, SIZES, {"runs/slim/exp": (5.5, 0.49), "b": (1.0, 0.2)}))
    end = "Of 2 finished runs: runs/slim/exp has 0.490 at 5.5 ms (a smaller image 0.350); "
    assert f"{end}b has 0.200 at 1.0 ms." in text


def test_a_time_by_a_table_is_called_one() -> None:
    assert "bends at 0.5 of the time" in paragraph(made_up(BENT, by="latency"))


def test_figures_of_trainings_are_in_the_results() -> None:
    results = (ROOT / words.SOURCE).read_text(encoding="utf-8")
    text = paragraph(made_up(BENT))
    for row in words.SLIM:
        assert f"{row.trained:.3f} on {row.data} (uncut {row.dense:.3f})" in text
        for value in (row.trained, row.dense):
            assert re.search(rf"\b{value:.3f}\b", results), value
        assert f"{row.epochs} epochs" in results or f"| {row.epochs} |" in results
    assert f"{words.RECOVERED:.3f}" in results and f"{words.RECOVERED:.3f}" in text
    assert f"{words.LOWER:.1f}\npoints under" in results and f"{words.LOWER:.1f} points" in text


def test_a_row_of_cuts_is_named_by_its_start() -> None:
    cuts = {"0.9": (9.0, 0.49), "0.7": (7.5, 0.3), "0.5": (6.0, 0.2), "0.3": (4.0, 0.1)}
    text = paragraph(made_up(cuts, SIZES))
    assert "a smaller image keeps more than the cuts to 0.7 and less" in text
    assert words.labels(made_up(cuts).of("cut")[:2]) == "the cuts to 0.9, 0.7"


def test_a_cut_that_is_not_faster_is_said_and_not_chosen() -> None:
    """The model as it is takes 10 ms."""
    curve = made_up({"0.9": (10.5, 0.5), "0.7": (8.0, 0.4)}, {"256 px": (7.0, 0.45)})
    text = paragraph(curve)
    assert "The cut to 0.9 is not faster than the model as it is." in text
    assert choice(curve).label == "0.7"
    size = better_size(curve, choice(curve))
    assert size is not None and size.label == "256 px"
    assert better_size(made_up({"0.7": (8.0, 0.46)}, {"256 px": (7.0, 0.45)}), curve.dense) is None


def test_the_answer_comes_first_and_the_data_is_looked_at() -> None:
    text = paragraph(made_up(STEEP, SIZES), same_images=True)
    assert text.startswith("In the same time, and without a training, a smaller image keeps more")
    assert text.endswith("the same here, which flatters the cuts.")


def test_curve_json(tmp_path: Path) -> None:
    curve = made_up(BENT, SIZES)
    file = write_result(tmp_path / "curve.json", curve, bend_of(curve), "words", {"prune": "p"})
    content = json.loads(file.read_text())
    assert (content["finished"], content["bend"], content["text"]) == (True, "0.5", "words")
    assert content["settings"] == dict(curve.settings)
    assert [row["map"] for row in content["points"]] == [p.map for p in curve.points]
