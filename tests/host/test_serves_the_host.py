"""A pruned model is a DetectionModel in all that YOLOv5 asks of it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolo_slim import ModelPruned, load, prune, save
from yolo_slim.cli import run
from yolo_slim.host.classes import common, yolo
from yolo_slim.measure.cost import cost
from yolo_slim.models.model import build_model, default_activation
from yolo_slim.models.pruned_yaml import read_yaml, write_yaml
from yolo_slim.pruning.masks import apply_masks_


@pytest.fixture
def slim(tiny_model: nn.Module) -> nn.Module:
    return prune(tiny_model, 0.5, imgsz=64).model


def test_fused_and_augmented_as_the_masked_model(tiny_model: nn.Module) -> None:
    """fuse() and augmented inference agree with the dense model whose channels are silenced."""
    pruned = prune(tiny_model, 0.5, recover=(), imgsz=64)
    masked = apply_masks_(deepcopy(tiny_model), pruned.masks).double()
    slim = deepcopy(pruned.model).double()
    image = torch.rand(2, 3, 96, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = masked(image)[0]
        torch.testing.assert_close(slim(image)[0], expected, rtol=1e-9, atol=1e-9)
        augmented = masked(image, augment=True)[0]
        assert augmented.shape[1] != expected.shape[1]
        torch.testing.assert_close(slim(image, augment=True)[0], augmented, rtol=1e-9, atol=1e-9)
        fused = deepcopy(pruned.model).fuse()  # the host fuses in float32 alone
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
        torch.testing.assert_close(fused(image.float())[0], expected.float(), rtol=1e-4, atol=1e-3)


def test_what_is_carried_over(tiny_model: nn.Module, tmp_path: Path) -> None:
    """Trained anchors, strides, names, nc, hyp, Detect's own settings."""
    tiny_model.model[-1].anchors *= 1.25
    tiny_model.hyp = {"box": 0.05, "obj": 0.7}
    file = save(prune(tiny_model, 0.5, imgsz=64), tmp_path / "pruned.pt")
    slim = load(file).model
    detect, dense = slim.model[-1], tiny_model.model[-1]
    assert isinstance(slim, yolo.DetectionModel)
    assert torch.equal(detect.anchors, dense.anchors.half().float())
    assert slim.stride.tolist() == [8, 16, 32] == detect.stride.tolist()
    assert (slim.names, slim.nc, slim.hyp) == (tiny_model.names, 4, {"box": 0.05, "obj": 0.7})
    assert (detect.nc, detect.na, detect.no) == (dense.nc, dense.na, dense.no)
    assert slim.yaml["anchors"][0][0] == pytest.approx(12.5)
    assert ModelPruned(slim.yaml).model[-1].anchors.flatten().tolist() == pytest.approx(
        dense.anchors.flatten().tolist(), abs=1e-4
    )


def test_yaml_is_read_as_written(slim: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "pruned.yaml"
    file.write_text(write_yaml(slim.yaml))
    assert read_yaml(file) == slim.yaml
    rows = slim.yaml["backbone"] + slim.yaml["head"]
    assert {row[2] for row in rows} == {
        "Conv",
        "C3Pruned",
        "SPPFPruned",
        "nn.Upsample",
        "Concat",
        "Detect",
    }
    assert all(row[1] == 1 for row in rows)


def test_activation_of_the_model_goes_along(tiny_yaml: dict) -> None:
    """parse_model sets the activation for the whole process; ours is put back."""
    before = common.Conv.default_act
    with default_activation("nn.LeakyReLU(0.1)"):
        dense = yolo.DetectionModel(deepcopy(tiny_yaml))
    slim = prune(dense, 0.3, imgsz=64).model
    assert slim.yaml["activation"] == "nn.LeakyReLU(negative_slope=0.1)"
    assert {type(m.act) for m in slim.modules() if isinstance(m, common.Conv)} == {nn.LeakyReLU}
    assert slim.model[0].act.negative_slope == 0.1
    assert common.Conv.default_act is before


def test_yolov5s_own_val_and_detect(
    slim: nn.Module, shapes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(slim, "pruned.pt")
    argv = ["--weights", "pruned.pt", "--data", str(shapes_yaml), "--imgsz", "64", "--workers", "0"]
    assert run("val", [*argv, "--augment"]) == 0
    table = (tmp_path / "runs" / "val" / "exp" / "results.html").read_text().split()
    assert table[table.index("<td>all</td>") + 1] == "<td>8</td>"  # images
    source = sorted((shapes_yaml.parent / "shapes" / "images" / "val").glob("*.png"))[0]
    argv = [
        "--weights",
        "pruned.pt",
        "--source",
        str(source),
        "--imgsz",
        "64",
        "--conf-thres",
        "0.01",
    ]
    assert run("detect", [*argv, "--save-txt"]) == 0
    assert (tmp_path / "runs" / "detect" / "exp" / source.name).is_file()
    assert run("val", ["--weights", "none.pt", "--data", str(shapes_yaml)]) == 2
    assert run("detect", ["--weights", "pruned.pt", "--source", "none.jpg"]) == 2


def test_pruned_again_and_again(tiny_model: nn.Module) -> None:
    model, counts = tiny_model, []
    for _ in range(3):
        pruned = prune(model, 0.3, imgsz=64)
        assert pruned.parity.holds
        model = pruned.model
        counts.append([cut["params"] for cut in model.ancestry])
    assert len(counts[2]) == 3
    assert counts[2][0][1] == counts[2][1][0]  # each cut begins where the one before ended
    assert counts[2][0][0] > counts[2][1][0] > counts[2][2][0] > counts[2][2][1]


def test_cost_against_closed_form_and_thop(tiny_model: nn.Module) -> None:
    """MACs of a conv: k * k * c_in * c_out * h * w; independent counter: thop, of the host."""
    import thop

    found = cost(tiny_model, imgsz=128)
    assert found.params == sum(p.numel() for p in tiny_model.parameters())
    total = 0
    shapes: dict[nn.Module, tuple[int, int]] = {}
    hooks = [
        m.register_forward_hook(lambda m, x, y: shapes.update({m: y.shape[-2:]}))
        for m in tiny_model.modules()
        if isinstance(m, nn.Conv2d)
    ]
    tiny_model(torch.zeros(1, 3, 128, 128))
    for hook in hooks:
        hook.remove()
    for conv, (h, w) in shapes.items():
        k = conv.kernel_size[0] * conv.kernel_size[1]
        total += k * conv.in_channels * conv.out_channels * h * w
    assert found.macs == total
    macs, _ = thop.profile(
        deepcopy(tiny_model),
        inputs=(torch.zeros(1, 3, 128, 128),),
        verbose=False,
        custom_ops={t: lambda m, x, y: None for t in (nn.BatchNorm2d, nn.SiLU, nn.Upsample)},
    )
    assert found.macs == pytest.approx(macs, rel=1e-6)


def test_an_activation_is_that_of_one_model(tiny_yaml: dict[str, Any]) -> None:
    """The host makes that of a yaml the default of all models that it builds afterwards."""
    first = build_model({**tiny_yaml, "activation": "nn.LeakyReLU(0.1)"})
    assert type(first.model[0].act) is nn.LeakyReLU
    assert type(build_model(tiny_yaml).model[0].act) is nn.SiLU
