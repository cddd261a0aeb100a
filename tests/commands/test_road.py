"""The road on the real host loop, end to end on tiny data: each step takes up the last."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import nn

from yolo_slim import ModelPruned, load, prune, save
from yolo_slim.cli import run
from yolo_slim.commands import export, finetune, sparse
from yolo_slim.commands import prune as prune_command
from yolo_slim.errors import CheckFailed
from yolo_slim.host import hooks, training
from yolo_slim.host.options import HYP
from yolo_slim.models.pruned_yaml import write_yaml

SMALL = ["--imgsz", "64", "--batch-size", "8", "--workers", "0", "--device", "cpu", "--noplots"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cfg(here: Path, tiny_yaml: dict[str, Any]) -> Path:
    file = here / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_yaml))
    return file


@pytest.fixture
def pruned_checkpoint(here: Path, tiny_model: nn.Module) -> Path:
    return save(prune(tiny_model, 0.5, imgsz=64), here / "pruned.pt")


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load(path).model.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_without_penalty_it_is_the_hosts_training_bit_for_bit(
    here: Path, cfg: Path, shapes_yaml: Path
) -> None:
    common = {
        "weights": "",
        "cfg": str(cfg),
        "data": str(shapes_yaml),
        "epochs": 2,
        "imgsz": 64,
        "batch_size": 8,
        "workers": 0,
        "device": "cpu",
        "noplots": True,
        "seed": 3,
        "hyp": str(HYP),
    }
    options = argparse.Namespace(**{**vars(hooks.host.parse_opt(True)), **common, "name": "host"})
    with training.checkpoint.safe_loading():
        hooks.host.main(options)
    expected = weights_of(here / "runs" / "train" / "host" / "weights" / "last.pt")
    argv = ["--cfg", str(cfg), "--data", str(shapes_yaml), "--epochs", "2", "--seed", "3", *SMALL]
    plain = weights_of(sparse.main(argv) / "weights" / "last.pt")
    zero = weights_of(sparse.main([*argv, "--st", "--sr", "0"]) / "weights" / "last.pt")
    moved = weights_of(sparse.main([*argv, "--st", "--sr", "0.1"]) / "weights" / "last.pt")
    assert same(expected, plain)
    assert same(expected, zero)
    assert not same(expected, moved)


def test_macs_from_the_training_to_the_cut(
    here: Path, cfg: Path, shapes_yaml: Path, capsys: pytest.CaptureFixture
) -> None:
    """What is zero leaves so many MACs, and is what prune.py cuts when nothing is asked of it."""
    argv = ["--st", "--macs", "0.5", "--round-to", "4", "--cfg", str(cfg), "--data"]
    folder = sparse.main([*argv, str(shapes_yaml), "--epochs", "6", *SMALL])
    found = load(folder / "weights" / "best.pt").model
    cut = prune_command.main(["--data", str(shapes_yaml), "--workers", "0"])
    report = json.loads((cut / "report.json").read_text())
    assert report["after"]["macs"] / report["before"]["macs"] == pytest.approx(0.5, rel=0.02)
    masks = torch.load(cut / "masks.pt", weights_only=True)
    gone = torch.cat([found.get_submodule(n).weight[~mask] for n, mask in masks.items()])
    assert len(gone) > 100 and (gone == 0).all()
    assert report["accuracy"]["pruned"] == pytest.approx(report["accuracy"]["dense"], abs=1e-3)
    assert "did not bring them near zero" not in capsys.readouterr().out


def test_four_commands_with_defaults(
    here: Path, cfg: Path, shapes_yaml: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = ["--st", "--sr", "0.05", "--cfg", str(cfg), "--data", str(shapes_yaml), "--epochs", "3"]
    folder = sparse.main([*argv, *SMALL])
    rows = list(csv.DictReader((folder / "sparsity.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    strengths = [float(row["sr"]) for row in rows]
    np.testing.assert_allclose(strengths, [0.05, 0.05 * 0.7, 0.05 * 0.4], rtol=1e-4)
    medians = [float(row["gamma_q50"]) for row in rows]
    assert medians == sorted(medians, reverse=True)
    assert (folder / "sparsity.png").read_bytes().startswith(b"\x89PNG")
    assert board_tags(folder) >= {"sparsity/gamma", "sparsity/near_zero", "sparsity/sr"}
    assert "Not ready: 0% of the prunable channels" in capsys.readouterr().out

    cut = prune_command.main(["--percent", "0.5", "--data", str(shapes_yaml), "--workers", "0"])
    report = json.loads((cut / "report.json").read_text())
    assert report["weights"] == str((folder / "weights" / "last.pt").absolute())
    assert report["percent"] == 0.5
    assert abs(report["achieved"] - 0.5) < 0.01
    assert report["parity"] < 1e-9
    assert set(report["accuracy"]) == {"dense", "masked", "pruned"}
    assert report["accuracy"]["masked"]["map"] == pytest.approx(
        report["accuracy"]["pruned"]["map"], abs=0.01
    )
    assert (
        report["after"]["bytes"] == (cut / "pruned.pt").stat().st_size < report["before"]["bytes"]
    )
    assert (cut / "channels.png").read_bytes().startswith(b"\x89PNG")
    masks = torch.load(cut / "masks.pt", weights_only=True)
    assert sum(int((~m).sum()) for m in masks.values()) == round(
        report["achieved"] * sum(m.numel() for m in masks.values())
    )
    built = ModelPruned(cut / "pruned.yaml")
    slim = load(cut / "pruned.pt")
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in slim.model.state_dict().items()
    }
    assert torch.allclose(built.model[-1].anchors, slim.model.model[-1].anchors, atol=1e-3)
    assert built.names == slim.names == {0: "circle", 1: "square", 2: "triangle", 3: "cross"}

    tuned = finetune.main(["--epochs", "2", "--lr-times", "3", *SMALL])
    best = load(tuned / "weights" / "best.pt")
    assert isinstance(best.model, ModelPruned)
    assert finetune.shapes(best.model) == finetune.shapes(slim.model)
    assert best.model.maskbndict.keys() == masks.keys()
    assert best.model.ancestry == slim.model.ancestry
    assert best.model.hyp["lr0"] == pytest.approx(0.03)
    assert yaml.safe_load((tuned / "hyp.yaml").read_text())["lr0"] == best.model.hyp["lr0"]

    done = export.main(["--repeats", "4"])
    report = json.loads((done / "report.json").read_text())
    assert report["weights"] == str((tuned / "weights" / "best.pt").absolute())
    assert report["agreement"]["onnx"]["images"] == 8
    assert report["agreement"]["onnx"]["boxes"] <= 0.05
    assert report["agreement"]["torchscript"]["scores"] <= 1e-4
    assert report["latency"]["onnx"]["ratio"] > 0
    graph = onnx.load(done / "best.onnx")
    properties = {p.key: p.value for p in graph.metadata_props}
    assert properties == {"stride": "32", "names": str(best.names)}


def board_tags(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    return {*board.Tags()["histograms"], *board.Tags()["scalars"]}


def test_sparse_resume_goes_on_without_gap_or_double(
    here: Path, cfg: Path, shapes_yaml: Path, interrupt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--st", "--sr", "0.05", "--cfg", str(cfg), "--data", str(shapes_yaml), "--epochs", "3"]
    with monkeypatch.context():
        interrupt(2)
        with pytest.raises(KeyboardInterrupt):
            sparse.main([*argv, *SMALL])
        monkeypatch.undo()
    monkeypatch.chdir(here)
    folder = sparse.main(["--resume"])
    rows = list(csv.DictReader((folder / "sparsity.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    np.testing.assert_allclose([float(r["sr"]) for r in rows], [0.05, 0.035, 0.02], rtol=1e-4)


def test_a_plain_run_is_resumed_too(
    here: Path, cfg: Path, shapes_yaml: Path, interrupt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--cfg", str(cfg), "--data", str(shapes_yaml), "--epochs", "3", *SMALL]
    with monkeypatch.context():
        interrupt(2)
        with pytest.raises(KeyboardInterrupt):
            sparse.main(argv)
        monkeypatch.undo()
    monkeypatch.chdir(here)
    folder = sparse.main(["--resume", str(here / "runs/train/exp/weights/last.pt")])
    with (folder / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert load(folder / "weights" / "last.pt").epoch == -1
    assert not (folder / "sparsity.csv").exists()


def test_finetune_resume_keeps_the_shapes(
    here: Path,
    pruned_checkpoint: Path,
    shapes_yaml: Path,
    interrupt: Any,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: nn.Module,
    capsys: pytest.CaptureFixture,
) -> None:
    argv = [
        "--weights",
        str(pruned_checkpoint),
        "--data",
        str(shapes_yaml),
        "--epochs",
        "2",
        *SMALL,
    ]
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        finetune.main(argv)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    last = here / "runs" / "finetune" / "exp" / "weights" / "last.pt"
    whole = last.read_bytes()
    assert load(last).epoch == 0

    state = training.checkpoint.read(last)  # another pruned model in its place: refused, loudly
    other = prune(tiny_model, 0.2, imgsz=64).model
    training.checkpoint.write(last, {**state, "model": other, "ema": other})
    assert run("finetune", ["--resume"]) == 1
    assert "failed: the model that is to be trained:" in capsys.readouterr().err

    last.write_bytes(whole)
    folder = finetune.main(["--resume"])
    assert here / folder == last.parent.parent
    assert finetune.shapes(load(last).model) == finetune.shapes(load(pruned_checkpoint).model)
    assert isinstance(load(last).model, ModelPruned)
    assert load(last).model.maskbndict


def test_weights_that_do_not_arrive_are_noticed(tiny_model: nn.Module) -> None:
    source = prune(tiny_model, 0.5, imgsz=64).model
    other = ModelPruned(source.yaml)
    with pytest.raises(CheckFailed, match=r"model\.\S+ of the checkpoint did not reach"):
        finetune.check_transfer(other, source)
    other.load_state_dict(source.state_dict())
    finetune.check_transfer(other, source)
    with pytest.raises(CheckFailed, match=r"x: model\.\S+ is"):
        finetune.check_shapes(tiny_model, finetune.shapes(source), "x")


def test_slim_architecture_from_scratch(
    here: Path, tiny_model: nn.Module, shapes_yaml: Path
) -> None:
    slim = prune(tiny_model, 0.5, imgsz=64)
    (here / "pruned.yaml").write_text(write_yaml(slim.yaml))
    argv = ["--cfg", "pruned.yaml", "--weights", "", "--data", str(shapes_yaml), "--epochs", "1"]
    folder = finetune.main([*argv, *SMALL])
    trained = load(folder / "weights" / "last.pt").model
    assert finetune.shapes(trained) == finetune.shapes(slim.model)
    assert not torch.equal(
        trained.state_dict()["model.0.conv.weight"], slim.model.state_dict()["model.0.conv.weight"]
    )


def test_export_that_differs_is_not_written(
    here: Path,
    pruned_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """The weights of the ONNX file are changed by 5% between export and comparison."""
    from yolo_slim.deploy import export as deploy

    original = deploy.to_onnx

    def tampered(*args: Any, **kwargs: Any) -> bytes:
        graph = onnx.load_from_string(original(*args, **kwargs))
        for weight in [t for t in graph.graph.initializer if len(t.dims) == 4]:
            value = onnx.numpy_helper.to_array(weight) * np.float32(1.05)
            weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
        return graph.SerializeToString()

    monkeypatch.setattr(deploy, "to_onnx", tampered)
    argv = [
        "--weights",
        str(pruned_checkpoint),
        "--imgsz",
        "64",
        "--include",
        "onnx",
        "--repeats",
        "0",
    ]
    assert run("export", argv) == 1
    assert "failed: onnx differs from PyTorch" in capsys.readouterr().err
    assert not list(here.rglob("*.onnx"))


def test_dynamic_export_takes_other_sizes(here: Path, pruned_checkpoint: Path) -> None:
    argv = ["--weights", str(pruned_checkpoint), "--imgsz", "64", "--include", "onnx", "--dynamic"]
    folder = export.main([*argv, "--repeats", "0", "--images", "2"])
    report = json.loads((folder / "report.json").read_text())
    assert report["agreement"]["onnx"]["images"] == 2 + 2 + 1  # batches of 1, of 2, of another size
    assert report["latency"] == {}
