"""--depth from the command line: cut, look, cut again, train, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from conftest import build_tiny
from torch import nn

from yolo_slim import load, save
from yolo_slim.cli import run
from yolo_slim.deploy.stock import names

BLOCKS = ("model.2.m.0", "model.4.m.0", "model.4.m.1")


def quiet_model() -> nn.Module:
    """Tiny, with two Bottlenecks that do next to nothing: their gammas are small."""
    model: Any = build_tiny()
    with torch.no_grad():
        for block in (model.model[4].m[1], model.model[2].m[0]):
            for bn in (block.cv1.bn, block.cv2.bn):
                bn.weight.mul_(1e-3)
    return model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dense(here: Path) -> Path:
    return save(quiet_model(), here / "dense.pt")


OPTIONS = ["--criterion", "bn", "--depth", "--macs", "0.5", "--round-to", "8", "--img", "64"]


def test_the_whole_road(
    here: Path, dense: Path, shapes_yaml: Path, capfd: pytest.CaptureFixture
) -> None:
    data = ["--data", str(shapes_yaml)]
    assert run("prune", ["--weights", str(dense), *OPTIONS, *data, "--workers", "0"]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    gone = "2 of 3 residual Bottlenecks removed: model.2.m.0, model.4.m.1"
    assert gone in shown
    folder = here / "runs/prune/exp"
    report = json.loads((folder / "report.json").read_text())
    assert report["removed"] == ["model.2.m.0", "model.4.m.1"]
    assert report["target"]["achieved"] == pytest.approx(0.5, rel=0.02)
    assert report["residual"] == "inner"
    masks = torch.load(folder / "masks.pt")
    assert not masks["model.4.m.1.cv1.bn"].any() and not masks["model.4.m.1.cv2.bn"].any()
    assert "null" in (folder / "pruned.yaml").read_text().split("backbone:")[1]

    assert run("inspect", [str(folder / "pruned.pt")]) == 0
    assert gone in " ".join(capfd.readouterr().out.split())
    assert run("inspect", [str(folder / "pruned.pt"), "--json"]) == 0
    seen = json.loads(capfd.readouterr().out)
    assert (seen["removed"], seen["bottlenecks"]) == (report["removed"], 3)

    # with hints of the model before the cut, by default
    training = ["--epochs", "1", "--img", "64", "--batch-size", "8", "--workers", "0"]
    weights = ["--weights", str(folder / "pruned.pt")]
    assert run("finetune", [*weights, *training, "--device", "cpu"]) == 0
    best = here / "runs/finetune/exp/weights/best.pt"
    trained = load(best).model
    assert not any(key.startswith("model.4.m.1.") for key in trained.state_dict())
    assert not trained.maskbndict["model.4.m.1.cv1.bn"].any()

    argv = ["--weights", str(best), "--img", "64", "--include", "onnx", "stock", "--repeats", "2"]
    assert run("export", argv) == 0
    file = next(here.glob("runs/**/*.onnx"))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    image = torch.rand(1, 3, 64, 64)
    out = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])
    torch.testing.assert_close(out, trained.float().eval()(image)[0], rtol=1e-3, atol=0.05)
    stock = next(here.glob("runs/**/*stock*.pt"))
    assert not [name for name in names(stock) if "yolo_slim" in name]

    # once more: what went stays away, and the rest can be cut
    again = ["--weights", str(best), *OPTIONS[:-6], "--macs", "0.8", "--img", "64"]
    assert run("prune", [*again, "--criterion", "l2", "--round-to", "4"]) == 0
    model = load(here / "runs/prune/exp2/pruned.pt").model
    assert model.yaml["backbone"][4][3][3][1] is None
    assert model.ancestry[0]["removed"] == ["model.2.m.0", "model.4.m.1"]


def test_sparse_training_of_a_model_without_blocks(
    here: Path, dense: Path, shapes_yaml: Path
) -> None:
    assert run("prune", ["--weights", str(dense), *OPTIONS, "--recover", "none"]) == 0
    weights = ["--weights", "runs/prune/exp/pruned.pt", "--data", str(shapes_yaml)]
    argv = ["--st", "--sr", "0.01", "--residual", "inner", "--epochs", "1", "--img", "64"]
    argv += ["--batch-size", "8", "--workers", "0", "--device", "cpu"]
    assert run("sparse", [*weights, *argv]) == 0
    model = load(next(here.glob("runs/**/last.pt"))).model
    assert type(model.get_submodule("model.2.m.0")) is nn.Identity


def test_dry_run_names_the_blocks(dense: Path, here: Path, capfd: pytest.CaptureFixture) -> None:
    assert run("prune", ["--weights", str(dense), *OPTIONS, "--dry-run"]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "2 of 3 residual Bottlenecks removed: model.2.m.0, model.4.m.1" in shown
    assert not (here / "runs").exists()
    kept = ["--keep", "model.2.m.0", "--keep", "4.m.1.cv2", "--dry-run"]
    assert run("prune", ["--weights", str(dense), *OPTIONS, *kept]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "model.2.m.0" not in shown.partition("residual Bottlenecks removed")[2][:20]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--residual", "skip"], "--residual: skip with --depth, expected inner or group"),
        (["--budget", "scan.csv"], "--depth: given besides a sensitivity scan"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    more: list[str], text: str, dense: Path, here: Path, capfd: pytest.CaptureFixture
) -> None:
    (here / "scan.csv").write_text("layer,share,map\n")
    assert run("prune", ["--weights", str(dense), "--depth", *more]) == 2
    assert text in " ".join(capfd.readouterr().err.split())
    if "--residual" in more:
        argv = ["--weights", str(dense), "--data", "data.yaml", "--depth", *more]
        assert run("slim", argv) == 2
        assert text in " ".join(capfd.readouterr().err.split())


def test_slim_with_depth(here: Path, dense: Path, shapes_yaml: Path) -> None:
    argv = ["--weights", str(dense), "--data", str(shapes_yaml), "--img", "64", "--epochs", "1"]
    argv += ["--batch-size", "8", "--workers", "0", "--device", "cpu", "--round-to", "8"]
    argv += ["--criterion", "taylor", "--depth", "--macs", "0.4", "--calib-images", "8"]
    assert run("slim", argv) == 0
    best = load(here / "runs/slim/exp/best.pt").model
    report = json.loads((here / "runs/slim/exp/report.json").read_text())
    removed = report["rounds"][0]["cut"]["removed"]
    assert removed
    assert all(type(best.get_submodule(name)) is nn.Identity for name in removed)
