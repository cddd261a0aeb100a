"""Histograms of weights."""

from __future__ import annotations

import torch
from torch import nn

from yolo_slim.page.weights import BINS, histograms


def two_convs() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 3))


def test_every_weight_is_in_a_bin() -> None:
    models = [two_convs(), two_convs()]
    rows = histograms(models)
    assert [row.layer for row in rows] == ["0", "1"]
    for row in rows:
        sizes = [model.get_submodule(row.layer).weight.numel() for model in models]
        assert [sum(counts or ()) for counts in row.counts] == sizes
        assert all(len(counts or ()) == BINS for counts in row.counts)


def test_the_bins_are_those_of_all_models() -> None:
    small, large = two_convs(), two_convs()
    with torch.no_grad():
        small[0].weight.fill_(0.5)
        large[0].weight.copy_(torch.linspace(-1, 3, 12).view(4, 3, 1, 1))
    row = histograms([small, large])[0]
    assert (row.low, row.high) == (-1.0, 3.0)
    first = row.counts[0] or ()
    assert first.index(12) == int((0.5 + 1) / 4 * BINS)


def test_a_layer_that_is_gone_has_none() -> None:
    assert histograms([two_convs(), nn.Sequential(nn.Conv2d(3, 4, 1))])[1].counts[1] is None


def test_equal_weights_are_no_fault() -> None:
    model = two_convs()
    nn.init.zeros_(model[0].weight)
    row = histograms([model])[0]
    assert row.low < row.high and sum(row.counts[0] or ()) == 12
