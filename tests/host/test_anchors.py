"""Anchors that AutoAnchor found survive each step, to the boxes that the ONNX file gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from conftest import TINY
from torch import nn

from yolo_slim import ModelPruned, load
from yolo_slim.commands import finetune, sparse
from yolo_slim.commands import prune as prune_command
from yolo_slim.deploy.export import to_onnx
from yolo_slim.deploy.stock import to_stock
from yolo_slim.host import data
from yolo_slim.host.image import read_images
from yolo_slim.host.options import HYP
from yolo_slim.models.pruned_yaml import read_yaml

SMALL = ["--imgsz", "64", "--batch-size", "8", "--workers", "0", "--device", "cpu", "--noplots"]
POOR = [[8 * side for side in row] for row in yaml.safe_load(TINY)["anchors"]]  # 80 px and more


@pytest.fixture(scope="module", params=["anchors of the yaml are poor", "hyp says how many"])
def road(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shapes_yaml: Path
) -> dict[str, Path]:
    """A sparse training with AutoAnchor, a cut and a finetuning: the checkpoint of each."""
    folder = tmp_path_factory.mktemp("anchors")
    model, hyp = yaml.safe_load(TINY), yaml.safe_load(HYP.read_text())
    if request.param.startswith("hyp"):
        hyp["anchors"] = 3
    else:
        model["anchors"] = POOR
    for name, content in (("tiny", model), ("hyp", hyp)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    train = ["--data", str(shapes_yaml), "--epochs", "1", *SMALL, "--project", str(folder)]
    argv = ["--st", "--cfg", str(folder / "tiny.yaml"), "--hyp", str(folder / "hyp.yaml"), *train]
    sparse.main([*argv, "--name", "sparse"])
    dense = folder / "sparse" / "weights" / "last.pt"
    argv = ["--weights", str(dense), "--percent", "0.3", "--project", str(folder)]
    cut = prune_command.main([*argv, "--name", "cut"])
    assert cut is not None
    argv = ["--weights", str(cut / "pruned.pt"), "--noautoanchor", *train, "--name", "tuned"]
    tuned = finetune.main(argv)
    files = {"sparse": dense, "pruned": cut / "pruned.pt", "yaml": cut / "pruned.yaml"}
    return {**files, "tuned": tuned / "weights" / "best.pt", "tuned yaml": tuned / "pruned.yaml"}


def pixels(model: nn.Module) -> torch.Tensor:
    """Anchors (scales, 3, 2), px."""
    detect = model.model[-1]
    return detect.anchors * detect.stride.view(-1, 1, 1)


def anchors(file: Path) -> torch.Tensor:
    return load(file).model.model[-1].anchors


def test_autoanchor_found_others(road: dict[str, Path]) -> None:
    """They fit shapes of 8 to 26 px, and the yaml in the checkpoint does not know of them."""
    source = load(road["sparse"])
    found, of_yaml = pixels(source.model), source.yaml["anchors"]
    assert found.min() > 4 and found.max() < 64
    assert of_yaml in (POOR, 3)


def test_each_checkpoint_has_them(road: dict[str, Path]) -> None:
    expected = anchors(road["sparse"])
    assert torch.equal(anchors(road["pruned"]), expected)
    assert torch.equal(anchors(road["tuned"]), expected)
    assert load(road["tuned"]).epoch == -1  # a training of its own


@pytest.mark.parametrize("name", ["yaml", "tuned yaml"])
def test_each_yaml_has_them(name: str, road: dict[str, Path]) -> None:
    """In pixels; a model that is built of it and saved has the same to the bit."""
    expected = load(road["pruned"]).model
    written = torch.tensor(read_yaml(road[name])["anchors"]).view(3, 3, 2)
    torch.testing.assert_close(written, pixels(expected), rtol=0, atol=1e-4)
    built = ModelPruned(road[name]).half().float()
    assert torch.equal(built.model[-1].anchors, expected.model[-1].anchors)


def test_stock_checkpoint_has_them(road: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "stock.pt").write_bytes(to_stock(load(road["tuned"]).model))
    assert torch.equal(anchors(tmp_path / "stock.pt"), anchors(road["sparse"]))


def test_onnx_decodes_with_them(road: dict[str, Path], shapes_yaml: Path) -> None:
    """Widths and heights are (2 * sigmoid(t))^2 anchors of the training, not of the yaml."""
    model = load(road["tuned"]).model
    session = onnxruntime.InferenceSession(to_onnx(model, imgsz=64))
    images = read_images(data.images(data.read_data(shapes_yaml))[:1], 64)
    found = session.run(None, {"images": images})[0]
    with torch.no_grad():
        expected, maps = model(torch.from_numpy(images))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-3)
    trained = decoded(maps, pixels(load(road["sparse"]).model))
    np.testing.assert_allclose(found[..., 2:4], trained, rtol=1e-4, atol=1e-3)
    poor = decoded(maps, torch.tensor(POOR).view(3, 3, 2))
    assert (poor / found[..., 2:4]).min() > 2


def decoded(maps: list[torch.Tensor], anchors: torch.Tensor) -> np.ndarray:
    """Widths and heights (1, boxes, 2), px, of what Detect's convs give (1, 3, h, w, 5 + nc)."""
    sizes: list[Any] = []
    for scale, values in zip(anchors, maps, strict=True):
        size = (values[..., 2:4].sigmoid() * 2) ** 2 * scale.view(1, 3, 1, 1, 2)
        sizes.append(size.reshape(1, -1, 2))
    return torch.cat(sizes, 1).numpy()
