"""Checkpoints of earlier YOLOv5s, of clones and of yolo_slim itself load as the same model."""

from __future__ import annotations

from argparse import Namespace
from copy import deepcopy
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from pickles import pickled, renamed
from torch import nn

from yolo_slim import load, prune, save
from yolo_slim.host.checkpoint import read


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


def test_published_weights(shared):
    file = shared / "weights" / "yolov5n.pt"
    if not file.is_file():
        pytest.skip(f"no {file}")
    found = load(file)
    assert (len(found.names), found.names[0]) == (80, "person")
    assert found.model.stride.tolist() == [8, 16, 32]
    assert found.model(torch.zeros(1, 3, 64, 64))[0].shape == (1, 252, 85)
