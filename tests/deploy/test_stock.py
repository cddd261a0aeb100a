"""A stock checkpoint: plain YOLOv5, the package and a clone, does with it what we do with ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from _common import randomise_norms_
from conftest import TINY
from plain_yolov5 import __file__ as PLAIN
from plain_yolov5 import serve
from torch import nn

from yolo_slim import InputError, load, prune, save
from yolo_slim.cli import run
from yolo_slim.deploy.stock import PLAIN as HOSTS
from yolo_slim.deploy.stock import names, stock, to_stock
from yolo_slim.errors import CheckFailed
from yolo_slim.extensions import admit
from yolo_slim.host import classes
from yolo_slim.host.checkpoint import safe_loading
from yolo_slim.host.classes import yolo
from yolo_slim.host.tasks import DETECTION, SEGMENTATION
from yolo_slim.models.model import ModelPruned, default_activation
from yolo_slim.shapes import NAMES

GENERIC = (
    TINY.replace("Conv, [32, 6, 2, 2]", "Focus, [32, 3]")
    .replace("1, Conv, [64, 3, 2]", "1, GhostConv, [64, 3, 2]")
    .replace("6, C3, [128]", "6, BottleneckCSP, [128]")
    .replace("C3, [128, False]", "C3Ghost, [128]")
    .replace("SPPF, [256, 5]", "SPP, [256, [3, 5]]")
)
SEGMENT = TINY.replace("Detect, [nc, anchors]", "Segment, [nc, anchors, 32, 32]")
CONVS = re.sub(r"\d, (C3|SPPF), \[(\d+).*?\]", r"1, Conv, [\2, 3]", TINY)


def pruned_model(
    text: str, residual: str = "skip", trained: bool = False, depth: bool = False
) -> nn.Module:
    """A pruned model with random weights; `trained`: with anchors of its own, half precision;
    `depth`: without residual Bottlenecks.
    """
    data = yaml.safe_load(text)
    model = (yolo.SegmentationModel if text is SEGMENT else yolo.DetectionModel)(data)
    randomise_norms_(model)
    model.names = dict(enumerate(NAMES))
    for conv in model.model[-1].m:
        conv.bias.data.view(3, -1)[:, 9:] += 1  # a mask has more than a few pixels
    if trained:
        model.model[-1].anchors *= torch.rand_like(model.model[-1].anchors) + 0.5
        model.half().float()
    if depth:
        with torch.no_grad():
            for block in model.model[4].m:
                block.cv1.bn.weight.mul_(1e-3)
                block.cv2.bn.weight.mul_(1e-3)
    pruned = prune(model.eval(), 0.3, residual=residual, round_to=1, imgsz=64, depth=depth)
    assert bool(pruned.report.removed) == depth
    return pruned.model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "skip": lambda: pruned_model(TINY),
    "group": lambda: pruned_model(TINY, "group", trained=True),
    "generic": lambda: pruned_model(GENERIC, "inner"),
    "segment": lambda: pruned_model(SEGMENT),
    "depth": lambda: pruned_model(TINY, "inner", depth=True),
    "convs": lambda: pruned_model(CONVS),
}
SERVED = ("skip", "generic", "segment")
EXPORTED = ("skip", "segment")  # by the clone


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stock")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, nn.Module]:
    """The pruned models, each as NAME.pt of ours and as stock/NAME.pt."""
    torch.manual_seed(0)
    (folder / "stock").mkdir()
    made = {}
    for name, make in MODELS.items():
        made[name] = load(save(make(), folder / f"{name}.pt")).model
        (folder / "stock" / f"{name}.pt").write_bytes(to_stock(made[name]))
    return made


@pytest.fixture(scope="module")
def jobs(folder: Path, models: dict[str, nn.Module], shapes_yaml: Path) -> dict[str, dict]:
    """What YOLOv5 is to do. The labels of the data are what a model of ours finds."""
    images = shapes_yaml.parent / "shapes" / "images" / "val"
    options = {"imgsz": (64, 64), "conf_thres": 0.001, "max_det": 4, "save_txt": True}
    for kind, task, name in (("boxes", DETECTION, "skip"), ("outlines", SEGMENTATION, "segment")):
        with safe_loading():
            task.script("detect").run(
                **options,
                weights=str(folder / f"{name}.pt"),
                source=str(images),
                nosave=True,
                project=folder,
                name=kind,
            )
        (folder / kind / "labels").rename(folder / kind / "val")
        (folder / kind / "labels").mkdir()
        (folder / kind / "val").rename(folder / kind / "labels" / "val")
        shutil.copytree(images, folder / kind / "images" / "val")
        data = {"path": str(folder / kind), "train": "images/val", "val": "images/val"}
        text = yaml.safe_dump({**data, "names": dict(enumerate(NAMES))})
        (folder / f"{kind}.yaml").write_text(text)
    kinds = {name: "outlines" if name == "segment" else "boxes" for name in models}
    return {
        name: {
            "weights": str(folder / "stock" / f"{name}.pt"),
            "folder": str(folder / "stock" / name),
            "data": str(folder / f"{kind}.yaml"),
            "images": str(folder / kind / "images" / "val"),
            "segmentation": name == "segment",
            "serve": name in SERVED,
            "train": True,
        }
        for name, kind in kinds.items()
    }


@pytest.fixture(scope="module")
def image(folder: Path) -> torch.Tensor:
    torch.save(torch.rand(2, 3, 64, 96), folder / "image.pt")
    return torch.load(folder / "image.pt")


def in_plain_yolov5(root: str, folder: Path, jobs: dict, **env: str) -> dict[str, Any]:
    """Do the jobs in a process that cannot import yolo_slim, in an empty folder and home."""
    for name in ("home", "home/settings", "elsewhere"):
        (folder / name).mkdir()
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    shutil.copy(font, folder / "home" / "settings" / "Arial.ttf")  # else it is downloaded
    keep = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    env |= {key: os.environ[key] for key in keep if key in os.environ}
    env |= {"HOME": str(folder / "home"), "YOLOV5_CONFIG_DIR": str(folder / "home" / "settings")}
    env |= {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "YOLO_OFFLINE": "true"}
    env |= {"YOLO_AUTOINSTALL": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    order = {"jobs": jobs, "image": str(folder.parent / "image.pt")}
    (folder / "jobs.json").write_text(json.dumps({**order, "found": str(folder / "found.pt")}))
    command = [sys.executable, PLAIN, root, str(folder / "jobs.json")]
    done = subprocess.run(
        command, cwd=folder / "elsewhere", env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "found.pt")


@pytest.fixture(scope="module")
def package(folder: Path, jobs: dict, image: torch.Tensor) -> dict[str, Any]:
    """What the pip package found."""
    (folder / "package").mkdir()
    return in_plain_yolov5("yolov5.", folder / "package", jobs)


@pytest.fixture(scope="module")
def clone(folder: Path, jobs: dict, image: torch.Tensor) -> dict[str, Any]:
    """What a clone found: the package's files with a clone's imports, and no package."""
    source, target = Path(yolo.__file__).parents[1], folder / "clone" / "yolov5"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
    for file in target.rglob("*.py"):
        text = file.read_text()
        file.write_text(re.sub(r"(?m)^( *(?:from|import)) yolov5\.", r"\1 ", text))
    for name in ("models", "utils", "utils/loggers", "utils/segment", "segment"):
        if (source / name / "__init__.py").is_file():
            shutil.copy(source / name / "__init__.py", target / name / "__init__.py")
    jobs = {name: {**job, "serve": False, "train": False} for name, job in jobs.items()}
    for name in EXPORTED:
        file = folder / "clone" / f"{name}.pt"
        shutil.copy(jobs[name]["weights"], file)
        jobs[name] |= {"weights": str(file), "export": True}
    return in_plain_yolov5("", folder / "clone", jobs, PYTHONPATH=str(target))


@pytest.fixture(scope="module")
def ours(folder: Path, jobs: dict) -> dict[str, list[float]]:
    """What val returned for the checkpoints of ours, here; their exports lie beside them."""
    found = {}
    for name in SERVED:
        job = {**jobs[name], "weights": str(folder / f"{name}.pt"), "folder": str(folder / name)}
        with safe_loading():
            found[name] = serve("yolov5.", job)
    return found


def test_names(models: dict[str, nn.Module], folder: Path) -> None:
    """Of YOLOv5 and torch, and no other; what a clone calls them, and has."""
    for name in models:
        found = names(folder / "stock" / f"{name}.pt")
        others = [n for n in found if not n.startswith(("models.", "torch."))]
        attribute = ["__builtin__.getattr"] * (name == "segment")  # as in YOLOv5's own files
        assert others == [*attribute, "__builtin__.set", "collections.OrderedDict"]
        assert ("torch.HalfStorage" in found) == (name == "group")  # where nothing is lost
    assert {n for n in found if n.startswith("models.")} == {
        "models.common.Concat",
        "models.yolo.Conv",
        "models.yolo.Detect",
        "models.yolo.DetectionModel",
    }


@pytest.mark.parametrize("where", ["package", "clone"])
@pytest.mark.parametrize("name", MODELS)
def test_same_output(
    name: str, where: str, models: dict, image: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    """To the bit, as it is and fused."""
    found = request.getfixturevalue(where)
    assert found["ours"] == []
    model = deepcopy(models[name])
    with torch.no_grad():
        assert torch.equal(found[name]["output, fuse=False"], model(image)[0])
        assert torch.equal(found[name]["output, fuse=True"], model.fuse()(image)[0])
    left = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert found[name]["norms, fuse=True"] == len(left) < found[name]["norms, fuse=False"]


@pytest.mark.parametrize("name", SERVED)
def test_same_accuracy(name: str, package: dict, ours: dict) -> None:
    """To the bit, and it is not nothing: precision, recall, mAP50, mAP50-95, also of masks."""
    assert package[name]["val"] == ours[name]
    assert min(ours[name][: 8 if name == "segment" else 4]) > 0


@pytest.mark.parametrize("name", SERVED)
def test_same_detections(name: str, package: dict, ours: dict, folder: Path) -> None:
    for kind in ("detect",) if name == "segment" else ("val", "detect"):
        expected, found = (
            {file.name: file.read_text() for file in (at / name / kind / "labels").iterdir()}
            for at in (folder, folder / "stock")
        )
        assert len(expected) == 8
        assert all(len(text.splitlines()) > 3 for text in expected.values())
        assert found == expected


@pytest.mark.parametrize(
    ("where", "name"), [*(("package", name) for name in SERVED), *(("clone", n) for n in EXPORTED)]
)
def test_same_exports(
    where: str, name: str, ours: dict, folder: Path, request: pytest.FixtureRequest
) -> None:
    """YOLOv5's export of its file and of ours give the same to the bit."""
    request.getfixturevalue(where)
    at = folder / ("stock" if where == "package" else "clone")
    for suffix, outputs in (("onnx", of_onnx), ("torchscript", of_torchscript)):
        expected, found = (outputs(path / f"{name}.{suffix}") for path in (folder, at))
        assert len(expected) == (2 if name == "segment" else 1)
        # The package does not find the Detect of a file with the names of a clone, whoever wrote
        # it, and leaves the three maps in.
        assert len(found) - len(expected) == (3 if where == "package" else 0)
        for a, b in zip(expected, found, strict=False):
            np.testing.assert_array_equal(a, b)


def of_onnx(file: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(file)
    return session.run(None, {"images": np.random.default_rng(0).random((1, 3, 64, 64), "f4")})


def of_torchscript(file: Path) -> list[np.ndarray]:
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 64), "f4"))
    with torch.no_grad():
        found = torch.jit.load(file)(image)
    flat = [t for out in found for t in ([out] if isinstance(out, torch.Tensor) else out)]
    return [out.numpy() for out in flat]


def test_val_of_ours_prints_the_same(
    package: dict, jobs: dict, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(folder / "skip.pt"), "--data", jobs["skip"]["data"], "--imgsz", "64"]
    assert run("val", [*argv, "--workers", "0", "--batch-size", "8"]) == 0
    table = (tmp_path / "runs" / "val" / "exp" / "results.html").read_text()
    assert f"<td>{package['skip']['val'][2]:.3f}</td>" in table  # mAP50
    assert (folder / "stock" / "skip" / "val" / "results.html").read_text() == table


def test_yolov5_does_not_train_another_model_in_its_place(package: dict, models: dict) -> None:
    """Its train.py builds a model from the yaml, and goes on with the weights that fit."""
    expected = dict.fromkeys(MODELS, "NameError: name 'C3Pruned' is not defined")
    expected["convs"] = "KeyError: 'depth_multiple'"
    assert {name: package[name]["train"] for name in MODELS} == expected
    assert {row[2] for row in models["convs"].yaml["backbone"]} == {"Conv"}
    with default_activation(None):
        other = yolo.DetectionModel(deepcopy(models["convs"].yaml)).state_dict()  # it would have
    assert any(other[key].shape != t.shape for key, t in models["convs"].state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_opened_and_pruned_again(
    name: str, models: dict, folder: Path, image: torch.Tensor
) -> None:
    """By us, as the model that it was made of."""
    model, opened = models[name], load(folder / "stock" / f"{name}.pt").model
    assert not {type(m) for m in opened.modules()} & set(HOSTS)
    assert opened.names == model.names
    again, expected = (prune(m, 0.3, imgsz=64).model for m in (opened, model))
    assert isinstance(again, ModelPruned)
    state = expected.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(t, state[key]) for key, t in again.state_dict().items())


def test_export_writes_it(
    models: dict, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: Any
) -> None:
    argv = ["--weights", str(folder / "skip.pt"), "--include", "stock", "--imgsz", "64"]
    argv += ["--repeats", "0", "--images", "2", "--project", str(tmp_path)]
    assert run("export", argv) == 0
    report = json.loads((tmp_path / "exp" / "report.json").read_text())
    agreement = report["agreement"]["stock"]
    assert agreement.pop("limits")["boxes"] == 0.05
    assert agreement == {"boxes": 0.0, "scores": 0.0, "images": 2, "masks": None, "seen": True}
    file = tmp_path / "exp" / "skip-stock.pt"
    assert names(file) == names(folder / "stock" / "skip.pt")
    state = load(file).model.state_dict()
    assert all(torch.equal(t, state[key]) for key, t in models["skip"].state_dict().items())

    other = deepcopy(models["skip"])
    nn.init.zeros_(other.model[0].conv.weight)
    monkeypatch.setattr("yolo_slim.deploy.stock.to_stock", lambda model: to_stock(other))
    assert run("export", argv) == 1
    assert "failed: stock differs from our model" in capsys.readouterr().err
    assert not list((tmp_path / "exp2").rglob("*.pt"))


def test_dense_model(tiny_model: nn.Module, tmp_path: Path) -> None:
    """What is not pruned stays what it was, and can be trained."""
    (tmp_path / "dense.pt").write_bytes(to_stock(tiny_model))
    found = load(tmp_path / "dense.pt").model
    assert found.yaml == tiny_model.yaml
    assert [type(m) for m in found.modules()] == [type(m) for m in tiny_model.modules()]
    assert all(torch.equal(t, found.state_dict()[k]) for k, t in tiny_model.state_dict().items())


def test_the_model_is_left_as_it_is(models: dict, image: torch.Tensor) -> None:
    """And what it holds of its last image does not go along: half precision would round it."""
    model = deepcopy(models["skip"])
    expected = model(image)[0]
    types = [type(m) for m in model.modules()]
    copy = stock(model)
    assert [tuple(grid.shape) for grid in copy.model[-1].grid] == [(0,)] * 3
    assert [tuple(grid.shape) for grid in copy.model[-1].anchor_grid] == [(0,)] * 3
    assert not hasattr(copy, "maskbndict") and not hasattr(copy, "ancestry")
    assert copy.model[2].type == "models.common.C3"
    assert torch.equal(copy(image)[0], expected)
    assert [type(m) for m in model.modules()] == types
    assert model.maskbndict and model.ancestry
    assert model.model[-1].grid[0].numel() > 0
    assert "depth_multiple" in models["convs"].yaml


def test_each_class_of_ours_has_one_of_yolov5() -> None:
    ours = {cls for cls in classes.OURS.values() if cls.__module__.startswith("yolo_slim.")}
    assert set(HOSTS) == ours
    assert all(issubclass(cls, plain) for cls, plain in HOSTS.items())


def test_own_module_is_refused(tmp_path: Path, tiny_yaml: dict) -> None:
    (tmp_path / "gates_of_stock.py").write_text(GATE)
    admit(tmp_path / "gates_of_stock.py")
    tiny_yaml["backbone"][7] = [-1, 1, "GateOfStock", [64]]
    model = prune(yolo.DetectionModel(tiny_yaml), 0.3, imgsz=64).model
    with pytest.raises(InputError, match=r"model\.7: a GateOfStock of gates_of_stock, expected"):
        to_stock(model)


GATE = """
from torch import nn

class GateOfStock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * self.conv(x).sigmoid()
"""


def test_foreign_name_is_noticed(tiny_model: nn.Module) -> None:
    tiny_model.hyp = {"lr0": np.float64(0.01)}
    with pytest.raises(CheckFailed, match=r"names .*numpy\.dtype"):
        to_stock(tiny_model)


def test_export_tells_what_plain_yolov5_needs(tiny_checkpoint, tmp_path, capfd, monkeypatch):
    """YOLOv5 7.0 opens no .pt on today's packages; the last lines can be pasted."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(tiny_checkpoint), "--include", "stock", "--imgsz", "64"]
    assert run("export", [*argv, "--repeats", "0", "--project", "with space"]) == 0
    told = capfd.readouterr().out.splitlines()[-3:]
    assert told[0] == '  pip install "setuptools<82"'
    assert told[1] == "  export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"
    assert told[2] == "  yolov5 detect --weights 'with space/exp/tiny-stock.pt' --source images"
    assert run("export", [*argv[:2], "--include", "torchscript", *argv[4:], "--repeats", "0"]) == 0
    assert "setuptools" not in capfd.readouterr().out
