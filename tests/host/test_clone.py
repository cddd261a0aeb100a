"""--clone: the module classes of a modified YOLOv5 clone, with its own utils, beside the host's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clones import build_in, change, make_clone
from torch import nn

from yolo_slim import InputError, admit, channel_graph, load, prune, save
from yolo_slim.channels import rules
from yolo_slim.cli import run
from yolo_slim.host import admitted
from yolo_slim.host.classes import common, yolo
from yolo_slim.models.model import build_model


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unusual name, a model that the clone itself has written."""
    folder = make_clone(tmp_path_factory.mktemp("my clones") / "yolov5-näher")
    build_in(folder)
    return folder


@pytest.fixture(autouse=True)
def forget():
    before = dict(admitted.ADMITTED), list(admitted.CLONES), dict(rules.RULES)
    yield
    admitted.ADMITTED.clear()
    admitted.ADMITTED.update(before[0])
    admitted.CLONES[:] = before[1]
    rules.RULES.clear()
    rules.RULES.update(before[2])


def seen(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    image, output = torch.load(folder / "seen.pt")
    return image, output


def same(model: nn.Module, folder: Path) -> bool:
    image, expected = seen(folder)
    with torch.no_grad():
        return torch.allclose(model(image)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_model_of_a_clone_opens(clone, tmp_path) -> None:
    with pytest.raises(InputError, match=r"names models\.common\.Gate, .*--clone DIR"):
        load(clone / "gated.pt")
    admit(clone)
    found = load(clone / "gated.pt")
    assert same(found.model, clone)
    kinds = {type(m) for m in found.model.modules()}
    assert common.Conv in kinds and yolo.Detect in kinds  # the Gate alone is the clone's
    gate = found.model.model[3]
    assert type(gate).__module__.endswith(".models.common")
    assert type(gate.inner) is common.Conv
    graph = channel_graph(found.model)
    assert [unknown.type for unknown in graph.unknown] == ["Gate"]
    pruned = prune(found.model, 0.4, imgsz=64)
    assert pruned.parity.holds and pruned.report.achieved > 0.3
    again = load(save(pruned, tmp_path / "pruned.pt")).model
    assert prune(again, 0.2, imgsz=64).parity.holds
    built = build_model(pruned.yaml)
    assert built.state_dict().keys() == again.state_dict().keys()


def test_the_host_is_left_as_it_was(clone) -> None:
    path, environment, modules = list(sys.path), dict(os.environ), set(sys.modules)
    admit(clone)
    model = load(clone / "gated.pt").model
    model(torch.rand(1, 3, 64, 64))  # its forward imports, too
    assert (sys.path, dict(os.environ)) == (path, environment)
    new = {name for name in set(sys.modules) - modules if name.split(".")[0] in clone_names(clone)}
    assert new == set()
    assert not {"models", "utils", "models.common", "utils.general"} & sys.modules.keys()
    assert not list(clone.rglob("*.pyc"))
    assert yolo.Conv is common.Conv and not hasattr(yolo, "Gate")


def clone_names(clone: Path) -> set[str]:
    return {p.stem for p in clone.iterdir()}


def test_a_yaml_of_the_clone(clone, tmp_path) -> None:
    """Its own parse_model builds it: (c1, ratio) is a way that ours does not know."""
    admit(clone)
    model = build_model(clone / "models" / "gated.yaml")
    assert model.model[3].inner.conv.in_channels == 16
    assert {type(m) for m in model.modules()} == {
        type(m) for m in load(clone / "gated.pt").model.modules()
    }
    assert model.model[3].type == "models.common.Gate"
    bare = load(clone / "bare.pt", cfg=clone / "models" / "gated.yaml").model
    assert same(bare, clone)


def test_the_road_with_a_clone(clone, shapes_yaml, empty_folder, capfd) -> None:
    own = ["--clone", str(clone)]
    train = ["--data", str(shapes_yaml), "--imgsz", "64", "--epochs", "1", "--batch-size", "8"]
    train += ["--workers", "0", "--noplots", *own]
    weights = str(clone / "gated.pt")
    assert run("inspect", [weights, "--json", *own]) == 0
    argv = ["--st", "--cfg", str(clone / "models" / "gated.yaml"), "--weights", weights, *train]
    assert run("sparse", argv) == 0
    last = torch.load(Path("runs/train/exp/weights/last.pt"), weights_only=False)
    assert type(last["model"].model[3]).__name__ == "Gate"
    assert run("prune", ["--percent", "0.4", "--imgsz", "64", *own]) == 0
    report = json.loads(Path("runs/prune/exp/report.json").read_text())
    assert report["unknown"][0].startswith("model.3: Gate")
    assert run("finetune", train) == 0
    best = "runs/finetune/exp/weights/best.pt"
    seen = ["--imgsz", "64", "--project", "seen", *own]
    assert run("val", ["--weights", best, "--data", str(shapes_yaml), *seen]) == 0
    argv = ["--include", "torchscript", "--repeats", "0", "--imgsz", "64", *own]
    assert run("export", argv) == 0
    code = f"import sys; from yolo_slim.cli import run; sys.exit(run('inspect', {[best, *own]!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    capfd.readouterr()
    admitted.ADMITTED.clear()
    admitted.CLONES.clear()
    assert run("inspect", [best]) == 2
    assert "--clone DIR" in capfd.readouterr().err


@pytest.mark.parametrize("place", ["models/common.py", "my_rules.py", "models"])
def test_a_file_in_a_clone(place, clone) -> None:
    """--modules with a file of a clone takes the clone's classes, and the file's rules."""
    if place == "models":
        with pytest.raises(InputError, match=r"no models/yolo\.py"):
            admit(clone / place)
        return
    text = "from models.common import Gate\nfrom yolo_slim import rule\n"
    text += "from utils.general import make_divisible\n\n"
    text += "@rule(Gate)\ndef _gate(m, name, x, t):\n"
    text += "    inner = t.conv(f'{name}.inner.conv', m.inner.conv, x,\n"
    text += "                   t.norm(f'{name}.inner.bn', m.inner.bn))\n"
    text += "    t.conv(f'{name}.outer', m.outer, inner, out=x)\n    return x\n"
    (clone / "my_rules.py").write_text(text)
    admit(clone / place)
    model = load(clone / "gated.pt").model
    assert same(model, clone)
    unknown = [] if place == "my_rules.py" else ["Gate"]
    assert [u.type for u in channel_graph(model).unknown] == unknown
    assert prune(model, 0.4, imgsz=64).parity.holds


def test_a_class_that_differs_in_words_alone_is_the_hosts(clone, tmp_path, capfd) -> None:
    """As YOLOv5's versions do: other words, the same values."""
    other = make_clone(tmp_path / "worded")
    change(other, "models/common.py", r"return self\.act\(self\.bn\(self\.conv\(x\)\)\)",
           "y = self.conv(x)\n        y = self.bn(y)\n        return self.act(y)")  # fmt: skip
    change(other, "models/yolo.py", r"(def forward\(self, x, )augment", r"\1more=0, augment")
    build_in(other)
    admit(other)
    model = load(other / "gated.pt").model
    assert type(model) is yolo.DetectionModel
    assert {type(m) for m in model.modules() if type(m).__name__ == "Conv"} == {common.Conv}
    assert same(model, other) and "note" not in capfd.readouterr().err
    assert prune(model, 0.4, imgsz=64).parity.holds


def test_a_class_that_computes_something_else_is_the_clones(tmp_path, capfd) -> None:
    """The model was trained with it: it is kept, told, and stays dense."""
    other = make_clone(tmp_path / "changed")
    joined = r"torch\.cat\(\(x, y1, y2, self\.m\(y2\)\), 1\)"
    change(other, "models/common.py", joined, "torch.cat((self.m(y2), y2, y1, x), 1)")
    build_in(other)
    admit(other)
    model = load(other / "gated.pt").model
    assert same(model, other)
    told = capfd.readouterr().err
    line = "its SPPF computes other values than YOLOv5's: it is kept, and is not cut without a rule"
    assert told == f"note: {other}: {line}\n"
    assert type(model.model[6]) is not common.SPPF and type(model.model[2]) is common.C3
    assert {u.type for u in channel_graph(model).unknown} == {"Gate", "SPPF"}
    pruned = prune(model, 0.4, imgsz=64)
    assert pruned.parity.holds
    again = load(save(pruned, tmp_path / "pruned.pt")).model
    assert prune(again, 0.2, imgsz=64).parity.holds
    built = build_model(other / "models" / "gated.yaml")
    assert type(built.model[6]) is type(model.model[6])


def test_a_head_that_computes_something_else_is_refused(tmp_path) -> None:
    other = make_clone(tmp_path / "head")
    change(other, "models/yolo.py", r"xy = \(xy \* 2 \+ self\.grid", "xy = (xy * 3 + self.grid")
    build_in(other)
    admit(other)
    with pytest.raises(InputError, match="its Detect computes other values than YOLOv5's"):
        load(other / "gated.pt")


def test_clones_that_cannot_be_used(clone, tmp_path, refused) -> None:
    (tmp_path / "models").mkdir()
    for name in ("yolo.py", "common.py"):
        (tmp_path / "models" / name).write_text("import nothing_of_that_name\n")
    weights = ["--weights", clone / "gated.pt"]
    line = refused("prune", *weights, "--clone", tmp_path)
    text = f"--clone {tmp_path}: models.yolo does not import (ModuleNotFoundError: No module"
    assert text in line
    line = refused("prune", *weights, "--clone", tmp_path / "nowhere")
    assert f"--clone {tmp_path}/nowhere: no such folder, expected the folder of a" in line
    line = refused("prune", *weights, "--clone", clone / "utils")
    assert "no models/yolo.py and models/common.py, expected the folder of a YOLOv5 clone" in line
