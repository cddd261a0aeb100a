"""Sparse training in every mode of the host, in its own loop: zeros are reached, and held."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sparse_runs import SMALL, after, epochs_of, saved_zeros, zeros_of
from torch import nn

from yolo_slim.cli import run
from yolo_slim.commands import prune, sparse
from yolo_slim.host import checkpoint, hooks, training
from yolo_slim.host.training import Run
from yolo_slim.runs import checkpoint_to_cut
from yolo_slim.sparsify.schedule import learning_rates
from yolo_slim.sparsify.session import SparseSession

pytestmark = pytest.mark.usefixtures("one_thread")
EPOCHS, PERCENT = 6, 0.5
MODES = [
    ["--multi-scale", "--cos-lr"],
    ["--optimizer", "Adam", "--rect"],
    ["--optimizer", "AdamW", "--image-weights"],
    ["--single-cls", "--cache", "ram"],
    ["--quad"],
    ["--freeze", "2"],
    ["--freeze", "1", "3", "--optimizer", "Adam"],
    ["--keep", "model.11", "--residual", "group"],
]


@pytest.fixture
def argv(empty_folder: Path, tiny_yaml: dict[str, Any], shapes_yaml: Path) -> list[str]:
    """A sparse training with --sr auto, in an empty folder."""
    (empty_folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml))
    argv = ["--st", "--cfg", "tiny.yaml", "--data", str(shapes_yaml), "--epochs", str(EPOCHS)]
    return [*argv, "--percent", str(PERCENT), "--round-to", "1", "--no-probe", *SMALL]


class Watch:
    """Looks at a run when an epoch has ended.

    Attributes:
        names: of the BNs that are penalised.
        of_prunable: share of the prunable channels that they have; the others are kept.
        zeros: share of their gammas that are zero in the model, for each epoch.
        begin, end: gammas and betas of all BNs, before the first batch and at the end.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.of_prunable = 1.0
        self.zeros: list[float] = []
        self.begin: dict[str, torch.Tensor] = {}
        self.end: dict[str, torch.Tensor] = {}
        after(monkeypatch, "on_optimizer", self.start)
        after(monkeypatch, "on_epoch_end", self.look)

    def start(self, session: SparseSession, run: Run, model: nn.Module, optimizer: Any) -> None:
        assert session.penalty is not None
        self.model, self.names = model, session.penalty.names
        norms = session.penalty.norms
        self.of_prunable = sum(norms.sizes) / sum(norm.channels for norm in norms.graph.prunable)
        self.begin = self.values()

    def look(self, session: SparseSession, run: Run) -> None:
        """The average has to be zero wherever the model is."""
        norms = {name: self.model.get_submodule(name) for name in self.names}
        self.zeros.append(zeros_of(norms))
        self.end = self.values()
        assert_covers(run.ema, self.model, self.names)

    def values(self) -> dict[str, torch.Tensor]:
        return {
            f"{name}.{key}": value.detach().clone()
            for name, module in self.model.named_modules()
            if isinstance(module, nn.BatchNorm2d)
            for key, value in (("weight", module.weight), ("bias", module.bias))
        }


def assert_covers(ema: nn.Module, model: nn.Module, names: list[str]) -> None:
    """What is zero in the model is zero in its average."""
    for name in names:
        mine, other = model.get_submodule(name), ema.get_submodule(name)
        gone = mine.weight == 0
        assert not other.weight[gone].any(), name
        assert not other.bias[gone & (mine.bias == 0)].any(), name


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
def test_zeros_are_reached_and_held(
    argv: list[str], mode: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    folder = sparse.main([*argv, *mode])
    assert epochs_of(folder / "sparsity.csv") == list(range(EPOCHS))
    share = saved_zeros(folder / "weights" / "last.pt", watch.names)
    assert share * watch.of_prunable == pytest.approx(PERCENT, abs=0.01)
    assert watch.zeros[0] < watch.zeros[1] <= watch.zeros[-1]
    assert watch.zeros[-2] == watch.zeros[-1] == pytest.approx(share, abs=1e-6)
    frozen = {"2": ("model.0.", "model.1."), "1": ("model.1.", "model.3.")}
    prefixes = frozen[mode[1]] if "--freeze" in mode else ()
    for key, value in watch.begin.items():
        assert torch.equal(value, watch.end[key]) == key.startswith(prefixes), key


@pytest.mark.parametrize("sr", ["auto", "0.05"])
def test_once_an_optimizer_step_with_accumulation(
    argv: list[str], sr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At batch 8 the host comes to take a step on several batches: gradients add up, not this."""
    steps: list[int] = []
    acted: list[int] = []
    planned: list[tuple[float, float]] = []

    def counted(original: Callable[[Any], None]) -> Callable[[Any], None]:
        def act(optimizer: torch.optim.Optimizer) -> None:
            acted.append(1)
            original(optimizer)

        return act

    def count(session: SparseSession, run: Run, model: nn.Module, optimizer: Any) -> None:
        penalty = session.penalty
        assert penalty is not None
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        for name in ("before_step_", "after_step_"):
            monkeypatch.setattr(penalty, name, counted(getattr(penalty, name)))
        planned.extend(learning_rates(run.hyp, epochs=run.opt.epochs, batches=2, batch_size=8))

    after(monkeypatch, "on_optimizer", count)
    argv[argv.index("--round-to") : argv.index("--round-to") + 2] = []
    sparse.main([*argv, "--sr", sr, "--epochs", "12"])
    assert len(steps) == len(planned) == 15  # of 24 batches
    assert len(acted) == 2 * len(steps)


def test_the_average_is_as_sparse_as_the_model(
    argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an average so slow that by itself it would not have a single zero."""

    class Slow(hooks.host.ModelEMA):
        def __init__(self, model: nn.Module) -> None:
            super().__init__(model, updates=10**6)

    monkeypatch.setattr(hooks.host, "ModelEMA", Slow)
    watch = Watch(monkeypatch)
    before: list[float] = []

    def unsilenced(session: SparseSession, run: Run) -> None:
        before.append(zeros_of({name: run.ema.get_submodule(name) for name in watch.names}))

    def compare_file(session: SparseSession, run: Run) -> None:
        if run.epoch:
            saved = checkpoint.read(run.last)
            assert saved["epoch"] == run.epoch - 1
            norms = {name: saved["model"].get_submodule(name) for name in watch.names}
            assert zeros_of(norms) == watch.zeros[-1]
            assert_covers(saved["ema"], saved["model"], watch.names)

    after(monkeypatch, "on_validation", unsilenced, first=True)
    after(monkeypatch, "on_epoch_start", compare_file)
    folder = sparse.main(argv)
    first = next(epoch for epoch, share in enumerate(watch.zeros) if share)
    assert before[: first + 1] == [0] * (first + 1)
    assert before[first + 1] > 0
    assert saved_zeros(folder / "weights" / "last.pt", watch.names) == pytest.approx(
        watch.zeros[-1], abs=1e-6
    )


def test_evolution_is_refused(refused: Any, options: dict[str, list]) -> None:
    line = refused("sparse", *options["sparse"], "--st", "--evolve", "2")
    assert "--evolve: given with --st, expected one of the two" in line


def test_a_finetuning_is_not_resumed_as_a_sparse_training(
    refused: Any,
    options: dict[str, list],
    interrupt: Any,
    monkeypatch: pytest.MonkeyPatch,
    empty_folder: Path,
) -> None:
    interrupt(1)
    argv = [str(value) for value in options["finetune"]]
    argv[argv.index("--epochs") + 1] = "3"
    assert run("finetune", [*argv, "--noplots"]) == 130
    monkeypatch.undo()
    monkeypatch.chdir(empty_folder)
    (last,) = empty_folder.rglob("last.pt")
    line = refused("sparse", "--resume", last)
    assert "no --st in its opt.yaml, expected a run of train_sparse.py" in line
    line = refused("sparse", "--resume")
    assert "--resume: no run to go on with found in runs/" in line


@pytest.mark.parametrize("sr", ["auto", "0.05"])
def test_best_is_as_sparse_as_last(
    argv: list[str], sr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where mAP only falls: with auto nothing before the zeros are held counts as best."""
    worth = {epoch: 0.9 - 0.1 * epoch for epoch in range(EPOCHS)}
    seen, saved = iter(worth), {}

    def fitness(results: Any) -> float:
        return worth[next(seen)]

    def save(data: Any, file: Any, *args: Any) -> None:
        if Path(file).name == "best.pt" and data["epoch"] >= 0:
            saved[data["epoch"]] = data["yolo_slim"]["held"]
        original(data, file, *args)

    original = training.save_aside
    monkeypatch.setattr(hooks.host, "fitness", fitness)
    monkeypatch.setattr(training, "save_aside", save)
    watch = Watch(monkeypatch)
    folder = sparse.main([*argv, "--sr", sr, "--patience", "2"])
    best, last = folder / "weights" / "best.pt", folder / "weights" / "last.pt"
    if sr == "auto":  # the last one to be saved is the first one that is held at its end
        held = max(saved)
        assert EPOCHS / 2 <= held < EPOCHS - 1
        assert saved == {**dict.fromkeys(range(held)), held: held}
        assert epochs_of(folder / "sparsity.csv") == list(range(EPOCHS))
        assert saved_zeros(best, watch.names) == saved_zeros(last, watch.names) > 0.4
        assert checkpoint_to_cut(folder) == best
    else:  # the host's own: it stops early, and best.pt is of the first epoch
        assert saved == {0: None}
        assert epochs_of(folder / "sparsity.csv") == [0, 1, 2]
        assert checkpoint_to_cut(folder) == last


def test_prune_takes_what_is_zero(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    """With no option: the newest training, its share and its rounding. It says if more goes."""
    folder = sparse.main(argv)
    capsys.readouterr()
    assert prune.main(["--percent", "0.7", "--dry-run"]) is None
    assert "20% of the prunable channels are cut though the sparse" in capsys.readouterr().out
    pruned = prune.main([])
    assert pruned is not None
    assert "though the sparse" not in capsys.readouterr().out
    report = json.loads((pruned / "report.json").read_text())
    assert report["weights"] == str((folder / "weights" / "best.pt").absolute())
    assert report["options"]["round_to"] == 1
    assert report["percent"] == pytest.approx(PERCENT, abs=0.01)
    sparse_model = checkpoint.load(folder / "weights" / "best.pt").model
    masks = torch.load(pruned / "masks.pt")
    for name, mask in masks.items():
        assert not sparse_model.get_submodule(name).weight[~mask].any(), name
