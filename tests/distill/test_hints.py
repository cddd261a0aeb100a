"""Hints of the model before the cut: what they add by hand, where they end, what is left alone."""

from __future__ import annotations

import csv
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolo_slim import load, prune, save
from yolo_slim.cli import run
from yolo_slim.commands import finetune
from yolo_slim.distill.hints import GAIN, UNTIL, Hints, kept_channels
from yolo_slim.distill.record import CSV
from yolo_slim.errors import InputError
from yolo_slim.numerics import relative_error

SMALL = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots", "--epochs", "4"]
LAYERS = ("model.0", "model.2.cv1", "model.4.m.1.cv2", "model.7.cv2", "model.11.cv3")


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def hinted(model: nn.Module, cut: Any) -> Hints:
    found = Hints(model, cut.model, cut.masks)
    found.attach()
    return found


# The loss


def test_a_share_of_the_energy() -> None:
    theirs = torch.randn(2, 5, 4, 4)
    assert float(relative_error(0 * theirs, theirs)) == pytest.approx(1)
    assert float(relative_error(1.5 * theirs, 1e3 * theirs / 1e3)) == pytest.approx(0.25)


def test_where_nothing_is_cut_there_is_nothing_to_say(tiny_model: nn.Module) -> None:
    cut = prune(tiny_model, 0.0, imgsz=64, recover=())
    found = hinted(tiny_model, cut)
    cut.model.eval()(images())
    assert float(found.loss(0.0).detach()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("residual", ["skip", "inner", "group"])
def test_a_batch_against_plain_passes(residual: Any, tiny_model: nn.Module) -> None:
    """The mean over the layers, of maps that are looked up one by one."""
    cut = prune(tiny_model, 0.4, residual=residual, round_to=1, imgsz=64)
    found = hinted(tiny_model, cut)
    student = cut.model.train()
    student(images())
    added = found.loss(0.0)
    maps: dict[tuple[str, str], torch.Tensor] = {}
    handles = []
    for who, model in (("ours", student), ("theirs", tiny_model)):
        for name in found.kept:
            handles.append(
                model.get_submodule(name).register_forward_hook(
                    lambda m, x, y, key=(who, name): maps.__setitem__(key, y)
                )
            )
    with torch.no_grad():
        student(images())
        tiny_model(images())
    errors = []
    for name in found.kept:
        theirs, mask = maps["theirs", name], cut.masks.get(f"{name}.bn")
        theirs = theirs if mask is None else theirs[:, mask]
        errors.append(float(((maps["ours", name] - theirs) ** 2).sum() / (theirs**2).sum()))
    assert set(LAYERS) < set(found.kept) and len(found.kept) == len(errors)
    assert float(added) == pytest.approx(GAIN * 2 * sum(errors) / len(errors), rel=1e-3)
    assert found.mean() == pytest.approx(sum(errors) / len(errors), rel=1e-3)
    assert found.mean() == 0.0


def test_they_fade_out(tiny_model: nn.Module) -> None:
    found = Hints(tiny_model, prune(tiny_model, 0.0, imgsz=64).model, {}, gain=2.0, until=0.8)
    weights = [found.weight(progress) for progress in (0.0, 0.2, 0.4, 0.8, 1.0)]
    assert weights == pytest.approx([2.0, 1.5, 1.0, 0.0, 0.0])
    assert Hints(tiny_model, tiny_model, {}).weight(UNTIL) == 0


def test_the_student_learns_and_the_source_does_not(tiny_model: nn.Module) -> None:
    before = deepcopy(tiny_model.state_dict())
    cut = prune(tiny_model, 0.3, imgsz=64)
    student, found = cut.model.train(), hinted(tiny_model, cut)
    asked = deepcopy(found.source.state_dict())
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    course = []
    for _ in range(20):
        student(images(4))
        loss = found.loss(0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(found.mean())
    assert course[-1] < 0.8 * course[0]
    assert all(torch.equal(v, before[k]) for k, v in tiny_model.state_dict().items())
    assert all(torch.equal(v, asked[k]) for k, v in found.source.state_dict().items())
    assert not found.source.training
    found.detach()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())


def test_another_model_is_refused(tiny_model: nn.Module) -> None:
    cut = prune(tiny_model, 0.3, imgsz=64)
    smaller = prune(tiny_model, 0.5, imgsz=64).model
    with pytest.raises(InputError, match="the source of the hints: .* channels in model"):
        kept_channels(smaller, cut.model, cut.masks)
    with pytest.raises(InputError, match="the source of the hints: 0 channels in model"):
        kept_channels(nn.Sequential(), cut.model, cut.masks)


# The host's loop


@pytest.fixture
def cut_tiny(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pruned.pt of prune.py, which knows what it was cut from: dense.pt beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_checkpoint, tmp_path / "dense.pt")
    options = ["--weights", "dense.pt", "--percent", "0.3", "--round-to", "1", "--exist-ok"]
    assert run("prune", options) == 0
    return tmp_path / "runs" / "prune" / "exp" / "pruned.pt"


def finetuned(cut: Path, data: Path, name: str, *options: Any) -> Path:
    argv = ["--weights", cut, "--data", data, *SMALL, "--name", name, *options]
    return finetune.main([str(value) for value in argv])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / CSV).open() as file:
        return list(csv.DictReader(file))


def test_in_the_hosts_loop(cut_tiny: Path, shapes_yaml: Path, caplog) -> None:
    """By default, for the first quarter; the checkpoint is that of a training without them."""
    folder = finetuned(cut_tiny, shapes_yaml, "hinted", "--epochs", "8")
    found = rows(folder)
    assert [row["epoch"] for row in found] == ["0", "1"]
    assert all(float(row["hints"]) > 0 and not row["box"] for row in found)
    assert caplog.text.count("hints: the feature maps differ by ") == 2
    plain = finetuned(cut_tiny, shapes_yaml, "plain", "--hints", "none")
    assert not (plain / CSV).exists()
    ours, theirs = (load(f / "weights" / "best.pt").model.state_dict() for f in (folder, plain))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert any(not torch.equal(ours[k], theirs[k]) for k in ours)


def test_hints_that_say_nothing_leave_the_hosts_training(
    cut_tiny: Path, shapes_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: nothing is drawn, nothing of the student is touched."""
    loss = Hints.loss
    with monkeypatch.context() as patch:
        patch.setattr(Hints, "loss", lambda self, progress: 0 * loss(self, progress).detach())
        hinted = finetuned(cut_tiny, shapes_yaml, "hinted")
    plain = finetuned(cut_tiny, shapes_yaml, "plain", "--hints", "none")
    ours, theirs = (load(f / "weights" / "last.pt").model.state_dict() for f in (hinted, plain))
    assert len(rows(hinted)) == 1 and all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_interrupted_they_go_on(cut_tiny: Path, shapes_yaml: Path, monkeypatch) -> None:
    """And do not begin anew when they have ended."""

    class Stop(Exception):
        pass

    start = finetune.Finetuning.on_epoch_start

    def stop(self: Any, step: Any) -> None:
        if step.epoch == 1:
            raise Stop
        start(self, step)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(finetune.Finetuning, "on_epoch_start", stop)
        finetuned(cut_tiny, shapes_yaml, "half", "--epochs", "8")
    last = cut_tiny.parents[2] / "finetune" / "half" / "weights" / "last.pt"
    folder = finetune.main(["--resume", str(last)])
    assert [row["epoch"] for row in rows(folder)] == ["0", "1"]
    assert all(float(row["hints"]) > 0 for row in rows(folder))


@pytest.mark.parametrize("what", ["gone", "another"])
def test_a_source_that_is_not_there_any_more(
    what: str, cut_tiny: Path, shapes_yaml: Path, tmp_path: Path, caplog
) -> None:
    """It trains without, and says so."""
    (tmp_path / "dense.pt").unlink()
    if what == "another":
        shutil.copy(cut_tiny, tmp_path / "dense.pt")
    folder = finetuned(cut_tiny, shapes_yaml, "none")
    expected = {"gone": "dense.pt is gone", "another": "dense.pt is not the model that was cut"}
    assert "hints: none, " in caplog.text and expected[what] in caplog.text
    assert not (folder / CSV).exists()


def test_hints_that_cannot_be_given(
    cut_tiny: Path, shapes_yaml: Path, tiny_model: nn.Module, tmp_path: Path, capsys
) -> None:
    smaller = save(prune(tiny_model, 0.5, imgsz=64).model, tmp_path / "smaller.pt")
    argv = ["--weights", str(cut_tiny), "--data", str(shapes_yaml), *SMALL, "--project", "other"]
    for given, expected in (
        (smaller, f"--hints {smaller}: "),
        (tmp_path / "none.pt", "none.pt: no such file, expected a YOLOv5 checkpoint"),
    ):
        assert run("finetune", [*argv, "--hints", str(given)]) == 2
        assert expected in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "other").exists()
