"""Files that yolo-slim wrote in November 2026 load, resume and export: tests/data/.

They were written before its files moved: a checkpoint there names yolo_slim.models.modules. The
models are yolov5n at an eighth of its width and a smaller one. Each training was interrupted, one
for each kind of penalty; the slim run was interrupted after its cut. outputs.json has what each
model gave then for one image, as mean and spread of its raw maps, and the sum of its weights.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import torch
from sparse_runs import epochs_of

from yolo_slim import ModelPruned, load, prune
from yolo_slim.cli import run
from yolo_slim.shapes import make_shapes

ARCHIVE = Path(__file__).parent / "data" / "files_of_2026_11.tar.xz"
SMALL = ["--data", "shapes.yaml", "--imgsz", "64"]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the files were written, and the working directory."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    make_shapes(tmp_path / "shapes", train=16, val=8, size=64)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_model_gives_what_it_gave(old: Path) -> None:
    image = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    expected = json.loads((old / "outputs.json").read_text())
    assert len(expected) == 9
    for file, numbers in expected.items():
        model = load(file).model
        maps = torch.cat([each.flatten() for each in model(image)[1]]).detach()
        size = sum(value.double().abs().sum().item() for value in model.state_dict().values())
        now = [maps.mean().item(), maps.std().item(), size]
        assert now == pytest.approx([float(number) for number in numbers], rel=1e-4), file


def test_pruned_models_are_pruned_models(old: Path) -> None:
    for file in ("prune/pruned.pt", "finetune/weights/best.pt", "slim/cut1.pt"):
        model = load(old / "runs" / file).model
        assert type(model) is ModelPruned
        again = prune(model, 0.2, imgsz=64)
        assert again.report.after.params < again.report.before.params


@pytest.mark.parametrize("name", ["sparse", "sparse-l1", "sparse-prox", "sparse-pace"])
def test_sparse_training_goes_on(old: Path, name: str) -> None:
    folder = old / "runs" / name
    epochs = 4 if name == "sparse" else 2
    assert load(folder / "weights" / "last.pt").epoch == epochs // 2 - 1
    assert run("sparse", ["--resume", str(folder / "weights" / "last.pt")]) == 0
    assert epochs_of(folder / "sparsity.csv") == list(range(epochs))
    assert load(folder / "weights" / "last.pt").epoch == -1


def test_slim_goes_on(old: Path) -> None:
    assert run("slim", ["--resume", "runs/slim"]) == 0
    best = load(old / "runs" / "slim" / "best.pt").model
    assert type(best) is ModelPruned
    report = json.loads((old / "runs" / "slim" / "report.json").read_text())
    assert report["macs"][1] < 0.65 * report["macs"][0]


def test_finetuning_and_export(old: Path) -> None:
    weights = ["--weights", "runs/prune/pruned.pt"]
    train = ["--epochs", "1", "--batch-size", "8", "--workers", "0", "--noplots"]
    assert run("finetune", [*weights, *SMALL, *train, "--hints", "none"]) == 0
    for file in ("runs/prune/pruned.pt", "runs/finetune/weights/best.pt"):
        name = ["--name", Path(file).stem]
        assert run("export", ["--weights", file, *SMALL, "--repeats", "0", *name]) == 0
        assert (old / "runs" / "export" / name[1] / f"{name[1]}.onnx").is_file()
