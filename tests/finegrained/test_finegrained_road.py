"""Weight masks on the road: the command, YOLOv5's own loop, channel pruning, exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml
from torch import nn
from torch.nn.utils import prune as torch_prune

from yolo_slim import ModelPruned, load, save, sparsify_
from yolo_slim.cli import run
from yolo_slim.commands import export, finegrained, finetune, sparse
from yolo_slim.errors import CheckFailed
from yolo_slim.host.checkpoint import read, write
from yolo_slim.weight_masks import check_zeros, hold_masks, masks_of

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ["--imgsz", "64", "--batch-size", "8", "--workers", "0", "--device", "cpu", "--noplots"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train_step(conv: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    optimizer.zero_grad()
    (conv(torch.randn(2, 3, 8, 8)) - torch.randn(2, 4, 6, 6)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_held_weights_are_trained_as_torchs_own(kind: str) -> None:
    """torch.nn.utils.prune cuts the gradient, we cut the weight: the same path to the last bit."""
    conv = nn.Sequential(nn.Conv2d(3, 4, 3))
    reference = deepcopy(conv)[0]
    torch_prune.l1_unstructured(reference, "weight", 0.5)
    sparsify_(conv, 0.5)
    make = {
        "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
        "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    }[kind]
    ours, theirs = make(conv.parameters()), make(reference.parameters())
    handle = hold_masks(conv, ours)
    mask = masks_of(conv)["0.weight"]
    for seed in range(5):
        train_step(conv, ours, seed)
        train_step(reference, theirs, seed)
        assert torch.equal(conv[0].weight[mask], reference.weight_orig[mask])
        assert not conv[0].weight[~mask].any()
    handle.remove()
    train_step(conv, ours, 9)
    assert conv[0].weight[~mask].all()  # momentum would have brought them back


def test_scaler_that_skips_a_step_changes_nothing() -> None:
    conv = nn.Sequential(nn.Conv2d(3, 4, 3))
    sparsify_(conv, 0.5)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1, momentum=0.9)
    hold_masks(conv, optimizer)
    scaler, before = torch.amp.GradScaler("cpu"), conv[0].weight.detach().clone()
    for factor, moved in ((float("inf"), False), (1.0, True)):
        optimizer.zero_grad()
        scaler.scale(conv(torch.ones(1, 3, 8, 8)).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(conv[0].weight, before) != moved
        assert not conv[0].weight[~masks_of(conv)["0.weight"]].any()


@pytest.mark.parametrize("kind", ["dense", "pruned"])
def test_the_road(
    kind: str,
    here: Path,
    request: pytest.FixtureRequest,
    shapes_yaml: Path,
    interrupt: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """finegrained, finetune (interrupted, resumed), export."""
    start = request.getfixturevalue({"dense": "tiny_checkpoint", "pruned": "pruned_tiny"}[kind])
    argv = [str(start), "--sparsity", "0.7", "--ratio", "model.12=0", "--imgsz", "64"]
    argv += ["--method", "l1"]  # global may empty a layer as small as these
    argv += ["--data", str(shapes_yaml), "--workers", "0", "--repeats", "2", "--threads", "1"]
    folder = finegrained.main(argv)
    assert folder is not None
    report = json.loads((folder / "report.json").read_text())
    said = capsys.readouterr().out
    assert set(report["accuracy"]) == {"before", "after"}
    assert report["latency"]["ratio"] > 0 and f"{report['sparsity']:.1%} of the weights" in said
    assert "Zeros alone do not make a dense runtime faster" in said
    first = load(folder / "sparse.pt").model
    assert isinstance(first, ModelPruned) == (kind == "pruned")
    masks = masks_of(first)
    zeros = sum(row["zeros"] for row in report["layers"])
    assert sum(int((~mask).sum()) for mask in masks.values()) == zeros > 0

    train = ["--weights", str(folder / "sparse.pt"), "--data", str(shapes_yaml), "--epochs", "2"]
    with monkeypatch.context():
        interrupt(1)
        with pytest.raises(KeyboardInterrupt):
            finetune.main([*train, *SMALL])
        monkeypatch.undo()
    monkeypatch.chdir(here)
    last = here / "runs" / "finetune" / "exp" / "weights" / "last.pt"
    raw = read(last)
    for name in ("model", "ema"):  # YOLOv5's own half-way checkpoint
        assert not hasattr(raw[name], "weight_masks")  # one bit a weight: packed
        assert alive(raw[name], masks) == 0
    tuned = finetune.main(["--resume"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"{zeros:,} weights that yolo-slim finegrained set to zero: still zero" in told
    for name in ("last.pt", "best.pt"):
        model = load(tuned / "weights" / name).model
        assert type(model) is type(first)
        check_zeros(model, masks, name)
        named, old = dict(model.named_parameters()), dict(first.named_parameters())
        for key, mask in masks.items():
            assert (named[key][mask] != old[key][mask]).float().mean() > 0.9  # the others moved

    argv = ["--weights", str(tuned / "weights" / "best.pt"), "--data", str(shapes_yaml)]
    done = export.main([*argv, "--imgsz", "64", "--repeats", "0", "--include", "onnx", "stock"])
    agreement = json.loads((done / "report.json").read_text())["agreement"]
    assert agreement["onnx"]["scores"] <= 1e-4 and agreement["stock"]["scores"] == 0
    graph = onnx.load(done / "best.onnx").graph
    tensors = [onnx.numpy_helper.to_array(t) for t in graph.initializer if len(t.dims) == 4]
    assert sum(int((t == 0).sum()) for t in tensors) >= zeros
    assert masks_of(load(done / "best-stock.pt").model) == {}


def alive(model: nn.Module, masks: dict[str, torch.Tensor]) -> int:
    named = dict(model.named_parameters())
    return sum(int(named[key][~mask].count_nonzero()) for key, mask in masks.items())


def test_sparse_training_holds_them_too(here: Path, tiny_model: nn.Module, shapes_yaml: Path):
    sparsify_(tiny_model, 0.5)
    weights = save(tiny_model, here / "sparse.pt")
    argv = ["--st", "--sr", "0.05", "--weights", str(weights), "--data", str(shapes_yaml)]
    folder = sparse.main([*argv, "--epochs", "1", *SMALL])
    trained = load(folder / "weights" / "last.pt").model
    check_zeros(trained, masks_of(tiny_model), "last.pt")
    assert not torch.equal(trained.model[0].conv.weight, tiny_model.model[0].conv.weight)


def test_masks_that_do_not_hold_are_noticed(
    here: Path,
    tiny_model: nn.Module,
    shapes_yaml: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    sparsify_(tiny_model, 0.5)
    weights = save(tiny_model, here / "sparse.pt")
    monkeypatch.setattr(finetune, "hold_masks", lambda *_: None)
    argv = ["--weights", str(weights), "--data", str(shapes_yaml), "--epochs", "1", *SMALL]
    assert run("finetune", argv) == 1
    assert "of model.0.conv.weight not zero" in capsys.readouterr().err
    other = deepcopy(tiny_model)
    sparsify_(other, 0.6)
    with pytest.raises(CheckFailed, match="is not that of the training's start"):
        check_zeros(other, masks_of(tiny_model), "x")


def test_masks_go_to_layers_that_are_the_same(here: Path, tiny_model: nn.Module, shapes_yaml: Path):
    """A data set with other classes: the host drops the head's convs, and their masks go too."""
    sparsify_(tiny_model, 0.5)
    weights = save(tiny_model, here / "sparse.pt")
    data = yaml.safe_load(shapes_yaml.read_text())
    data["names"] = {i: str(i) for i in range(6)}
    (here / "six.yaml").write_text(yaml.safe_dump(data))
    argv = ["--weights", str(weights), "--data", "six.yaml", "--epochs", "1", *SMALL]
    trained = load(sparse.main(argv) / "weights" / "last.pt").model
    expected = {k: m for k, m in masks_of(tiny_model).items() if not k.startswith("model.12.")}
    check_zeros(trained, expected, "last.pt")
    assert trained.model[-1].m[0].weight.all()


def test_iterative_by_command(here: Path, tiny_checkpoint: Path) -> None:
    """Ratios from a yaml; a second round goes on from the first."""
    (here / "ratios.yaml").write_text("model.*: 0.5\nmodel.4: 0.25\nmodel.12: 0\n")
    quiet = ["--repeats", "0"]
    first = finegrained.main([str(tiny_checkpoint), "--ratios", "ratios.yaml", *quiet])
    argv = [str(first / "sparse.pt"), "--ratios", "ratios.yaml", "--ratio", "model.4=0.75"]
    second = finegrained.main([*argv, "--method", "random", *quiet])
    one, two = (masks_of(load(folder / "sparse.pt").model) for folder in (first, second))
    assert one.keys() == two.keys() and not any("model.12" in key for key in one)
    for key, mask in one.items():
        share = (0.25, 0.75) if key.startswith("model.4.") else (0.5, 0.5)
        cut = [int((~m).sum()) for m in (mask, two[key])]
        assert cut == [round(s * mask.numel()) for s in share]
        assert not (two[key] & ~mask).any()
        if share[0] == share[1]:
            assert torch.equal(two[key], mask)


BAD = [
    (["--sparsity", "1"], "--sparsity: 1.0, expected a share in [0, 1)"),
    (["--sparsity", "-0.1"], "--sparsity: -0.1"),
    (["--sparsity", "nan"], "--sparsity: nan"),
    (["--sparsity", "half"], "'half', expected a number, such as 0.5"),
    (["--method", "l3"], "invalid choice: 'l3'"),
    (["--ratio", "model.2"], "--ratio: 'model.2', expected GLOB=SHARE"),
    (["--ratio", "model.2=1.5"], "--ratio: 'model.2=1.5'"),
    (["--ratio", "modle.2=0.5"], "'modle.2', which matches nothing"),
    (["--ratios", "none.yaml"], "--ratios none.yaml: no such file"),
    (["--repeats", "1"], "--repeats: 1"),
    (["--repeats", "-1"], "--repeats: -1"),
    (["--threads", "0"], "--threads: 0"),
    (["--imgsz", "100"], "--imgsz: 100, expected a multiple"),
    (["--device", "cuda:77"], "--device: cuda:77"),
    (["--data", "none.yaml"], "none.yaml: no such file"),
    (["--project", "/proc/x"], "cannot be written"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input(
    argv: list[str], message: str, refused: Callable[..., str], tiny_checkpoint: Path
) -> None:
    assert message in refused("finegrained", tiny_checkpoint, *argv)


RATIOS = {
    "- 0.5\n": "a list, expected globs with shares",
    "model.2: [0.5]\n": "model.2: [0.5], expected a share",
    "model.2: 1.0\n": "model.2: 1.0, expected a share",
    "model.2: yes\n": "model.2: True, expected a share",
    "nothing.*: 0.5\n": "'nothing.*', which matches nothing",
    "model.2: [\n": "not yaml",
}


@pytest.mark.parametrize("text", RATIOS)
def test_bad_ratios(
    text: str, tmp_path: Path, refused: Callable[..., str], tiny_checkpoint: Path
) -> None:
    file = tmp_path / "ratios.yaml"
    file.write_text(text)
    assert RATIOS[text] in refused("finegrained", tiny_checkpoint, "--ratios", file)


def test_bad_weights(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "none.pt: no such file" in refused("finegrained", "none.pt")
    file = write(tmp_path / "x.pt", {"model": {}})
    assert "neither a model nor weights in it" in refused("finegrained", file)
