"""Bad input ends with exit code 2 and one line, and leaves nothing half-written: the options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from places import ROOT

from yolo_slim import load, prune, save

COMMANDS = ["sparse", "prune", "finetune", "export"]
OPTIONS = [
    ("prune", "--percent", "-0.1", "--percent: -0.1"),
    ("prune", "--percent", "1", "--percent: 1"),
    ("prune", "--percent", "nan", "--percent: nan"),
    ("prune", "--percent", "abc", "'abc', expected a number, such as 0.5"),
    ("prune", "--min-channels", "0", "--min-channels: 0"),
    ("prune", "--batch-size", "0", "--batch-size: 0"),
    ("prune", "--workers", "-1", "--workers: -1"),
    ("prune", "--device", "cuda:77", "--device: cuda:77"),
    ("prune", "--speed", "9", "unrecognized arguments: --speed 9"),
    ("sparse", "--sr", "-1", "--sr: -1"),
    ("sparse", "--sr", "nan", "--sr: nan"),
    ("sparse", "--sr", "0.2", "--sr: given without --st"),
    ("sparse", "--keep", "model.2", "--keep: given without --st"),
    ("sparse", "--residual", "group", "--residual: given without --st"),
    ("sparse", "--sr", "inf", "--sr: inf"),
    ("sparse", "--bias-sr", "nan", "--bias-sr: nan"),
    ("sparse", "--cfg", "none.yaml", "--cfg none.yaml: no such file"),
    ("sparse", "--hyp", "none.yaml", "--hyp none.yaml: no such file"),
    ("sparse", "--workers", "-1", "--workers: -1"),
    ("sparse", "--epochs", "0", "--epochs: 0"),
    ("sparse", "--batch-size", "0", "--batch-size: 0"),
    ("sparse", "--device", "77", "--device: 77"),
    ("sparse", "--optimizer", "none", "invalid choice: 'none'"),
    ("sparse", "--resume", "none.pt", "none.pt: no such file"),
    ("finetune", "--cfg", "none.yaml", "none.yaml: no such file"),
    ("finetune", "--hyp", "none.yaml", "--hyp none.yaml: no such file"),
    ("finetune", "--epochs", "-3", "--epochs: -3"),
    ("finetune", "--evolve", "3", "--evolve: given, expected no --evolve: yolov5 7.0.14 fails"),
    ("finetune", "--lr-times", "-1", "--lr-times: -1"),
    ("finetune", "--lr-times", "inf", "--lr-times: inf"),
    ("finetune", "--teacher", "none", "--teacher: none, expected a checkpoint; without --teacher"),
    ("finetune", "--resume", "none.pt", "none.pt: no such file"),
    ("export", "--include", "tflite", "invalid choice: 'tflite' (choose from onnx, torchscript"),
    ("export", "--include", "engine", "; `trtexec --onnx=best.onnx --saveEngine=best.engine`"),
    ("export", "--device", "0", "--device: given, expected no such option: the export runs on"),
    ("export", "--conf-thres", "0.2", "--conf-thres: given without --nms, expected --nms too"),
    ("export", "--batch-size", "0", "--batch-size: 0"),
    ("export", "--images", "0", "--images: 0"),
    ("export", "--dense", "none.pt", "none.pt: no such file"),
    ("export", "--opset", "3", "--opset: 3"),
    ("export", "--repeats", "-1", "--repeats: -1"),
    *((command, "--imgsz", "100", "--imgsz: 100, expected a multiple") for command in COMMANDS),
    *((command, "--imgsz", "0", "--imgsz: 0, expected a multiple") for command in COMMANDS),
    *((command, "--data", "none.yaml", "none.yaml: no such file") for command in COMMANDS),
]


@pytest.mark.parametrize(
    ("command", "option", "value", "expected"), OPTIONS, ids=[" ".join(o[:3]) for o in OPTIONS]
)
def test_option(command, option, value, expected, refused, options):
    assert expected in refused(command, *options[command], option, value)


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
    a_list: "a list, expected a data yaml",
    no_names: "no entry names",
    no_images: "no images in",
    no_folder: "cannot be used",
    other_classes: "2 classes, expected the 4 of the model",
    odd_names: "names",
    odd_path: "path",
}


@pytest.mark.parametrize("make", DATA, ids=lambda f: f.__name__)
def test_data(make, shapes_yaml, refused, options):
    file = Path("data.yaml")
    file.write_text(make(yaml.safe_load(shapes_yaml.read_text())))
    for command in ["prune", "finetune", "export", "sparse"]:
        if command in ("sparse", "prune") and make is other_classes:
            continue  # these take their classes from the data
        assert DATA[make] in refused(command, *options[command], "--data", file.absolute())


@pytest.mark.parametrize("project", ["file/x", "/proc/x", "file"])
@pytest.mark.parametrize("command", COMMANDS)
def test_folder_that_cannot_be_written(command, project, refused, options):
    Path("file").write_text("in the way")
    assert "cannot be written" in refused(command, *options[command], "--project", project)
    assert Path("file").read_text() == "in the way"


def test_finetune_wants_a_pruned_model(refused, options, tiny_checkpoint, tiny_yaml):
    line = refused("finetune", *options["finetune"], "--weights", tiny_checkpoint)
    assert "a model that is not pruned, expected a pruned.pt" in line
    Path("dense.yaml").write_text(yaml.safe_dump(tiny_yaml))
    line = refused("finetune", *options["finetune"], "--weights", "", "--cfg", "dense.yaml")
    assert "a yaml without pruned modules" in line


@pytest.mark.parametrize("command", ["sparse", "finetune"])
def test_resume_of_a_finished_run(command, refused, options, pruned_tiny):
    """save() writes epoch -1, as the host does at the end of a training."""
    line = refused(command, *options[command], "--resume", pruned_tiny)
    assert "a finished training, expected one that was interrupted" in line


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
def test_cfg(kind, tiny_yaml, refused, options):
    change = BAD_CFG[kind]
    if kind not in ("not yaml", "a text", "no head"):
        change = yaml.safe_dump(tiny_yaml | yaml.safe_load(change))
    Path("model.yaml").write_text(change)
    assert "model" in refused("sparse", *options["sparse"], "--weights", "", "--cfg", "model.yaml")


def test_hyp_that_lacks_an_entry(refused, options):
    Path("hyp.yaml").write_text("lr0: 0.01\nmomentum: high\n")
    line = refused("sparse", *options["sparse"], "--hyp", "hyp.yaml")
    assert "no number lrf, momentum, weight_decay" in line


def test_pruned_cfg_with_counts_that_do_not_fit(pruned_tiny, refused, options):
    cfg = deepcopy(load(pruned_tiny).yaml)
    cfg["backbone"][4][3][1:3] = [[1], "nc"]
    Path("pruned.yaml").write_text(yaml.safe_dump(cfg))
    line = refused("finetune", *options["finetune"], "--weights", "", "--cfg", "pruned.yaml")
    assert "pruned.yaml" in line


@pytest.mark.parametrize(
    ("script", "argv"),
    [("prune", ["--weights", "none.pt"]), ("export", ["--what"])],
)
def test_scripts(script, argv, empty_folder):
    """As a user runs them."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / f"{script}.py"), *argv], capture_output=True, text=True, env=env
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert list(empty_folder.iterdir()) == []


def test_finetune_that_does_not_know_its_data(tiny_model, tmp_path, refused):
    """A model with other classes than the demo's, cut without having been trained here."""
    tiny_model.names = {0: "a", 1: "b", 2: "c", 3: "d"}
    file = save(prune(tiny_model, 0.3, imgsz=64), tmp_path / "pruned.pt")
    line = refused("finetune", "--weights", file)
    assert "--data: not given, and the model does not say what it was trained on" in line


def test_labels_of_a_class_that_the_yaml_does_not_name(shapes_yaml, tmp_path, refused, options):
    data = yaml.safe_load(shapes_yaml.read_text())
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({**data, "names": ["a", "b"]}))
    line = refused("sparse", *options["sparse"], "--data", file)
    assert re.search(r"labels/train/\d+\.txt: class [23], expected 0 to 1", line), line
