"""Models and sizes that YOLOv5, a runtime or any machine cannot take; files that hold no image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from yolo_slim import InputError, load, prune, save
from yolo_slim.cli import main, run
from yolo_slim.models.model import build_model
from yolo_slim.runs import STATE


@pytest.fixture
def grey(tiny_yaml: dict, tmp_path: Path) -> Path:
    """A checkpoint of a model that takes images of one channel."""
    return save(build_model(tiny_yaml | {"ch": 1}).eval(), tmp_path / "grey.pt")


def test_a_grey_model(grey: Path, tiny_checkpoint: Path, shapes_yaml: Path, refused) -> None:
    data = ("--data", shapes_yaml, "--img", 64)
    for command, *words in (
        ("prune", "--weights", grey, "--macs", "0.6", "--criterion", "l2"),
        ("export", "--weights", grey),
        ("export", "--weights", tiny_checkpoint, "--dense", grey),
        ("finegrained", grey, "--sparsity", "0.5"),
        ("sensitivity", grey, *data),
        ("sparse", "--st", "--weights", grey, *data),
        ("slim", "--weights", grey, *data),
        ("val", "--weights", grey, *data),
        ("bench", grey),
    ):
        line = refused(command, *words)
        assert line.endswith("grey.pt: images of 1 channel, expected 3, RGB"), (command, line)
    assert prune(load(grey).model, macs=0.6, criterion="l2", imgsz=64).parity.holds


@pytest.mark.parametrize(
    "line",
    [
        "prune --weights {} --macs 0.6 --imgsz 1000000000, expected 16384 or less",
        "bench {} --imgsz 1000000000, expected 16384 or less",
        "bench {} --batch-size 1000000000, expected 16384 or less",
        "export --weights {} --batch-size 1000000000, expected 16384 or less",
        "export --weights {} --threads 1000000, expected 1024 or less",
        "prune --weights {} --latency 0.6 --threads 1000000, expected 1024 or less",
        "export --weights {} --imgsz 64 64 64, expected one number",
        "prune --weights {} --percent 50%, '50%', expected a number, such as 0.5",
    ],
)
def test_sizes_of_a_slip(line: str, tiny_checkpoint: Path, refused) -> None:
    words, _, expected = line.partition(", ")
    assert expected in refused(*words.format(tiny_checkpoint).split())


def test_batches_that_nobody_counted(tiny_model: nn.Module, tmp_path: Path) -> None:
    """Files of other tools may lack a BatchNorm's num_batches_tracked."""
    for module in tiny_model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None
    model = load(save(tiny_model, tmp_path / "uncounted.pt")).model
    assert prune(model, macs=0.6, criterion="l2", imgsz=64).parity.holds


@pytest.mark.parametrize("momentum", ["x", float("nan"), -1])
def test_an_odd_momentum(momentum: object, tiny_model: nn.Module, tmp_path: Path, refused) -> None:
    tiny_model.get_submodule("model.1.bn").momentum = momentum
    with pytest.raises(InputError, match=r"model\.1\.bn\.momentum: .*, expected a number in"):
        prune(tiny_model, macs=0.6, criterion="l2", imgsz=64)


def test_strides_that_the_layers_do_not_make(tiny_model: nn.Module) -> None:
    head = tiny_model.model[-1]
    stride = head.stride.clone()
    tiny_model.stride = head.stride = stride * torch.tensor([1.0] * (len(stride) - 1) + [0.75])
    with pytest.raises(InputError, match="stride: .*, as the layers make them"):
        prune(tiny_model, macs=0.6, criterion="l2", imgsz=64)


def test_an_operator_that_onnx_lacks(
    tiny_yaml: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.chdir(tmp_path)
    model = build_model(tiny_yaml | {"activation": "nn.Threshold(0.1, 20)"}).eval()
    file = save(model, tmp_path / "threshold.pt")
    assert run("export", ["--weights", str(file), "--include", "onnx", "--repeats", "0"]) == 2
    text, log = capfd.readouterr()
    line = log.splitlines()[-1].strip()
    assert line.startswith("error: --include onnx, model.") and "threshold" in line
    assert line.endswith("; --include torchscript takes all")
    assert "graph(" not in text + log and not Path("runs").exists()


def test_a_pipe_among_the_images(tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    images = Path(yaml.safe_load(shapes_yaml.read_text())["path"]) / "images" / "val"
    first = min(images.iterdir())
    (folder / first.name).write_bytes(first.read_bytes())
    os.mkfifo(folder / "a.jpg")
    words = ["--weights", tiny_checkpoint, "--source", folder, "--imgsz", 64, "--project", tmp_path]
    assert run("detect", [str(word) for word in words]) == 0
    assert [file.name for file in (tmp_path / "exp").iterdir()] == [first.name]


def test_export_takes_the_best_of_slim(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """A training of slim lies in its run, whose best.pt may be the model before that training."""
    monkeypatch.chdir(tmp_path)
    training = tmp_path / "runs" / "slim" / "exp" / "train1"
    (training / "weights").mkdir(parents=True)
    (training / "pruned.yaml").touch()
    for file in (training / "weights" / "best.pt", training.parent / "best.pt"):
        file.write_bytes(tiny_checkpoint.read_bytes())
    (training.parent / STATE).touch()
    assert run("export", ["--include", "torchscript", "--imgsz", "64"]) == 0
    text = " ".join(capfd.readouterr().out.split())
    assert "runs/slim/exp/best.pt, best.pt of the newest" in text


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["yolo-slim", "--version"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0 and capsys.readouterr().out.startswith("yolo-slim 0.")
