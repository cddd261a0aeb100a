"""Which criterion `--criterion auto` takes."""

from __future__ import annotations

import pytest
from torch import nn

from yolo_slim.pruning.automatic import criterion_for
from yolo_slim.pruning.budget.target import Target


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"macs": 0.8}, "obs"),
        ({"params": 0.6}, "obs"),
        ({"macs": 0.45}, "thinet"),
        ({"percent": 0.2}, "obs"),
        ({"percent": 0.6}, "thinet"),
        ({"size_mb": 3.0}, "thinet"),
        ({}, "thinet"),
    ],
)
def test_by_the_size_of_the_cut(target: dict[str, float], expected: str) -> None:
    assert criterion_for(nn.Conv2d(8, 8, 3), Target.of(**target), labels=True) == expected
    assert criterion_for(nn.Conv2d(8, 8, 3), Target.of(**target), labels=False) == "thinet"


def test_of_a_large_model() -> None:
    large = nn.Linear(4000, 4000, device="meta")
    assert criterion_for(large, Target("macs", 0.9), labels=True) == "thinet"
