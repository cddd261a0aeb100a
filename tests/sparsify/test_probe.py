"""Quick cuts: the same as prune's, in the time they are given, and no trace of them in a run.

The model is the one of the sensitivity scans, that finds every label of its data.
"""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_sensitivity
import torch
from torch import nn

from yolo_slim import channel_graph, load, prune
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.host import command_line, training
from yolo_slim.host.data import check_data, read_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.models.model import build_heir
from yolo_slim.pruning.budget.globs import kept_by
from yolo_slim.sparsify.monitor import SparsityMonitor
from yolo_slim.sparsify.probe import Probe, same_generators
from yolo_slim.sparsify.probe_cost import FIXED, MARGIN, MOST, SIZES, TIMES, Cost, images_now
from yolo_slim.sparsify.readiness import start_medians
from yolo_slim.sparsify.table import read_sparsity

pytestmark = pytest.mark.usefixtures("one_thread")
IMGSZ = test_sensitivity.IMGSZ
scanned = test_sensitivity.scanned


@pytest.fixture
def eager(scanned: tuple[Path, Path]) -> tuple[nn.Module, dict[str, Any]]:
    """A model, and the data on which its mAP is high."""
    model = load(scanned[0]).model
    return model, check_data(scanned[1], model.nc)


def probe_of(model: nn.Module, data: dict[str, Any], **more: Any) -> Probe:
    settings = {"graph": channel_graph(model), "imgsz": IMGSZ, "percent": 0.3, "most": 1e9}
    return Probe(data, **{**settings, **more})


def run_of(model: nn.Module, epoch: int = 9, epochs: int = 10) -> training.Run:
    return training.Run(Namespace(), epoch, epochs, batches=2, batch_size=8, ema=model)


def generators() -> list[Any]:
    """The states of all random generators."""
    kind, keys, *rest = np.random.get_state()
    return [random.getstate(), kind, keys.tolist(), rest, torch.get_rng_state().tolist()]


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the host's logger is told, which does not pass it on."""
    training.LOGGER.addHandler(caplog.handler)
    yield caplog
    training.LOGGER.removeHandler(caplog.handler)


# what it measures


@pytest.mark.parametrize("more", [{}, {"round_to": 1}, {"round_to": 4}])
def test_it_is_what_prune_would_leave(
    eager: tuple[nn.Module, dict[str, Any]], more: dict[str, int]
) -> None:
    """Both cuts: mAP50 of the models that prune makes with its defaults, over the dense one's."""
    model, data = eager

    def map50(changed: nn.Module) -> float:
        return evaluate(changed, data, imgsz=IMGSZ, workers=0, device="cpu").map50

    now, aim = probe_of(model, data, **more).look(run_of(model), near_zero=0.149)
    for cut, share in ((now, 0.1), (aim, 0.3)):
        assert cut is not None
        assert cut.share == share
        expected = map50(prune(model, share, imgsz=IMGSZ, **more).model) / map50(model)
        assert cut.kept == pytest.approx(expected, rel=1e-3)
        assert 0 < cut.kept < 0.99
    assert now.kept > aim.kept


def test_what_is_held_is_not_cut(eager: tuple[nn.Module, dict[str, Any]]) -> None:
    model, data = eager
    graph: ChannelGraph = channel_graph(model, "inner")
    held = kept_by(graph, ["model.5", "model.11"])
    probe = probe_of(model, data, graph=graph, keep=held)
    _, aim = probe.look(run_of(model), near_zero=0.0)
    cut = prune(model, 0.3, imgsz=IMGSZ, residual="inner", keep=["model.5", "model.11"]).model
    expected = evaluate(cut, data, imgsz=IMGSZ, workers=0, device="cpu").map50
    dense = evaluate(model, data, imgsz=IMGSZ, workers=0, device="cpu").map50
    assert aim.kept == pytest.approx(expected / dense, rel=1e-3)
    free = 1 - sum(graph.norms[n].channels for n in held) / graph.prunable_channels
    assert probe.shares(1.0)[0] == pytest.approx(np.floor(free * 20) / 20)
    beyond = probe_of(model, data, graph=graph, keep=held, percent=0.95)
    assert beyond.look(run_of(model), near_zero=0.0) == (None, None)  # prune refuses it


@pytest.mark.parametrize(
    ("near_zero", "expected"),
    [
        (0.0, (0.0, 0.6)),
        (0.049, (0.0, 0.6)),
        (0.05, (0.05, 0.6)),
        (0.15, (0.15, 0.6)),  # 3 * 0.05 is a bit more
        (0.589, (0.55, 0.6)),
        (0.591, (0.0, 0.6)),  # as good as there
        (0.6, (0.0, 0.6)),
        (0.649, (0.0, 0.6)),
        (0.65, (0.65, 0.6)),
        (1.0, (0.95, 0.6)),
    ],
)
def test_shares(tiny_model: nn.Module, near_zero: float, expected: tuple[float, float]) -> None:
    assert probe_of(tiny_model, {}, percent=0.6).shares(near_zero) == pytest.approx(expected)


# no trace


def test_it_leaves_all_as_it_was(eager: tuple[nn.Module, dict[str, Any]]) -> None:
    model, data = eager
    model.train()
    model.model[0].bn.eval()
    model.model[1].bn.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    needs = [p.requires_grad for p in model.parameters()]
    weights, states, files = weights_of(model), generators(), set(Path(data["path"]).rglob("*"))
    assert torch.is_grad_enabled()
    assert None not in probe_of(model, data).look(run_of(model), near_zero=0.2)
    assert generators() == states
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == needs
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights.values(), model.state_dict().values(), strict=True)
    )
    assert all(p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled()
    assert set(Path(data["path"]).rglob("*")) == files


def test_generators_come_back_from_an_error() -> None:
    states = generators()
    with pytest.raises(KeyError), same_generators():
        random.random(), np.random.rand(), torch.rand(1)
        assert generators() != states
        raise KeyError
    assert generators() == states


class Recorded(training.Hooks):
    """A plain training that is recorded."""

    def __init__(self, probe: bool) -> None:
        self.probe, self.lines = probe, []

    def on_optimizer(self, run: training.Run, model: nn.Module, optimizer: Any) -> None:
        graph = channel_graph(model)
        probe = Probe(read_data(run.opt.data), graph, imgsz=IMGSZ, percent=0.3, most=1e9)
        names = [norm.name for norm in graph.prunable]
        self.monitor = SparsityMonitor(
            run.folder,
            names=names,
            start=start_medians(model, names),
            percent=0.3,
            epochs=run.opt.epochs,
            probe=probe if self.probe else None,
        )

    def on_epoch_end(self, run: training.Run) -> None:
        self.lines.append(self.monitor.record(run, sr=0.0))


def test_a_training_ends_in_the_same_bits(
    scanned: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's loop, with augmentation and a shuffled loader; probed each epoch or not at all."""
    monkeypatch.chdir(tmp_path)
    ends = []
    for probed in (True, False):
        argv = ["--weights", scanned[0], "--data", scanned[1], "--epochs", 3, "--imgsz", IMGSZ]
        argv += ["--batch-size", 2, "--workers", 0, "--device", "cpu", "--noplots"]
        opt = command_line.parse_options(
            [str(a) for a in argv],
            add=lambda parser: None,
            prog="",
            description="",
            weights="",
            data=None,
            imgsz=None,
        )
        hooks = Recorded(probed)
        folder = training.train(opt, hooks, build=build_heir(load(opt.weights).model))
        assert [("Cut now: 30% keeps" in line) for line in hooks.lines] == [probed] * 3
        assert [row.aim is not None for row in read_sparsity(folder / "sparsity.csv")] == [
            probed
        ] * 3
        ends.append(weights_of(load(folder / "weights" / "last.pt").model))
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


# what fails


def test_images_without_labels(
    eager: tuple[nn.Module, dict[str, Any]], tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    """Of 20 images one has labels: 8 that are spread over them miss it, 16 do not."""
    model, data = eager
    image = min((Path(data["path"]) / "images" / "val").glob("*.png"))
    labels = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    for i in range(20):
        (tmp_path / "images" / "val" / f"{i:02d}.png").write_bytes(image.read_bytes())
    (tmp_path / "labels" / "val" / "18.txt").write_text(labels.read_text())
    now = [0.0]
    data = {**data, "val": str(tmp_path / "images" / "val")}
    probe = probe_of(model, data, most=0.84, clock=lambda: now[0])
    found = []
    for epoch in range(
        5
    ):  # 8.4 s more each; to look at 8 images is believed to take 7.8 s, at 16 15.3 s
        now[0] += 10
        found.append(probe.look(run_of(model, epoch, 5), near_zero=0.0)[1])
    assert [cut is not None for cut in found] == [False, True, True, True, True]
    assert not told.records


def test_a_failure_ends_the_looks_and_not_the_training(
    eager: tuple[nn.Module, dict[str, Any]], told: pytest.LogCaptureFixture
) -> None:
    """A model that cannot be run in between."""
    model, data = eager
    broken, states = deepcopy(model), generators()
    del broken.model[5].conv
    probe = probe_of(model, data)
    assert None not in probe.look(run_of(model), near_zero=0.2)
    assert not told.records
    for ema in (broken, model):
        assert probe.look(run_of(ema), near_zero=0.2) == (None, None)
    (record,) = told.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("sparsity: no more quick cuts, since one failed (")
    assert "\n" not in record.getMessage()
    assert generators() == states


def test_a_model_that_finds_nothing_tells_nothing(
    eager: tuple[nn.Module, dict[str, Any]], told: pytest.LogCaptureFixture
) -> None:
    model, data = eager
    for conv in model.model[-1].m:
        nn.init.constant_(conv.bias, -20.0)
        nn.init.zeros_(conv.weight)
    assert probe_of(model, data).look(run_of(model), near_zero=0.2) == (None, None)
    assert not told.records


# what it costs


@pytest.mark.parametrize("epochs", [1, 3, 30, 300])
@pytest.mark.parametrize("seconds", [0.3, 3.0, 30.0, 3000.0])
@pytest.mark.parametrize("cost", [Cost(0.001, 0.001), Cost(0.1, 0.02), Cost(0.5, 0.3)])
def test_plan_keeps_to_its_share(epochs: int, seconds: float, cost: Cost) -> None:
    """At no epoch more than its share is spent; the last epoch is looked at if 8 images ever are.

    A run that can afford it looks TIMES times at least.
    """
    spent, looks = 0.0, {}
    for epoch in range(epochs):
        images = images_now(
            cost,
            runs=3,
            credit=MOST * seconds * (epoch + 1) - spent,
            income=MOST * seconds,
            left=epochs - epoch - 1,
            epochs=epochs,
        )
        assert images in (0, *SIZES)
        if images:
            looks[epoch] = images
            spent += cost.of(images, 3) / MARGIN
        assert spent <= MOST * seconds * (epoch + 1)
    price = cost.of(SIZES[0], 3)
    assert (epochs - 1 in looks) == (price <= MOST * seconds * epochs)
    if price <= MOST * seconds * epochs / TIMES:
        assert len(looks) >= min(epochs, TIMES)
    if cost.of(SIZES[-1], 3) <= MOST * seconds:
        assert list(looks.values()) == [SIZES[-1]] * epochs


def test_costs_by_hand() -> None:
    cost = Cost(fixed=0.1, image=0.02)
    assert cost.of(8, 3) == pytest.approx(MARGIN * 3 * (0.1 + 0.16))
    assert Cost.measured(3.0, images=9, runs=3) == Cost(FIXED, pytest.approx(0.1))
    assert Cost.measured(0.3, images=10, runs=3) == Cost(pytest.approx(0.05), pytest.approx(0.005))


@pytest.mark.parametrize(
    ("credit", "left", "expected"),
    [
        (1.16, 4, 0),  # 8 images take 1.17 s
        (1.18, 4, 8),
        (1.18, 1, 0),  # the last epoch would have no more than 0.6 s
        (1.18, 0, 8),
        (1.90, 0, 16),
        (9.99, 0, 64),
        (9.99, 4, 8),  # more than 8 would be too seldom
    ],
)
def test_number_of_images_by_hand(credit: float, left: int, expected: int) -> None:
    cost = Cost(fixed=0.1, image=0.02)  # of 3 validations: 1.17, 1.89, 3.33, 6.21 s
    found = images_now(cost, runs=3, credit=credit, income=0.6, left=left, epochs=10)
    assert found == expected


class Clock:
    """Goes some seconds each time it is read."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_seconds_are_counted(eager: tuple[nn.Module, dict[str, Any]]) -> None:
    """Epochs of 19 s give 0.57 s each; a look reads the clock four times after its first, 1 s."""
    model, data = eager
    clock = Clock(0.25)
    probe = probe_of(model, data, most=MOST, clock=clock)
    began, looked = clock.now, []
    for epoch in range(16):
        clock.now += 19
        run = run_of(model, epoch, 16)
        run.batches = 32  # of 8 images: a first look at 8 more is believed to take 1.2 s
        looked.append(probe.look(run, near_zero=0.0)[1] is not None)
        assert probe.seconds + probe.spent == clock.now - began
        assert probe.spent == sum(looked)
        assert probe.spent <= MOST * probe.seconds
    assert 4 <= sum(looked) <= 9
    assert looked[-1]


@pytest.mark.parametrize(("share", "measured"), [(0.03, 0), (0.09, 1), (0.1, 2)])
def test_a_look_that_takes_long_is_cut_short(
    eager: tuple[nn.Module, dict[str, Any]], share: float, measured: int
) -> None:
    """Believed to take 2 s, a validation takes 40 of 60, 180 or 200: none begins that ends late."""
    model, data = eager
    clock = Clock(0.0)
    probe = probe_of(model, data, most=share, clock=clock)
    clock.now, clock.step = 1960.0, 40.0
    run = run_of(model)
    run.batches = 1000
    cuts = probe.look(run, near_zero=0.1)
    assert sum(cut is not None for cut in cuts) == measured
    assert (probe.seconds, probe.spent) == (2000.0, 200.0)
