"""Cutting little by little, and by MACs: the target is reached, in the order that it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolo_slim import InputError, channel_graph, prune
from yolo_slim.calibration import Calibration
from yolo_slim.cli import run
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.budget.mask_cost import MaskCost
from yolo_slim.pruning.budget.spread import GONE, spending, spread_out
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.rebuild.rebuild import rebuild

pytestmark = pytest.mark.usefixtures("one_thread")


def images() -> Calibration:
    whole = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return Calibration(tuple((part, None) for part in whole.split(4)))


def test_what_a_channel_takes_is_what_its_cut_saves(tiny_model: nn.Module) -> None:
    """Against models that are rebuilt without it; tied channels go together."""
    graph = channel_graph(tiny_model, "group")
    found = spending(graph, MaskCost(tiny_model, graph, 64))
    whole = cost(tiny_model, 64).macs
    assert set(found) == {n.name for n in graph.prunable}
    for norm in graph.prunable[::4]:
        group = graph.group[norm.offset]
        masks = {n.name: torch.from_numpy(graph.group[n.ids] != group) for n in graph.prunable}
        saved = whole - cost(rebuild(tiny_model, graph, masks), 64).macs
        assert found[norm.name] == pytest.approx(saved / whole), norm.name


def test_per_mac_takes_fewer_channels_for_the_same_macs(tiny_model: nn.Module) -> None:
    """Of random scores those go that save most."""
    cuts = [
        prune(tiny_model, macs=0.6, criterion="random", budget=budget, imgsz=64, round_to=1)
        for budget in ("global", "per-mac")
    ]
    assert [c.report.after.macs / c.report.before.macs for c in cuts] == pytest.approx(
        [0.6, 0.6], rel=0.02
    )
    assert cuts[1].report.achieved < 0.8 * cuts[0].report.achieved
    assert cuts[1].report.budget == "per-mac"


def test_what_is_gone_goes_first() -> None:
    found = spread_out(torch.tensor([3.0, 1.0]), torch.tensor([True, False, True, False]))
    assert found.tolist() == [3.0, GONE, 1.0, GONE]


@pytest.mark.parametrize("target", [{"percent": 0.5}, {"macs": 0.6}, {"params": 0.5}])
@pytest.mark.parametrize("round_to", [1, 8])
def test_the_target_is_reached_in_steps(
    target: dict[str, float], round_to: int, tiny_model: nn.Module
) -> None:
    found = prune(
        tiny_model,
        **target,
        criterion="thinet",
        calibration=images(),
        steps=3,
        imgsz=64,
        round_to=round_to,
    ).report
    assert found.target.achieved == pytest.approx(next(iter(target.values())), rel=0.03)
    assert found.parity < 1e-9 and found.recovered == ("constants", "weights")


def test_steps_score_the_recovered_model(tiny_model: nn.Module, monkeypatch) -> None:
    """Each step sees a smaller model; what one has cut the next ones cut too."""
    seen = list[tuple[int, set[str]]]()

    def look(model: nn.Module, graph, *args, **kwargs):
        seen.append((cost(model, 64).macs, set(graph.norms)))
        return score(model, graph, *args, **kwargs)

    monkeypatch.setattr("yolo_slim.pruning.prune.score", look)
    options = {"criterion": "l2", "calibration": images(), "imgsz": 64, "round_to": 1}
    steps = prune(tiny_model, macs=0.5, steps=4, recover=["weights"], **options)
    macs = [m for m, _ in seen]
    assert np.array(macs) / macs[0] == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8], rel=0.03)
    before = [m for m in seen]
    assert len(before) == 4 and steps.report.after.macs / macs[0] == pytest.approx(0.5, rel=0.03)
    once = prune(tiny_model, macs=0.5, recover=["weights"], **options)
    assert any(not torch.equal(once.masks[n], mask) for n, mask in steps.masks.items())


def test_without_recovery_steps_of_a_fixed_score_are_one(tiny_model: nn.Module) -> None:
    """ "first" scores a channel by its place, which a cut of the last ones does not change."""
    cuts = [
        prune(tiny_model, 0.5, criterion="first", budget="uniform", steps=n, imgsz=64, round_to=1)
        for n in (1, 4)
    ]
    assert all(torch.equal(cuts[1].masks[n], mask) for n, mask in cuts[0].masks.items())


def test_bad_steps(tiny_model: nn.Module, tiny_checkpoint: Path, capsys) -> None:
    with pytest.raises(InputError, match="steps: 0, expected 1 or more"):
        prune(tiny_model, 0.3, steps=0)
    assert run("prune", ["--weights", str(tiny_checkpoint), "--steps", "0"]) == 2
    assert capsys.readouterr().err == "error: --steps: 0, expected 1 or more\n"
