"""Names of files in the tables of bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_slim.report.bench_table import labels


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["exp/weights/best.pt", "x/weights/best.pt"],
            ["exp/weights/best.pt", "x/weights/best.pt"],
        ),
        (["exp10/weights/best.pt", "x/weights/best.pt"], ["exp10/.../best.pt", "x/.../best.pt"]),
        (["a.pt", "b/a.pt"], ["a.pt", "b/a.pt"]),
        (["dense.pt", "runs/export/exp/slim.onnx"], ["dense.pt", "slim.onnx"]),
        (["x/a.pt", "x/a.pt"], ["a.pt", "a.pt"]),
        (
            ["a-long-experiment-1/best.pt", "a-long-experiment-2/best.pt"],
            ["a-long-e...1/best.pt", "a-long-e...2/best.pt"],
        ),
        (
            ["1-long-experiment-x/best.pt", "2-long-experiment-x/best.pt"],
            ["1-long-e...x/best.pt", "2-long-e...x/best.pt"],
        ),
        (
            ["a-long-thing/1/of-the-long-things.pt", "a-long-thing/2/of-the-long-things.pt"],
            ["1/of-the...things.pt", "2/of-the...things.pt"],
        ),
        (
            [
                "long-experiment-1-of-long-experiments.pt",
                "long-experiment-2-of-long-experiments.pt",
            ],
            ["1 ...xperiments.pt", "2 ...xperiments.pt"],
        ),
    ],
)
def test_names_are_shortened_where_they_do_not_differ(files, expected) -> None:
    found = labels([Path("/runs") / file for file in files], 20)
    assert found == expected
    assert max(map(len, found)) <= 20
