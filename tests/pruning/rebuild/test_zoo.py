"""Every model yaml of the host, and one of v5.0, narrow: cut, saved, loaded elsewhere, cut again.

benchmarks/zoo.py --all does the same at full size.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from zoo import RESIDUAL, build, zoo

from yolo_slim import ModelPruned, channel_graph, load, prune, save
from yolo_slim.deploy.check import compare
from yolo_slim.deploy.export import to_onnx
from yolo_slim.host.classes import experimental, yolo
from yolo_slim.measure.latency import session

ZOO = {file.stem: file for file in zoo()}
SMALL = ["yolov5n", "yolov5n6", "yolov5n-seg", "yolov3-tiny", "yolov5-p34", "yolov5s-LeakyReLU"]
SMALL += ["yolov5s-ghost", "yolov5s-transformer", "yolov5s-v5.0"]
LOAD = """
import sys, torch
from yolo_slim import load
torch.set_num_threads(1)  # the last bit of a sum may depend on it
for file in sys.argv[1:]:
    model = load(file).model
    image, expected = torch.load(file + ".expected")
    with torch.no_grad():
        assert torch.equal(model(image)[0], expected), file
    print(type(model).__name__)
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def structure(file: Path) -> str:
    """What models of one family, such as yolov5n to yolov5x, have in common."""
    data = yaml.safe_load(file.read_text(errors="ignore"))
    return repr({k: v for k, v in data.items() if k not in ("depth_multiple", "width_multiple")})


FIRSTS = sorted({structure(file): name for name, file in reversed(ZOO.items())}.values())


DEEPEST = ["yolov5x", "yolov5x6", "yolov5x-seg"]  # of each family


@cache
def model_of(name: str) -> nn.Module:
    """A model at an eighth of its width (yolov3-tiny, which starts at 16: a quarter).

    The first of a family is as shallow as yolov5n, the others as deep as they are.
    """
    width = 0.25 if name == "yolov3-tiny" else 0.125
    return build(ZOO[name], width=width, depth=0.33 if name in FIRSTS else None)


def test_the_zoo_is_whole() -> None:
    import yolov5

    shipped = (Path(yolov5.__file__).parent / "models").rglob("*.yaml")
    assert {file.stem for file in shipped} - {"anchors"} == set(ZOO) - {"yolov5s-v5.0"}
    assert len(ZOO) == 29


@pytest.mark.parametrize("name", ZOO)
def test_graph(name) -> None:
    model = model_of(name)
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for residual in RESIDUAL:
        graph = channel_graph(model, residual)
        assert not graph.unknown
        assert {norm.name for norm in graph.norms.values()} == norms


@pytest.mark.parametrize("name", FIRSTS)
def test_cut(name) -> None:
    model = model_of(name)
    whole = prune(model, 0.0, round_to=1, recover=(), imgsz=64).report
    assert (whole.achieved, whole.after) == (0.0, whole.before)
    for residual in RESIDUAL:
        for share in (0.3, 0.9):  # 0.6: test_cut_twice
            pruned = prune(model, share, residual=residual, round_to=1, recover=(), imgsz=64)
            assert pruned.parity.holds
            assert pruned.report.achieved == pytest.approx(share, abs=0.01) or any(
                layer.note == "floor" for layer in pruned.report.layers
            )


@pytest.mark.parametrize("name", [*FIRSTS, *DEEPEST])
def test_cut_twice(name, tmp_path) -> None:
    pruned = prune(model_of(name), 0.6, residual="group", round_to=1, imgsz=64)
    shapes = {k: v.shape for k, v in pruned.model.state_dict().items()}
    again = build_again(pruned.yaml)
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes
    second = prune(pruned.model, 0.3, residual="group", recover=(), imgsz=64)
    assert second.parity.holds
    assert second.report.after.params < pruned.report.after.params
    loaded = load(save(second, tmp_path / "twice.pt")).model.eval()
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(loaded(image)[0], second.model.eval()(image)[0])


def build_again(data: dict) -> nn.Module:
    """A model from the pruned yaml alone, as finetuning from scratch makes it."""
    from yolo_slim.models.model import build_model

    model = build_model(data)
    assert isinstance(model, ModelPruned)
    return model


def test_they_load_in_a_new_process(tmp_path) -> None:
    files = []
    for name in SMALL:
        model = prune(model_of(name), 0.6, residual="group", recover=(), imgsz=64).model.eval()
        files.append(save(model, tmp_path / f"{name}.pt"))
        image = torch.rand(1, 3, 128, 128)
        with torch.no_grad():
            torch.save((image, model(image)[0]), f"{files[-1]}.expected")
    run = [sys.executable, "-c", LOAD, *map(str, files)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kinds = [line for line in done.stdout.splitlines() if line.endswith("Pruned")]
    assert kinds.count("SegmentationModelPruned") == 1
    assert len(kinds) == len(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_onnx(name) -> None:
    pruned = prune(model_of(name), 0.6, residual="group", imgsz=64).model.eval()
    size = 2 * max(int(pruned.stride.max()), 32)
    content = to_onnx(pruned, imgsz=size)
    runtime = session(content, 1)
    image = torch.rand(2, 1, 3, size, size, generator=torch.Generator().manual_seed(0)).numpy()
    found = compare(pruned, lambda x: runtime.run(None, {"images": x}), list(image))
    assert found.holds, found
    masks = isinstance(pruned, yolo.SegmentationModel)
    assert len(runtime.get_outputs()) == (2 if masks else 1)


EVERY = """
nc: 4
depth_multiple: 0.67
width_multiple: 0.25
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Focus, [64, 3]]  # 0
  - [-1, 1, DWConv, [64, 3, 2]]  # 1
  - [-1, 3, BottleneckCSP, [64]]  # 2
  - [-1, 3, CrossConv, [64, 3, 1, 1, 1.0, True]]  # 3
  - [-1, 1, MixConv2d, [128, [1, 3], 2]]  # 4
  - [-1, 3, C3x, [128]]  # 5
  - [-1, 1, nn.BatchNorm2d, []]  # 6
  - [-1, 1, Contract, [2]]  # 7
  - [-1, 1, GhostConv, [256, 3, 1]]  # 8
  - [-1, 1, C3SPP, [256, [5, 9]]]  # 9
  - [-1, 1, SPP, [256, [5, 9, 13]]]  # 10
  - [-1, 3, C3TR, [256]]  # 11
  - [-1, 1, GhostBottleneck, [256, 3, 2]]  # 12
head:
  - [-1, 1, nn.ConvTranspose2d, [256, 2, 2]]  # 13
  - [[-1, 11], 1, Concat, [1]]  # 14
  - [-1, 1, Bottleneck, [256]]  # 15
  - [-1, 1, Expand, [2]]  # 16
  - [-1, 1, DWConvTranspose2d, [64, 3, 1, 1]]  # 17
  - [-1, 3, C3, [64, False, 2]]  # 18, grouped Bottlenecks
  - [[18, 15], 1, Detect, [nc, anchors]]  # 19
"""


@pytest.mark.parametrize("residual", RESIDUAL)
def test_every_module_that_the_host_parses(residual, tmp_path) -> None:
    file = tmp_path / "every.yaml"
    file.write_text(EVERY)
    model = build(file)
    assert not channel_graph(model, residual).unknown
    for share in (0.3, 0.9):
        pruned = prune(model, share, residual=residual, round_to=1, imgsz=64)
        assert pruned.parity.holds
        shapes = {k: v.shape for k, v in pruned.model.state_dict().items()}
        assert {k: v.shape for k, v in build_again(pruned.yaml).state_dict().items()} == shapes
        assert prune(pruned.model, 0.3, residual=residual, imgsz=64).parity.holds


def test_sum_ties_what_it_adds(tiny_model) -> None:
    """The host's yamls cannot hold a Sum; a model can."""
    for index, layer in ((9, experimental.Sum(2)), (10, nn.Identity())):
        layer.i, layer.f = index, -1 if index == 10 else [8, 7]
        tiny_model.model[index] = layer
    tiny_model.model[9].f = [7, 7]
    assert "added in model.9" in str(channel_graph(tiny_model).norms["model.7.cv2.bn"].pinned)
    assert channel_graph(tiny_model, "group").norms["model.7.cv2.bn"].pinned is None
