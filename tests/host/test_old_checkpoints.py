"""Checkpoints of earlier YOLOv5s, of clones and of yolo_slim itself load as the same model."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path, PosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from pickles import pickled, renamed
from torch import nn

from yolo_slim import InputError, ModelPruned, load, prune, save
from yolo_slim.files import shipped
from yolo_slim.host.checkpoint import read
from yolo_slim.host.classes import common, yolo
from yolo_slim.models.model import build_model, default_activation
from yolo_slim.models.pruned_yaml import read_yaml, write_yaml
from yolo_slim.shapes import NAMES


def same_output(a: nn.Module, b: nn.Module) -> bool:
    x = torch.rand(1, 3, 64, 64)
    return torch.equal(a(x)[0], b(x)[0])


class Old:
    """What YOLOv5 of earlier years did otherwise, as a change of a model or of its checkpoint."""

    def list_names(ckpt):
        ckpt["model"].names = list(ckpt["model"].names.values())

    def data_parallel(ckpt):
        ckpt["model"] = nn.DataParallel(ckpt["model"])

    def anchor_grid_buffer(ckpt):
        detect = ckpt["model"].model[-1]
        del detect.anchor_grid
        detect.register_buffer("anchor_grid", torch.rand(3, 1, 3, 1, 1, 2))

    def stale_grid(ckpt):
        detect = ckpt["model"].model[-1]
        detect.grid = [torch.rand(1, 3, 5, 5, 2)] * 3
        detect.anchor_grid = [torch.rand(1, 3, 5, 5, 2)] * 3

    def upsample(ckpt):
        del ckpt["model"].model[9].recompute_scale_factor

    def sync_batchnorm(ckpt):
        ckpt["model"] = nn.SyncBatchNorm.convert_sync_batchnorm(ckpt["model"])

    def no_inplace(ckpt):
        del ckpt["model"].inplace
        del ckpt["model"].model[-1].inplace

    def shared_activation(ckpt):
        assert ckpt["model"].model[0].act is ckpt["model"].model[1].act

    def ema(ckpt):
        ckpt["ema"], ckpt["updates"] = ckpt["model"], 7
        ckpt["model"] = deepcopy(ckpt["model"])
        nn.init.zeros_(ckpt["model"].model[0].conv.weight)

    def numpy_scalars(ckpt):
        ckpt["best_fitness"] = np.float64(0.25)
        ckpt["model"].nc = np.int64(4)
        ckpt["fitness"] = np.arange(6, dtype=">f4").reshape(2, 3)

    def half(ckpt):
        ckpt["model"].half()

    def options(ckpt):
        ckpt["opt"] = Namespace(data=PosixPath("a/b.yaml"), imgsz=320, hyp={"lr0": 0.01})


KINDS = [name for name in vars(Old) if not name.startswith("_")]


@pytest.mark.parametrize("root", ["yolov5.models", "models"])
def test_names_of_package_and_clone_give_the_same_classes(root, tiny_model, tmp_path):
    content = renamed(pickled({"model": tiny_model}), "yolov5.models.", f"{root}.")
    (tmp_path / "model.pt").write_bytes(content)
    found = load(tmp_path / "model.pt").model
    assert [type(m) for m in found.modules()] == [type(m) for m in tiny_model.modules()]
    assert same_output(found, tiny_model)


@pytest.mark.parametrize("kind", KINDS)
def test_older_checkpoints_load(kind, tiny_model, tmp_path):
    if kind == "half":
        tiny_model.half()
    expected = deepcopy(tiny_model).float()
    ckpt = {"epoch": 3, "model": tiny_model, "ema": None, "opt": None}
    getattr(Old, kind)(ckpt)
    file = tmp_path / "old.pt"
    file.write_bytes(renamed(pickled(ckpt), "yolov5.models.", "models."))
    found = load(file)
    assert found.names == {0: "circle", 1: "square", 2: "triangle", 3: "cross"}
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}
    assert (found.epoch, found.model.training, found.model.nc) == (3, False, 4)
    assert same_output(found.model, expected)
    if kind == "options":
        assert found.train == {"data": Path("a/b.yaml"), "imgsz": 320, "hyp": {"lr0": 0.01}}


def test_file_format_before_torch_1_6(tiny_model, tmp_path):
    """It names modules by their source code; torch reads that with its safety off, or not."""
    content = pickled({"model": tiny_model}, _use_new_zipfile_serialization=False)
    assert not content.startswith(b"PK")
    (tmp_path / "old.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"the file format of torch before 1\.6, expected"):
        load(tmp_path / "old.pt")


def test_numpy_values_survive(tmp_path, tiny_model):
    array = np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))
    data = {"a": np.float32(0.1), "b": np.float64(0.1), "c": array, "d": np.bool_(True)}
    torch.save(data, tmp_path / "numbers.pt")
    found = read(tmp_path / "numbers.pt")
    assert {k: found[k] == data[k] for k in "abd"} == {"a": True, "b": True, "d": True}
    assert (found["a"].dtype, found["c"].dtype) == (np.float32, np.dtype(">i2"))
    np.testing.assert_array_equal(found["c"], array)


def test_pruned_checkpoint_keeps_masks(tiny_model, tmp_path):
    pruned = prune(tiny_model, 0.3, imgsz=64)
    found = load(save(pruned, tmp_path / "pruned.pt")).model
    assert found.maskbndict.keys() == pruned.masks.keys()
    assert all(torch.equal(found.maskbndict[k], m) for k, m in pruned.masks.items())
    assert same_output(found, pruned.model)


# Whole checkpoints, as each version wrote them


def random_model(text: str | dict[str, Any], seed: int = 0) -> nn.Module:
    """A detector with random weights and random BN values, each of which half precision holds."""
    data = yaml.safe_load(text) if isinstance(text, str) else text
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = yolo.DetectionModel(data)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.1, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    model.names, model.nc, model.hyp = dict(enumerate(NAMES)), 4, {"lr0": 0.01, "anchor_t": 4.0}
    model.class_weights = torch.ones(4, dtype=torch.float64)
    return model.half().float().eval()


def yolov5_of_2021() -> nn.Module:
    """The architecture of v5.0, narrow; BottleneckCSP had an activation of its own."""
    data = {**read_yaml(shipped("cfg/yolov5s-v5.0.yaml")), "width_multiple": 0.125, "nc": 4}
    model = random_model(data)
    for module in model.modules():
        if isinstance(module, common.BottleneckCSP):
            module.act = nn.LeakyReLU(0.1, inplace=True)
        elif isinstance(module, common.Conv):
            module.act = nn.SiLU()  # each has its own
    return model


HOOKS = ("_is_full_backward_hook", "_load_state_dict_post_hooks", "_state_dict_pre_hooks")
HOOKS += ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_backward_pre_hooks")
HOOKS += ("_forward_pre_hooks_with_kwargs",)


def aged(model: nn.Module, names: bool = False) -> nn.Module:
    """A copy as YOLOv5 before 6.1 and torch 1.7 had it; `names`: they are a list until 6.2."""
    model = deepcopy(model)
    model.names = list(model.names.values())
    if names:
        return model
    detect = model.model[-1]
    pixels = (detect.anchors * detect.stride.view(-1, 1, 1)).view(3, 1, 3, 1, 1, 2)
    del detect.anchor_grid, detect.inplace, model.inplace
    detect.register_buffer("anchor_grid", pixels)
    detect.grid = [torch.rand(1, 1, 20, 20, 2)] * 3
    model.gr = 1.0
    for module in model.modules():
        for hook in HOOKS:
            module.__dict__.pop(hook, None)
        if isinstance(module, nn.Upsample):
            del module.recompute_scale_factor
    return model


def halfway(model: nn.Module, **more: Any) -> dict[str, Any]:
    """Mid-training: what is trained differs from the EMA, and the optimizer has its buffers."""
    trained = deepcopy(model).float().train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for parameter in trained.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    found = {"epoch": 7, "best_fitness": np.array([0.25]), "model": trained.half(), "updates": 70}
    return found | {"ema": model.half(), "optimizer": optimizer.state_dict()} | more


def stripped(model: nn.Module, **more: Any) -> dict[str, Any]:
    """A finished training, after strip_optimizer."""
    for parameter in model.parameters():
        parameter.requires_grad = False
    found = {"epoch": -1, "best_fitness": None, "model": model.half(), "ema": None}
    return found | {"updates": None, "optimizer": None} | more


OPT = {"data": "data/a.yaml", "imgsz": 320, "cfg": "", "hyp": {"lr0": 0.01}, "resume": False}
OPT |= {"save_dir": "runs/train/exp", "freeze": [0], "project": PosixPath("runs/train")}
GIT = {"remote": "https://github.com/ultralytics/yolov5", "branch": "master", "commit": "915bbf2"}
DATE = "2022-11-22T10:00:00"


class Version(NamedTuple):
    """A model, what its version wrote of it under which names, and what is to be read."""

    make: Callable[[], nn.Module]
    checkpoint: Callable[[nn.Module], dict[str, Any]]
    names: tuple[tuple[str, str], ...]
    epoch: int = -1
    imgsz: int | None = 320


def tiny() -> nn.Module:
    return random_model(TINY)


CLONE = (("yolov5.models.", "models."),)
MODEL = (("yolov5.models.yolo\nDetectionModel", "models.yolo\nModel"), *CLONE)  # until 6.2
EXPERIMENTAL = (*MODEL, ("models.common\nC3", "models.experimental\nC3"))
VERSIONS = {
    "v5.0 mid-training": Version(
        yolov5_of_2021,
        lambda m: halfway(aged(m), training_results="0/299 1.2G 0.1", wandb_id=None),
        MODEL,
        epoch=7,
        imgsz=None,
    ),
    "v5.0 stripped": Version(
        yolov5_of_2021,
        lambda m: stripped(aged(m), training_results=None, wandb_id=None),
        MODEL,
        imgsz=None,
    ),
    "between v4.0 and v5.0": Version(
        yolov5_of_2021,
        lambda m: {**halfway(aged(m)), "ema": (aged(m).half(), 70)},
        EXPERIMENTAL,
        epoch=7,
        imgsz=None,
    ),
    "v6.1 mid-training": Version(
        tiny,
        lambda m: halfway(aged(m, names=True), wandb_id="1a2b3c", date=DATE),
        MODEL,
        epoch=7,
        imgsz=None,
    ),
    "v6.1 DataParallel, no EMA": Version(
        tiny,
        lambda m: stripped(nn.DataParallel(aged(m, names=True)), opt=Namespace(**OPT)),
        MODEL,
    ),
    "v6.2 DataParallel, EMA": Version(
        tiny,
        lambda m: halfway(nn.DataParallel(deepcopy(m)), wandb_id=None, opt=OPT, date=DATE),
        CLONE,
        epoch=7,
    ),
    "v7.0 mid-training": Version(
        tiny, lambda m: halfway(deepcopy(m), opt=OPT, git=GIT, date=DATE), CLONE, epoch=7
    ),
    "v7.0 stripped": Version(
        tiny, lambda m: stripped(deepcopy(m), opt=OPT, git=GIT, date=DATE), CLONE
    ),
    "v7.0 of the package, float, no EMA": Version(
        tiny,
        lambda m: {**halfway(deepcopy(m), opt=OPT), "model": deepcopy(m).train(), "ema": None},
        names=(),
        epoch=7,
    ),
}

AGAIN = """
import sys
import torch
from yolo_slim import load, prune

torch.set_num_threads(1)
image, found = torch.load(sys.argv[1]), {}
for file in sys.argv[3:]:
    model = load(file).model
    with torch.no_grad():
        output = model(image)[0]
    again = prune(model, 0.3, imgsz=64)
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, again.model)]
    found[file] = (output, again.parity.error, *counts)
torch.save(found, sys.argv[2])
"""


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, dict[str, Any]]:
    """Each checkpoint: loaded and pruned here, opened and pruned again in a new process."""
    folder, found = tmp_path_factory.mktemp("versions"), {}
    image = torch.rand(2, 3, 64, 96)
    torch.save(image, folder / "image.pt")
    for number, (name, version) in enumerate(VERSIONS.items()):
        dense = version.make()
        content = pickled(version.checkpoint(dense))
        for old, new in version.names:
            content = renamed(content, old, new)
        (folder / f"{number}.pt").write_bytes(content)
        source = load(folder / f"{number}.pt")
        pruned = prune(source.model, 0.3, imgsz=64)
        file = save(pruned, folder / f"{number}-pruned.pt")
        with torch.no_grad():
            outputs = [m(image)[0] for m in (dense.float(), source.model, pruned.model)]
        found[name] = {"source": source, "pruned": pruned, "file": str(file), "outputs": outputs}
    files = [entry["file"] for entry in found.values()]
    command = [sys.executable, "-c", AGAIN, folder / "image.pt", folder / "again.pt", *files]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    again = torch.load(folder / "again.pt")
    return {name: {**entry, "again": again[entry["file"]]} for name, entry in found.items()}


@pytest.mark.parametrize("name", VERSIONS)
def test_whole_checkpoint_loads(name: str, road: dict) -> None:
    source, (dense, loaded, _) = road[name]["source"], road[name]["outputs"]
    model = source.model
    assert torch.equal(loaded, dense)
    assert source.names == model.names == dict(enumerate(NAMES))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (model.nc, model.training, model.inplace) == (4, False, True)
    assert model.stride.tolist() == [8, 16, 32]
    assert "anchor_grid" not in model.state_dict()
    found = (source.epoch, source.train.get("imgsz"))
    assert found == (VERSIONS[name].epoch, VERSIONS[name].imgsz)


@pytest.mark.parametrize("name", VERSIONS)
def test_whole_checkpoint_goes_on(name: str, road: dict) -> None:
    """Pruned, saved, the same in a new process, and pruned again there."""
    pruned, (_, _, expected) = road[name]["pruned"], road[name]["outputs"]
    output, parity, before, after = road[name]["again"]
    assert isinstance(pruned.model, ModelPruned)
    assert pruned.report.achieved == pytest.approx(0.3, abs=0.02)
    assert max(pruned.parity.error, parity) < 1e-9
    assert torch.equal(output, expected)
    assert pruned.report.before.params > pruned.report.after.params == before > after


def test_activations_of_2021_survive(road: dict, tmp_path: Path) -> None:
    """SiLU in the Convs, LeakyReLU(0.1) in BottleneckCSP: in pruned.yaml and what it builds."""
    model = road["v5.0 stripped"]["pruned"].model
    (tmp_path / "pruned.yaml").write_text(write_yaml(model.yaml))
    built = build_model(tmp_path / "pruned.yaml")
    for found in (model, built, load(road["v5.0 stripped"]["file"]).model):
        convs = [m for m in found.modules() if isinstance(m, common.Conv)]
        blocks = [m for m in found.modules() if isinstance(m, common.BottleneckCSP)]
        assert {type(m.act) for m in convs} == {nn.SiLU}
        assert [m.act.negative_slope for m in blocks] == [0.1] * 5
    shapes = {key: t.shape for key, t in model.state_dict().items()}
    assert {key: t.shape for key, t in built.state_dict().items()} == shapes


@pytest.mark.parametrize("text", ["nn.Hardswish()", "nn.LeakyReLU(negative_slope=0.1)"])
def test_activation_of_2020_survives(text: str, tmp_path: Path) -> None:
    """Hardswish in all Convs (2.0 to 3.1), LeakyReLU (1.0)."""
    with default_activation(text):
        dense = aged(random_model(TINY))
    (tmp_path / "old.pt").write_bytes(
        renamed(renamed(pickled(stripped(dense)), *MODEL), "yolov5.models.", "models.")
    )
    pruned = prune(load(tmp_path / "old.pt").model, 0.3, imgsz=64)
    assert pruned.yaml["activation"] == text
    kind = type(dense.model[0].act)
    for found in (pruned.model, load(save(pruned, tmp_path / "pruned.pt")).model):
        assert {type(m.act) for m in found.modules() if isinstance(m, common.Conv)} == {kind}
        assert getattr(found.model[0].act, "negative_slope", 0.1) == 0.1
        assert same_output(found, pruned.model)


def test_published_weights(shared: Path, tmp_path: Path) -> None:
    """YOLOv5n of v6.0, as it can be downloaded: loaded, pruned, saved, loaded, pruned again."""
    file = shared / "weights" / "yolov5n.pt"
    if not file.is_file():
        pytest.skip(f"no {file}")
    found = load(file)
    assert (len(found.names), found.names[0]) == (80, "person")
    assert found.model.stride.tolist() == [8, 16, 32]
    assert found.model(torch.zeros(1, 3, 64, 64))[0].shape == (1, 252, 85)
    pruned = prune(found.model, 0.3)
    opened = load(save(pruned, tmp_path / "pruned.pt")).model
    assert (tmp_path / "pruned.pt").stat().st_size < file.stat().st_size  # half, as that is
    assert same_output(opened, pruned.model)
    again = prune(opened, 0.3)
    assert max(pruned.parity.error, again.parity.error) < 1e-9
    assert pruned.report.after.params == again.report.before.params > again.report.after.params
