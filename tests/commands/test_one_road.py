"""prune.py and finetune_pruned.py give what `slim` gives: to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from yolo_slim import load
from yolo_slim.cli import run
from yolo_slim.commands.finetune import Finetuning
from yolo_slim.shapes import NAMES


@pytest.mark.parametrize("renewed", [False, True], ids=["same classes", "other classes"])
def test_two_commands_are_slim(
    renewed: bool, tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = shapes_yaml
    if renewed:
        others = [f"class {number}" for number in range(len(NAMES) + 1)]
        content = yaml.safe_load(shapes_yaml.read_text()) | {"names": others}
        data = shapes_yaml.with_name("others.yaml")
        data.write_text(yaml.safe_dump(content))
    cut = ["--weights", tiny_checkpoint, "--data", data, "--macs", 0.6, "--round-to", 1]
    cut += ["--calib-images", 8, "--img", 64, "--workers", 0]
    train = ["--epochs", 2, "--batch-size", 8, "--workers", 0, "--noplots"]
    assert run("slim", [str(a) for a in [*cut, *train]]) == 0
    assert run("prune", [str(a) for a in cut]) == 0
    assert run("finetune", [str(a) for a in train]) == 0
    whole = load("runs/slim/exp/train1/weights/last.pt").model.state_dict()
    steps = load("runs/finetune/exp/weights/last.pt").model.state_dict()
    assert list(whole) == list(steps)
    assert all(torch.equal(whole[key], value) for key, value in steps.items())


def test_a_training_after_a_cut_is_not_resumed_by_another_command(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """train_sparse.py would train on without the hints, and without the checks of its shapes."""
    monkeypatch.chdir(tmp_path)
    start = Finetuning.on_epoch_start

    def stop(self: Any, step: Any) -> None:
        if step.epoch == 1:
            raise KeyboardInterrupt
        start(self, step)

    options = ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--macs", 0.6, "--epochs", 3]
    options += ["--img", 64, "--batch-size", 8, "--workers", 0, "--noplots", "--calib-images", 4]
    with monkeypatch.context() as patch:
        patch.setattr(Finetuning, "on_epoch_start", stop)
        assert run("slim", [*map(str, options), "--round-to", "1"]) == 130
    capsys.readouterr()
    last = "runs/slim/exp/train1/weights/last.pt"
    assert run("sparse", ["--resume", last]) == 2
    assert "a run of finetune_pruned.py or yolo-slim slim" in capsys.readouterr().err
