"""Bad input ends with exit code 2 and one line, and leaves nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from yolo_slim import InputError, load, prune, save
from yolo_slim.cli import run
from yolo_slim.host.checkpoint import yolo

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {
    "sparse": "train_sparse", "prune": "prune", "finetune": "finetune_pruned", "export": "export"
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="session")
def pruned_checkpoint(tiny_checkpoint):
    file = tiny_checkpoint.with_name("pruned.pt")
    return save(prune(load(tiny_checkpoint).model, 0.3, imgsz=64), file)


@pytest.fixture
def refused(capfd):
    """Run a command that must refuse; returns its one line."""

    def check(command: str, *argv: object) -> str:
        before = sorted(Path.cwd().rglob("*"))
        capfd.readouterr()
        try:
            code = run(command, [str(a) for a in argv])
        except SystemExit as error:  # argparse
            code = error.code
        text = capfd.readouterr().err
        lines = [line for line in text.splitlines() if line.strip()]
        assert (code, len(lines)) == (2, 1), f"exit code {code}:\n{text}"
        assert "Traceback" not in text
        assert sorted(Path.cwd().rglob("*")) == before
        return lines[0]

    return check


@pytest.fixture
def args(tiny_checkpoint, pruned_checkpoint, shapes_yaml):
    """Options with which each command would run."""
    data = ["--data", shapes_yaml]
    train = [*data, "--imgsz", 64, "--epochs", 1, "--batch-size", 8, "--workers", 0]
    return {
        "sparse": ["--weights", tiny_checkpoint, *train],
        "prune": ["--weights", tiny_checkpoint, *data, "--imgsz", 64],
        "finetune": ["--weights", pruned_checkpoint, *train],
        "export": ["--weights", pruned_checkpoint, *data, "--imgsz", 64, "--repeats", 0],
    }


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
    text: "not a checkpoint",
    empty: "an empty file",
    folder: "a folder",
    fused: "a fused model",
    state_dict: "weights without a model",
    weights_alone: "weights without a model",
    tensor: "a Tensor",
    classification: "a classification model",
    no_head: "no Detect head",
    no_anchors: "damaged",
}


@pytest.mark.parametrize("make", FILES, ids=lambda f: f.__name__)
def test_weights(make, tiny_model, tmp_path, refused, args):
    file = tmp_path / "bad.pt"
    make(file, tiny_model)
    for command in SCRIPTS:
        line = refused(command, *args[command], "--weights", file)
        assert line.startswith(f"error: {file}: ") and FILES[make] in line


@pytest.mark.parametrize("command", [*SCRIPTS, "val", "detect"])
def test_missing_weights(command, refused, args, tmp_path):
    line = refused(command, *args.get(command, []), "--weights", tmp_path / "none.pt")
    assert "none.pt: no such file, expected" in line


@pytest.mark.parametrize("command", ["prune", "finetune", "export"])
def test_nothing_to_take_up(command, refused):
    assert "--weights: not given and nothing found in runs/" in refused(command)


def test_truncated_at_twenty_lengths(tiny_checkpoint, tmp_path, refused):
    content, file = tiny_checkpoint.read_bytes(), tmp_path / "cut.pt"
    for i in range(20):
        file.write_bytes(content[: len(content) * i // 20 + 1])
        assert f"{file}: not a checkpoint, or a damaged one" in refused("prune", "--weights", file)


OPTIONS = [
    ("prune", "--percent", "-0.1", "--percent: -0.1"),
    ("prune", "--percent", "1", "--percent: 1"),
    ("prune", "--percent", "nan", "--percent: nan"),
    ("prune", "--percent", "abc", "invalid float value: 'abc'"),
    ("prune", "--min-channels", "0", "--min-channels: 0"),
    ("prune", "--batch-size", "0", "--batch-size: 0"),
    ("prune", "--workers", "-1", "--workers: -1"),
    ("prune", "--device", "cuda:77", "--device: cuda:77"),
    ("prune", "--speed", "9", "unrecognized arguments: --speed 9"),
    ("sparse", "--sr", "-1", "--sr: -1"),
    ("sparse", "--sr", "nan", "--sr: nan"),
    ("sparse", "--sr", "inf", "--sr: inf"),
    ("sparse", "--bias-sr", "nan", "--bias-sr: nan"),
    ("sparse", "--percent", "1", "--percent: 1"),
    ("sparse", "--cfg", "none.yaml", "--cfg: none.yaml"),
    ("sparse", "--hyp", "none.yaml", "--hyp: none.yaml"),
    ("sparse", "--epochs", "0", "--epochs: 0"),
    ("sparse", "--batch-size", "0", "--batch-size: 0"),
    ("sparse", "--device", "77", "--device: 77"),
    ("sparse", "--optimizer", "none", "invalid choice: 'none'"),
    ("sparse", "--resume", "none.pt", "none.pt: no such file"),
    ("finetune", "--cfg", "none.yaml", "none.yaml: no such file"),
    ("finetune", "--hyp", "none.yaml", "--hyp: none.yaml"),
    ("finetune", "--epochs", "-3", "--epochs: -3"),
    ("finetune", "--resume", "none.pt", "none.pt: no such file"),
    ("export", "--include", "tflite", "invalid choice: 'tflite'"),
    ("export", "--batch-size", "0", "--batch-size: 0"),
    ("export", "--images", "0", "--images: 0"),
    ("export", "--dense", "none.pt", "none.pt: no such file"),
    ("export", "--opset", "3", "--opset: 3"),
    ("export", "--repeats", "-1", "--repeats: -1"),
    *((command, "--imgsz", "100", "--imgsz: 100, expected a multiple") for command in SCRIPTS),
    *((command, "--imgsz", "0", "--imgsz: 0, expected a multiple") for command in SCRIPTS),
    *((command, "--data", "none.yaml", "none.yaml: no such file") for command in SCRIPTS),
]


@pytest.mark.parametrize(
    ("command", "option", "value", "expected"), OPTIONS, ids=[" ".join(o[:3]) for o in OPTIONS]
)
def test_option(command, option, value, expected, refused, args):
    assert expected in refused(command, *args[command], option, value)


def not_yaml(data: dict) -> str:
    return "train: [\n"


def a_list(data: dict) -> str:
    return "- train\n- val\n"


def no_names(data: dict) -> str:
    return yaml.safe_dump({k: v for k, v in data.items() if k != "names"})


def no_images(data: dict) -> str:
    Path("images/train").mkdir(parents=True)
    Path("images/val").mkdir(parents=True)
    return yaml.safe_dump({**data, "path": str(Path.cwd())})


def no_folder(data: dict) -> str:
    return yaml.safe_dump({**data, "val": "images/none"})


def other_classes(data: dict) -> str:
    return yaml.safe_dump({**data, "names": ["one", "two"]})


def odd_names(data: dict) -> str:
    return yaml.safe_dump({**data, "names": 4})


def odd_path(data: dict) -> str:
    return yaml.safe_dump({**data, "path": ["a", "b"]})


DATA = {
    not_yaml: "not yaml",
    a_list: "no entry train, val, names",
    no_names: "no entry names",
    no_images: "no images in",
    no_folder: "cannot be used",
    other_classes: "2 classes, expected the 4 of the model",
    odd_names: "names",
    odd_path: "path",
}


@pytest.mark.parametrize("make", DATA, ids=lambda f: f.__name__)
def test_data(make, shapes_yaml, refused, args):
    file = Path("data.yaml")
    file.write_text(make(yaml.safe_load(shapes_yaml.read_text())))
    for command in ["prune", "finetune", "export", "sparse"]:
        if command == "sparse" and make is other_classes:
            continue  # a training takes its classes from the data
        assert DATA[make] in refused(command, *args[command], "--data", file.absolute())


@pytest.mark.parametrize("project", ["file/x", "/proc/x", "file"])
@pytest.mark.parametrize("command", SCRIPTS)
def test_folder_that_cannot_be_written(command, project, refused, args):
    Path("file").write_text("in the way")
    assert "cannot be written" in refused(command, *args[command], "--project", project)
    assert Path("file").read_text() == "in the way"


def test_finetune_wants_a_pruned_model(refused, args, tiny_checkpoint, tiny_yaml):
    line = refused("finetune", *args["finetune"], "--weights", tiny_checkpoint)
    assert "a model that is not pruned, expected a pruned.pt" in line
    Path("dense.yaml").write_text(yaml.safe_dump(tiny_yaml))
    line = refused("finetune", *args["finetune"], "--weights", "", "--cfg", "dense.yaml")
    assert "a yaml without pruned modules" in line


@pytest.mark.parametrize("command", ["sparse", "finetune"])
def test_resume_of_a_finished_run(command, refused, args, pruned_checkpoint):
    """save() writes epoch -1, as the host does at the end of a training."""
    line = refused(command, *args[command], "--resume", pruned_checkpoint)
    assert "a finished training, expected one that was interrupted" in line


def test_module_without_a_rule(tiny_yaml, tmp_path, refused):
    tiny_yaml["backbone"][4][2] = "C3Ghost"
    torch.save({"model": yolo.DetectionModel(tiny_yaml)}, tmp_path / "ghost.pt")
    line = refused("prune", "--weights", tmp_path / "ghost.pt", "--imgsz", 64)
    assert "model.4: a C3Ghost, expected one of Conv" in line


BAD_CFG = {
    "not yaml": "nc: [",
    "a text": "hello",
    "no head": "nc: 4\nanchors: 3\nbackbone: []",
    "code": "activation: __import__('os').abort()",
    "unknown module": "backbone: [[-1, 1, Convolution, [8]]]",
    "no layers": "backbone: []\nhead: []",
    "wrong arguments": "backbone: [[-1, 1, Conv, [8, 3, 2, 1, 1, 1, 1, 1, 1]]]",
    "no depth": "depth_multiple: null",
}


@pytest.mark.parametrize("kind", BAD_CFG)
def test_cfg(kind, tiny_yaml, refused, args):
    change = BAD_CFG[kind]
    if kind not in ("not yaml", "a text", "no head"):
        change = yaml.safe_dump(tiny_yaml | yaml.safe_load(change))
    Path("model.yaml").write_text(change)
    assert "model" in refused("sparse", *args["sparse"], "--weights", "", "--cfg", "model.yaml")


def test_pruned_cfg_with_counts_that_do_not_fit(pruned_checkpoint, refused, args):
    cfg = deepcopy(load(pruned_checkpoint).yaml)
    cfg["backbone"][4][3][1:3] = [[1], "nc"]
    Path("pruned.yaml").write_text(yaml.safe_dump(cfg))
    line = refused("finetune", *args["finetune"], "--weights", "", "--cfg", "pruned.yaml")
    assert "pruned.yaml" in line


FULL = """
import resource, signal, sys
from yolo_slim.cli import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from yolo_slim import load, save, InputError
model = load(sys.argv[1]).model
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save(model, sys.argv[2])
except InputError as error:
    print(error)
sys.exit(run("prune", ["--weights", sys.argv[1], "--imgsz", "64"]))
"""


def test_disk_that_fills(tiny_checkpoint, tmp_path):
    """A limit of 20 kB stands for the full disk: the old file stays whole, no other is left."""
    old = tmp_path / "kept" / "model.pt"
    old.parent.mkdir()
    old.write_bytes(b"old")
    command = [sys.executable, "-c", FULL, str(tiny_checkpoint), str(old)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"{old}: cannot be written (File too large)" in done.stdout
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert (old.read_bytes(), list(old.parent.iterdir())) == (b"old", [old])
    assert list(Path.cwd().rglob("*.*")) == []


def test_save_into_a_file_or_without_right(tiny_model, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "model.pt", Path("/proc/model.pt"), tmp_path / "here"):
        with pytest.raises(InputError, match="cannot be written"):
            save(tiny_model, path)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("script", "argv"),
    [("prune", ["--weights", "none.pt"]), ("train_sparse", ["--sr", "-1"]), ("export", ["--what"])],
)
def test_scripts(script, argv):
    """As a user runs them."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / f"{script}.py"), *argv], capture_output=True, text=True, env=env
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert list(Path.cwd().iterdir()) == []
