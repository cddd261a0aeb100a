"""Bad input ends with exit code 2 and one line, and leaves nothing half-written: the files."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from yolo_slim import InputError, load, save
from yolo_slim.cli import run
from yolo_slim.commands import val
from yolo_slim.host import training
from yolo_slim.host.classes import yolo

COMMANDS = ["sparse", "prune", "finetune", "export"]


def text(file: Path, model: nn.Module) -> None:
    file.write_text("weights\n" * 100)


def empty(file: Path, model: nn.Module) -> None:
    file.touch()


def folder(file: Path, model: nn.Module) -> None:
    file.mkdir()


def fused(file: Path, model: nn.Module) -> None:
    torch.save({"model": model.fuse()}, file)


def state_dict(file: Path, model: nn.Module) -> None:
    torch.save(model.state_dict(), file)


def weights_alone(file: Path, model: nn.Module) -> None:
    torch.save({"model": model.state_dict(), "epoch": 3}, file)


def tensor(file: Path, model: nn.Module) -> None:
    torch.save(torch.zeros(3), file)


def classification(file: Path, model: nn.Module) -> None:
    torch.save({"model": yolo.ClassificationModel(model=model, nc=4, cutoff=8)}, file)


def no_head(file: Path, model: nn.Module) -> None:
    model.model = model.model[:3]
    torch.save({"model": model}, file)


def no_anchors(file: Path, model: nn.Module) -> None:
    del model.model[-1]._buffers["anchors"], model.model[-1].nl
    torch.save({"model": model}, file)


FILES = {
    text: "a text file ('weights weights weights weight'...), expected a YOLOv5 checkpoint",
    empty: "an empty file",
    folder: "a folder",
    fused: "a fused model",
    state_dict: "weights without an architecture (a state dict of 157 tensors), expected --cfg",
    weights_alone: "weights without an architecture",
    tensor: "a Tensor",
    classification: "a classification model",
    no_head: "no Detect head",
    no_anchors: "Detect.nl: None, expected a whole number",
}


@pytest.mark.parametrize("make", FILES, ids=lambda f: f.__name__)
def test_weights(make, tiny_model, tmp_path, refused, options):
    file = tmp_path / "bad.pt"
    make(file, tiny_model)
    for command in COMMANDS:
        line = refused(command, *options[command], "--weights", file)
        assert line.startswith((f"error: {file}: ", f"error: {file}, Detect"))
        assert FILES[make] in line


@pytest.mark.parametrize("command", [*COMMANDS, "val", "detect"])
def test_missing_weights(command, refused, options, tmp_path):
    line = refused(command, *options.get(command, []), "--weights", tmp_path / "none.pt")
    assert "none.pt: no such file, expected" in line


@pytest.mark.parametrize("command", ["prune", "finetune", "export"])
def test_nothing_to_take_up(command, refused):
    assert "--weights: no file named and none found in runs/" in refused(command)


def test_truncated_at_twenty_lengths(tiny_checkpoint, tmp_path, refused):
    content, file = tiny_checkpoint.read_bytes(), tmp_path / "cut.pt"
    for i in range(20):
        file.write_bytes(content[: len(content) * i // 20 + 1])
        assert f"{file}: not a checkpoint, or a damaged one" in refused("prune", "--weights", file)


def test_disk_that_fills(tiny_checkpoint, tmp_path, empty_folder, capfd):
    """A limit of 20 kB stands for the full disk: the old file stays whole, no other is left."""
    old = tmp_path / "kept" / "model.pt"
    old.parent.mkdir()
    old.write_bytes(b"old")
    model, limits = load(tiny_checkpoint).model, resource.getrlimit(resource.RLIMIT_FSIZE)
    capfd.readouterr()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(InputError) as error:
            save(model, old)
        code = run("prune", ["--weights", str(tiny_checkpoint), "--imgsz", "64"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).startswith(f"{old}: cannot be written (File too large)")
    told = [line for line in capfd.readouterr().err.split("\n") if line]
    assert (code, len(told)) == (2, 1), told
    assert (old.read_bytes(), list(old.parent.iterdir())) == (b"old", [old])
    assert list(empty_folder.rglob("*.*")) == []


def test_save_where_nothing_can_be_written(tiny_model, tmp_path, empty_folder):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "model.pt", Path("/proc/model.pt"), empty_folder):
        with pytest.raises(InputError, match="cannot be written"):
            save(tiny_model, path)
    assert list(empty_folder.iterdir()) == []


def test_training_saves_aside(tmp_path):
    """What the host saves within a training is whole or not there."""
    training.save_aside({"epoch": 3}, tmp_path / "last.pt")
    assert torch.load(tmp_path / "last.pt") == {"epoch": 3}
    (tmp_path / "kept").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        training.save_aside({"epoch": 4}, tmp_path / "kept")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "last.pt"]


def test_any_write_to_a_full_disk(monkeypatch, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    monkeypatch.setattr(val, "main", lambda argv: Path("/dev/full").write_text("x"))
    assert run("val") == 2
    assert capsys.readouterr().err == "error: output: No space left on device\n"
