"""A teacher in the host's loop: what it adds by hand, what it leaves alone, what is thrown away."""

from __future__ import annotations

import csv
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from yolo_slim import load, prune, save
from yolo_slim.cli import run
from yolo_slim.commands import finetune
from yolo_slim.distill import teacher as teaching
from yolo_slim.distill.loss import GAINS, PARTS, feature_part
from yolo_slim.distill.record import CSV
from yolo_slim.distill.teacher import Teacher, maps
from yolo_slim.host.outputs import excess, output_parts

SMALL = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots", "--epochs", "2"]


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def taught(student: nn.Module, model: nn.Module) -> tuple[Teacher, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    return Teacher(model, student, optimizer), optimizer


# The loss


def test_equal_maps_differ_by_nothing() -> None:
    some = [torch.randn(2, 3, 4, 4, 9), torch.randn(2, 3, 2, 2, 9)]
    parts = output_parts(some, some, 4)
    assert {name: float(value) for name, value in parts.items()} == pytest.approx(
        {"box": 0, "cls": 0, "obj": 0}, abs=1e-7
    )
    assert float(feature_part(some, some)) == 0


def test_parts_by_hand() -> None:
    """Two cells that the teacher is sure of by 0.5 and 0.1, one class of two of which is wrong."""
    logit = lambda p: float(np.log(p / (1 - p)))  # noqa: E731
    theirs = torch.zeros(1, 1, 1, 2, 7)
    theirs[..., 0, 4], theirs[..., 1, 4] = logit(0.5), logit(0.1)
    ours = theirs.clone()
    ours[..., 0, 0] = logit(0.9)  # 0.4 from the teacher's 0.5
    ours[..., 1, 5] = logit(0.8)
    ours[..., 1, 4] = logit(0.2)
    parts = output_parts([ours], [theirs], 2)
    divergence = -0.5 * np.log(0.8) - 0.5 * np.log(0.2) + np.log(0.5)
    assert float(parts["box"]) == pytest.approx(0.5 * 0.4**2 / 0.6, rel=1e-5)
    assert float(parts["cls"]) == pytest.approx(0.1 * divergence / 0.6, rel=1e-5)
    other = -0.1 * np.log(0.2) - 0.9 * np.log(0.8) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    assert float(parts["obj"]) == pytest.approx(4 * other / 2, rel=1e-5)
    single = output_parts([ours[..., :6]], [theirs[..., :6]], 1)
    assert float(single["cls"]) == 0  # the host trains no class where there is one


def test_excess_is_least_where_they_agree() -> None:
    theirs = torch.linspace(-4, 4, 9)
    grid = torch.linspace(-6, 6, 121)
    values = excess(grid[:, None].expand(-1, 9), theirs.expand(121, -1))
    assert (values >= -1e-6).all()
    assert torch.allclose(grid[values.argmin(0)], theirs, atol=0.051)


def test_features_as_a_share_of_the_teachers_energy() -> None:
    theirs = [torch.randn(2, 5, 4, 4), 7 * torch.randn(2, 8, 2, 2)]
    assert float(feature_part([0 * t for t in theirs], theirs)) == pytest.approx(1)
    assert float(feature_part([1.5 * t for t in theirs], theirs)) == pytest.approx(0.25)


# The teacher


def test_a_batch_against_plain_passes(tiny_model: nn.Module) -> None:
    """What it adds is what two models by themselves differ by."""
    slim = prune(tiny_model, 0.4, imgsz=64).model.train()
    found, _ = taught(slim, tiny_model)
    found.attach()
    outputs = slim(images())
    added = found.loss(outputs)
    dense = deepcopy(tiny_model).eval()
    dense.model[-1].training = True
    read: dict[str, Any] = {}
    for name, model in (("ours", slim), ("theirs", dense)):
        model.model[-1].register_forward_pre_hook(
            lambda m, x, name=name: read.__setitem__(name, list(x[0]))
        )
    with torch.no_grad():
        parts = output_parts(maps(slim(images())), maps(dense(images())), 4)
    adapted = [a(x) for a, x in zip(found.adapters, read["ours"], strict=True)]
    parts["features"] = feature_part(adapted, read["theirs"])
    assert float(added) == pytest.approx(float(sum(GAINS[n] * parts[n] for n in PARTS)), rel=1e-3)
    assert found.means() == pytest.approx({n: GAINS[n] * float(parts[n]) for n in PARTS}, rel=1e-3)
    assert set(found.means().values()) == {0.0}


def test_the_student_learns_and_the_teacher_does_not(tiny_model: nn.Module) -> None:
    """Twenty steps on nothing but the teacher: every part falls, student and adapters move."""
    slim = prune(tiny_model, 0.3, imgsz=64).model.train()
    before, dense = deepcopy(slim.state_dict()), deepcopy(tiny_model.state_dict())
    optimizer = torch.optim.Adam(slim.parameters(), lr=2e-3)
    found = Teacher(tiny_model, slim, optimizer)
    asked = deepcopy(found.model.state_dict())
    optimizer.param_groups[-1]["lr"] = 2e-2
    found.attach()
    course = []
    for _ in range(20):
        loss = found.loss(slim(images(4)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(found.means())
    for name in PARTS:
        assert course[-1][name] < 0.8 * course[0][name], name
    assert not found.model.training and not any(p.requires_grad for p in found.model.parameters())
    assert all(torch.equal(v, asked[k]) for k, v in found.model.state_dict().items())
    assert all(torch.equal(v, dense[k]) for k, v in tiny_model.state_dict().items())
    assert not torch.equal(slim.state_dict()["model.0.conv.weight"], before["model.0.conv.weight"])
    found.detach()
    assert not any(m._forward_pre_hooks for m in slim.modules())


# The host's loop


def finetuned(argv: list[Any], name: str) -> Path:
    return finetune.main([*map(str, argv), *SMALL, "--name", name])


def test_in_the_hosts_loop(
    tiny_checkpoint: Path, pruned_tiny: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    """A row and a line an epoch; the checkpoint is that of a finetuning without a teacher."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", pruned_tiny, "--data", shapes_yaml]
    folder = finetuned([*argv, "--teacher", tiny_checkpoint], "taught")
    rows = list(csv.DictReader((folder / CSV).open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row[name]) > 0 for row in rows for name in PARTS)
    assert caplog.text.count("difference from the teacher: box ") == 2
    plain = finetuned(argv, "plain")
    ours, theirs = (load(f / "weights" / "best.pt").model for f in (folder, plain))
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert any(not torch.equal(ours[k], theirs[k]) for k in ours)
    assert not (plain / CSV).exists()


def test_with_gains_of_zero_it_is_the_hosts_training(
    tiny_checkpoint: Path, pruned_tiny: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch
) -> None:
    """To the bit: nothing is drawn, nothing of the student is touched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(teaching, "GAINS", dict.fromkeys(PARTS, 0.0))
    argv = ["--weights", pruned_tiny, "--data", shapes_yaml]
    taught = finetuned([*argv, "--teacher", tiny_checkpoint], "taught")
    plain = finetuned(argv, "plain")
    ours, theirs = (load(f / "weights" / "last.pt").model for f in (taught, plain))
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_interrupted_it_goes_on(
    tiny_checkpoint: Path, pruned_tiny: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch
) -> None:
    """Adapters and their optimizer state are in last.pt, and are gone when the run is finished."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", pruned_tiny, "--data", shapes_yaml, "--teacher", tiny_checkpoint]
    whole = finetuned([*argv, "--seed", 3], "whole")

    class Stop(Exception):
        pass

    end = finetune.Finetuning.on_epoch_start

    def stop(self: Any, run: Any) -> None:
        if run.epoch == 1 and not run.resumed:
            raise Stop
        end(self, run)

    monkeypatch.setattr(finetune.Finetuning, "on_epoch_start", stop)
    with pytest.raises(Stop):
        finetuned([*argv, "--seed", 3], "half")
    half = tmp_path / "runs" / "finetune" / "half"
    kept = load(half / "weights" / "last.pt").kept["adapters"]
    begun: list[dict[str, torch.Tensor]] = []
    attach = Teacher.attach

    def look(self: Teacher) -> None:
        begun.append(deepcopy(self.adapters.state_dict()))
        attach(self)

    monkeypatch.setattr(Teacher, "attach", look)
    finetune.main(["--resume", str(half / "weights" / "last.pt")])
    assert len(begun) == 1
    assert all(torch.equal(begun[0][key], kept[key]) for key in kept)
    rows = [list(csv.DictReader((f / CSV).open())) for f in (whole, half)]
    assert [row["epoch"] for row in rows[1]] == ["0", "1"] and rows[0][0] == rows[1][0]
    assert not load(half / "weights" / "last.pt").kept


@pytest.mark.parametrize("which", ["classes", "scales", "missing", "anchors"])
def test_teachers_that_cannot_teach(
    which: str, tiny_model: nn.Module, pruned_tiny: Path, shapes_yaml: Path, tmp_path, capsys
) -> None:
    from yolo_slim.host.classes import yolo

    file = tmp_path / "teacher.pt"
    if which == "anchors":
        tiny_model.model[-1].anchors *= 2
        save(tiny_model, file)
    elif which != "missing":
        cfg = deepcopy(tiny_model.yaml)
        cfg["nc"] = 2 if which == "classes" else 4
        if which == "scales":
            cfg["head"][-1][0], cfg["anchors"] = [4, 11], cfg["anchors"][:2]
        save(yolo.DetectionModel(cfg), file)
    argv = ["--weights", pruned_tiny, "--data", shapes_yaml, "--teacher", file, *SMALL]
    assert run("finetune", [str(a) for a in [*argv, "--project", tmp_path / "runs"]]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    expected = {
        "classes": f"--teacher {file}: classes: 2, expected 4, as the student",
        "scales": f"--teacher {file}: scales: 2, expected 3, as the student",
        "missing": "no such file",
        "anchors": f"--teacher {file}: other anchors than the student's, expected the model that",
    }
    assert expected[which] in line
    assert not (tmp_path / "runs").exists()
