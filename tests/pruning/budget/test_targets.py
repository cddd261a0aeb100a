"""Targets, spreads and rounding: what was asked for is what is left."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from _common import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_budget import graph_of, kept, scores_of
from torch import nn

from yolo_slim import InputError, channel_graph, load, prune, save
from yolo_slim.cli import run
from yolo_slim.measure.cost import cost
from yolo_slim.pruning.budget.choose import Goal, choose_masks, masks_by_percent
from yolo_slim.pruning.budget.target import ROUND_TO


@pytest.fixture(scope="module")
def nano() -> nn.Module:
    """yolov5n with random weights; not to be changed."""
    return random_model("yolov5n", nc=3)


def counts(masks: dict[str, torch.Tensor]) -> list[int]:
    return [int(m.sum()) for m in masks.values()]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("name", ["macs", "params"])
@pytest.mark.parametrize("round_to", [1, ROUND_TO])
def test_share_that_is_left(nano: nn.Module, name: str, share: float, round_to: int) -> None:
    """Within 2%, channel by channel within 0.1%, counted on the model that came out."""
    pruned = prune(nano, **{name: share}, round_to=round_to, residual="group", imgsz=320)
    left = getattr(cost(pruned.model, 320), name) / getattr(cost(nano, 320), name)
    assert abs(left - share) <= (0.001 if round_to == 1 else 0.02) * share
    target = pruned.report.target
    assert (target.name, target.requested) == (name, share)
    assert target.achieved == pytest.approx(left, abs=1e-9)
    words = f"requested {share:.1%} of the {'MACs' if name == 'macs' else 'parameters'}"
    assert words in pruned.report.summary()


@pytest.mark.parametrize("spread", ["global", "uniform"])
@pytest.mark.parametrize("size", [1.2, 2.5])
def test_size_of_the_file(nano: nn.Module, tmp_path: Path, size: float, spread: str) -> None:
    pruned = prune(nano, size_mb=size, budget=spread, residual="inner", imgsz=320)
    file = save(pruned, tmp_path / "pruned.pt")
    assert file.stat().st_size == pytest.approx(size * 1e6, rel=0.02)


def test_latency_is_measured(nano: nn.Module) -> None:
    """Without a table one of this machine comes first; how exact it is depends on its load."""
    report = prune(nano, latency=0.75, imgsz=160, threads=1).report
    times = report.times
    assert times is not None and times.measured is not None
    assert report.target.achieved == times.measured[1] / times.measured[0] == times.share
    for before_after in (0, 1):
        layers = sum((layer.dense, layer.pruned)[before_after] for layer in times.layers)
        assert layers == pytest.approx(times.predicted[before_after])
    assert times.predicted[1] < 0.95 * times.predicted[0]
    assert report.after.macs < report.before.macs
    assert "onnxruntime, ms, measured" in report.summary()


@pytest.mark.parametrize("n", [4, 8, 16, 32])
@pytest.mark.parametrize("residual", ["skip", "group"])
def test_counts_are_multiples(nano: nn.Module, n: int, residual: str) -> None:
    """Of N wherever a layer is twice as wide; a narrower one keeps all."""
    masks = prune(nano, macs=0.6, round_to=n, residual=residual, imgsz=320).masks
    assert len({*counts(masks)}) > 2
    for mask in masks.values():
        if len(mask) >= 2 * n:
            assert int(mask.sum()) % n == 0
        else:
            assert mask.all()


def test_rounding_yields_to_the_target() -> None:
    """Blocks of 4 can leave 16 or 12 of 20; for 14 the step is halved."""
    graph = graph_of([10, 10])
    scores = scores_of([float(i) for i in range(10)], [float(i) for i in range(20, 30)])
    goal = Goal("--x", lambda keep: float(keep.sum()) - 1, 14.0, 0.0)
    assert counts(choose_masks(graph, scores, goal, round_to=4)) == [4, 10]
    goal = Goal("--x", lambda keep: float(keep.sum()) - 1, 13.0, 0.0)
    assert counts(choose_masks(graph, scores, goal, round_to=4)) == [3, 10]


def test_blocks_go_by_their_mean() -> None:
    """4 of bn0 (mean 2.5) before 4 of bn1 (mean 3): single channels would be 0, 1, 2, 3 mixed."""
    scores = scores_of([1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 9.0, 9.0], [0.0, 0.0, 6.0, 6.0] + [9.0] * 4)
    masks = masks_by_percent(graph_of([8, 8]), scores, 0.25, round_to=4)
    assert kept(masks) == [[0, 0, 0, 0, 1, 1, 1, 1], [1] * 8]


def test_concat_of_tied_halves_is_rounded_by_part() -> None:
    """Two BNs side by side, added to a third: each half keeps a multiple, so does the sum."""
    from yolo_slim.channels.graph import join
    from yolo_slim.channels.tracer import Tracer

    tracer = Tracer()
    a, b, c = (tracer.norm(f"bn{i}", nn.BatchNorm2d(n)) for i, n in enumerate([16, 16, 32]))
    tracer.tie(join([a, b]), c)
    graph = tracer.finish()
    values = torch.rand(16).tolist(), torch.rand(16).tolist(), torch.rand(32).tolist()
    found = masks_by_percent(graph, scores_of(*values), 0.375, round_to=4)
    left = counts(found)
    assert left[0] % 4 == left[1] % 4 == 0
    assert left[0] + left[1] == left[2]
    assert left[2] == 20
    assert torch.equal(torch.cat([found["bn0"], found["bn1"]]), found["bn2"])


@given(
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0.05, 1),
    n=st.sampled_from([1, 2, 4, 8, 12, 16]),
    spread=st.sampled_from(["global", "uniform"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_any_goal_is_met_to_the_nearest_channel(
    widths: list[int], share: float, n: int, spread: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    graph, total = graph_of(widths), sum(widths)
    goal = Goal("--x", lambda keep: float(keep.sum()) - 1, max(share * total, len(widths)), 0.5)
    scores = scores_of(*(rng.random(c).tolist() for c in widths))
    masks = choose_masks(graph, scores, goal, round_to=n, spread=spread)
    assert abs(sum(counts(masks)) - goal.value) <= 0.5
    for mask, score in zip(masks.values(), scores.values(), strict=True):
        assert mask.any()
        if not mask.all():
            assert score[mask].min() >= score[~mask].max()


def test_uniform_takes_the_same_share_of_each_layer(nano: nn.Module) -> None:
    masks = prune(nano, 0.5, budget="uniform", round_to=1, imgsz=320).masks
    assert all(abs(int(m.sum()) - len(m) / 2) <= 1 for m in masks.values())


def test_curves_cut_where_it_costs_least() -> None:
    """bn0 loses nothing up to a half; bn1 loses 0.2 at once: bn0 goes first, to its half."""
    curves = {"bn0": [(0, 0), (0.5, 0.0), (1, 0.9)], "bn1": [(0, 0), (0.25, 0.2), (1, 0.9)]}
    scores = scores_of([9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0])
    masks = masks_by_percent(graph_of([4, 4]), scores, 0.25, spread=curves)
    assert kept(masks) == [[1, 1, 0, 0], [1, 1, 1, 1]]
    masks = masks_by_percent(graph_of([4, 4]), scores, 0.375, spread=curves)
    assert kept(masks) == [[1, 1, 0, 0], [0, 1, 1, 1]]
    with pytest.raises(InputError, match="no curve for bn1"):
        masks_by_percent(graph_of([4, 4]), scores, 0.5, spread={"bn0": curves["bn0"]})


def test_what_cannot_be_reached_says_what_can(nano: nn.Module) -> None:
    with pytest.raises(InputError, match=r"^macs: 0.05, expected 0.\d+ to 1, what can be reached"):
        prune(nano, macs=0.05, imgsz=320)
    with pytest.raises(InputError, match=r"^size_mb: 9, expected \d.\d+ to \d.\d+, what can be"):
        prune(nano, size_mb=9, imgsz=320)
    with pytest.raises(InputError, match=r"^params: 0.9, expected 0.\d+ to 0.\d+, what can be"):
        prune(nano, params=0.9, ratios={"model.*": 0.5}, imgsz=320)


@pytest.mark.parametrize("name", ["macs", "params", "latency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), True, "half"])
def test_share_out_of_range(tiny_model: nn.Module, name: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^{name}: .*expected the share that is left, in \(0"):
        prune(tiny_model, **{name: value}, imgsz=64)


def test_two_targets(tiny_model: nn.Module) -> None:
    with pytest.raises(InputError, match="^params: given besides macs, expected one target"):
        prune(tiny_model, macs=0.5, params=0.5, imgsz=64)


BAD = [
    (["--macs", 0], "--macs: 0.0, expected the share that is left, in (0, 1]"),
    (["--latency", 2], "--latency: 2.0, expected the share that is left, in (0, 1]"),
    (["--size-mb", -3], "--size-mb: -3.0, expected MB, more than 0"),
    (["--size-mb", "nan"], "--size-mb: nan, expected MB, more than 0"),
    (["--macs", 0.5, "--percent", 0.5], "argument --percent: not allowed with argument --macs"),
    (["--macs", 0.001], "--macs: 0.001, expected 0."),
    (["--round-to", 0], "--round-to: 0, expected 1 or more"),
    (
        ["--budget", "gobal"],
        "--budget gobal: no such file, expected global, uniform, per-mac, a yaml",
    ),
    (["--criterion", "tailor"], "--criterion"),
    (["--calib-images", 0], "--calib-images: 0, expected 1 or more"),
]


@pytest.mark.parametrize(("argv", "expected"), BAD, ids=[str(a) for a, _ in BAD])
def test_bad_options(argv: list, expected: str, refused, options) -> None:
    assert expected in refused("prune", *options["prune"], *argv)


@pytest.mark.parametrize("criterion", ["taylor", "thinet"])
def test_criterion_without_images(criterion: str, refused, tiny_checkpoint: Path) -> None:
    line = refused("prune", "--weights", tiny_checkpoint, "--criterion", criterion)
    assert line.startswith(
        f"error: --criterion {criterion}: no calibration images, expected --data"
    )


def test_recovery_without_images(refused, tiny_checkpoint: Path) -> None:
    line = refused("prune", "--weights", tiny_checkpoint, "--recover", "weights")
    assert line.startswith("error: --recover weights: no calibration images, expected --data")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- 1\n", "a yaml of globs and shares"),
        ("model.2: 1.5\n", "model.2: 1.5, expected a glob and a share in [0, 1)"),
        ("model.2: yes\n", "a glob and a share in [0, 1)"),
        ("model.77: 0.5\n", "'model.77', which matches nothing"),
    ],
)
def test_bad_ratios(text: str, expected: str, refused, options, empty_folder: Path) -> None:
    file = empty_folder.parent / "ratios.yaml"
    file.write_text(text)
    assert expected in refused("prune", *options["prune"], "--budget", file)


def test_budget_by_layer(tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    """What the yaml does not name stays whole, or makes up the rest where there is a target."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ratios.yaml").write_text(yaml.safe_dump({"model.7": 0.5, "model.1": 0.25}))
    argv = ["--weights", str(tiny_checkpoint), "--imgsz", "64", "--budget", "ratios.yaml"]
    assert run("prune", [*argv, "--round-to", "1"]) == 0
    report = json.loads((tmp_path / "runs/prune/exp/report.json").read_text())
    cut = {
        r["name"]: r["channels"] - r["kept"] for r in report["layers"] if r["kept"] < r["channels"]
    }
    assert cut == {"model.1.bn": 4, "model.7.cv1.bn": 16, "model.7.cv2.bn": 32}
    assert run("prune", [*argv, "--macs", "0.5", "--round-to", "1"]) == 0
    report = json.loads((tmp_path / "runs/prune/exp2/report.json").read_text())
    kept = {r["name"]: r["kept"] for r in report["layers"]}
    assert (kept["model.1.bn"], kept["model.7.cv2.bn"]) == (12, 32)
    assert report["target"]["achieved"] == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("criterion", ["taylor", "thinet", "l2"])
def test_command_with_images(
    criterion: str, tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch
) -> None:
    """The report says how channels were chosen, and what was looked at for it."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--imgsz", 64, "--macs", 0.7]
    assert run("prune", [str(a) for a in [*argv, "--criterion", criterion, "--workers", 0]]) == 0
    report = json.loads((tmp_path / "runs/prune/exp/report.json").read_text())
    assert report["criterion"] == criterion
    assert report["calibration"] == (16 if criterion != "l2" else 0)
    parts = ["constants", "weights"] if criterion != "l2" else ["constants"]
    assert [part["name"] for part in report["recovery"]] == parts
    assert report["residual"] == ("inner" if criterion != "l2" else "skip")
    assert {*report["accuracy"]} == {"dense", "masked", "pruned"}
    found = load(tmp_path / "runs/prune/exp/pruned.pt").model
    lineage = found.ancestry[-1]
    assert (lineage["criterion"], lineage["target"][0]) == (criterion, "macs")
    graph = channel_graph(load(tiny_checkpoint).model, report["residual"])
    assert {*found.maskbndict} == {n.name for n in graph.prunable}


def test_file_is_as_small_after_least_squares(tiny_checkpoint: Path, shapes_yaml: Path) -> None:
    """Recovered weights are stored in half precision where the dense ones are."""
    from yolo_slim.host.calibration import calibrate
    from yolo_slim.host.data import check_data

    model = load(tiny_checkpoint).model.half().float()
    calibration = calibrate(check_data(shapes_yaml), model, imgsz=64, images=8)
    plain = prune(model, macs=0.7, criterion="l1", imgsz=64)
    better = prune(
        model, macs=0.7, criterion="l1", calibration=calibration, recover=["weights"], imgsz=64
    )
    sizes = []
    for pruned in (plain, better):
        buffer = io.BytesIO()
        torch.save(pruned.model.half().state_dict(), buffer)
        sizes.append(buffer.tell())
        assert all(
            torch.equal(t.half().float(), t)
            for t in pruned.model.float().state_dict().values()
            if t.is_floating_point()
        )
    assert sizes[0] == sizes[1]
    ours, theirs = better.model.state_dict(), plain.model.state_dict()
    changed = {key.rpartition(".")[2] for key in ours if not torch.equal(ours[key], theirs[key])}
    assert changed == {"weight", "bias", "running_mean"}
