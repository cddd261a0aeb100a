"""A head for other classes: its boxes stay, its classes are new; and the road of such a model."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from yolo_slim import load, prune, save
from yolo_slim.cli import run
from yolo_slim.commands import sparse
from yolo_slim.host.classes import yolo
from yolo_slim.host.head import inherit_boxes_, same_classes, with_classes
from yolo_slim.models.model import build_model

NAMES = {0: "nut", 1: "bolt"}
SMALL = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots", "--epochs", "1"]


def image() -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def test_boxes_stay_and_classes_are_new(tiny_model: nn.Module) -> None:
    before, state = deepcopy(tiny_model.state_dict()), torch.get_rng_state()
    found = with_classes(tiny_model, NAMES)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in tiny_model.state_dict().items())
    ours, theirs = found(image())[1], tiny_model(image())[1]
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape[-1] == 7 and b.shape[-1] == 9
        assert torch.equal(a[..., :5], b[..., :5])
    assert (found.nc, found.yaml["nc"], found.model[-1].nc, found.names) == (2, 2, 2, NAMES)
    assert tiny_model.yaml["nc"] == 4
    again = with_classes(tiny_model, NAMES).state_dict()
    assert all(torch.equal(v, again[k]) for k, v in found.state_dict().items())


def test_new_classes_are_unlikely_at_first(tiny_model: nn.Module) -> None:
    """As YOLOv5 begins: a share of 0.6 among all classes."""
    found = with_classes(tiny_model, dict(enumerate("abcdefghij")))
    bias = found.model[-1].m[0].bias.detach().view(3, -1)[:, 5:]
    prior = torch.log(torch.tensor(0.6 / 9.00001))
    assert torch.equal(bias.half().float(), bias)  # as small a file as before
    assert float((bias - prior).abs().max()) < 0.01 + 1 / found.model[-1].m[0].in_channels ** 0.5


def test_as_many_classes_are_the_same_head(tiny_model: nn.Module) -> None:
    names = dict(enumerate("abcd"))
    found = with_classes(tiny_model, names)
    assert same_classes(tiny_model, names) and not same_classes(tiny_model, NAMES)
    assert found.names == names and tiny_model.names != names
    assert all(torch.equal(v, tiny_model.state_dict()[k]) for k, v in found.state_dict().items())


def test_masks_stay(tiny_yaml: dict) -> None:
    """The rows of the masks come after those of the classes."""
    tiny_yaml["head"][-1] = [[4, 11, 7], 1, "Segment", ["nc", "anchors", 32, 64]]
    model = yolo.SegmentationModel(tiny_yaml).eval()
    found = with_classes(model, NAMES)
    rows = [
        m.model[-1].m[0].weight.view(3, -1, m.model[-1].m[0].in_channels) for m in (found, model)
    ]
    assert rows[0].shape[1] == 5 + 2 + 32
    assert torch.equal(rows[0][:, :5], rows[1][:, :5]) and torch.equal(
        rows[0][:, 7:], rows[1][:, 9:]
    )


def test_a_pruned_model_stays_one(tiny_model: nn.Module, tmp_path: Path) -> None:
    slim = prune(tiny_model, 0.4, imgsz=64).model
    file = save(with_classes(slim, NAMES), tmp_path / "slim.pt")
    found = load(file).model
    assert type(found) is type(slim) and found.names == NAMES
    ours, theirs = found(image())[1], with_classes(slim, NAMES)(image())[1]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("options", "kept"), [(["--st"], True), (["--st", "--sr", "0.0002"], False), ([], False)]
)
def test_a_sparse_training_keeps_boxes_too(
    options: list[str], kept: bool, other: Path, shapes_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `prune.py` does; YOLOv5's own training, and the published method, begin as ever."""
    from yolo_slim.host import hooks

    heads: list[nn.Module] = []

    class Stop(Exception):
        pass

    def look(model: nn.Module, *args: object, **kwargs: object) -> None:
        heads.append(deepcopy(model.model[-1]))
        raise Stop

    monkeypatch.setattr(hooks.host, "smart_optimizer", look)
    argv = ["--weights", other, "--data", shapes_yaml, *SMALL, *options]
    with pytest.raises(Stop):
        sparse.main([str(value) for value in argv])
    rows = [
        h.m[0].weight.view(3, -1, h.m[0].in_channels)
        for h in (heads[0], load(other).model.model[-1])
    ]
    assert rows[0].shape[1] == 9
    assert torch.equal(rows[0][:, :5], rows[1][:, :5]) == kept


def test_boxes_of_another_head_are_left(tiny_model: nn.Module, tiny_yaml: dict) -> None:
    before = deepcopy(tiny_model.state_dict())
    wide = build_model({**tiny_yaml, "nc": 7, "width_multiple": 0.5})
    assert not inherit_boxes_(tiny_model, wide)
    assert not inherit_boxes_(tiny_model, build_model(tiny_yaml))
    assert all(torch.equal(v, before[k]) for k, v in tiny_model.state_dict().items())


# The road


@pytest.fixture
def other(tiny_yaml: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of 7 classes; the shapes have 4."""
    monkeypatch.chdir(tmp_path)
    return save(build_model({**tiny_yaml, "nc": 7}).eval(), tmp_path / "other.pt")


def test_cut_for_other_data_and_trained_on_it(
    other: Path, shapes_yaml: Path, tmp_path: Path, capsys
) -> None:
    """prune.py, finetune_pruned.py and export.py, with nothing said twice."""
    options = ["--weights", str(other), "--data", str(shapes_yaml), "--img", "64", "--macs", "0.6"]
    assert run("prune", [*options, "--round-to", "1", "--calib-images", "8"]) == 0
    out = capsys.readouterr().out
    assert "A new head for circle, square, triangle, cross" in out
    report = json.loads((tmp_path / "runs/prune/exp/report.json").read_text())
    assert report["criterion"] == "thinet" and report["accuracy"] == {}
    cut = load(tmp_path / "runs/prune/exp/pruned.pt")
    assert cut.names == dict(enumerate(["circle", "square", "triangle", "cross"]))
    assert (cut.train["data"], cut.train["imgsz"]) == (str(shapes_yaml), 64)
    assert run("finetune", SMALL[2:]) == 0  # data and image size are those of the cut
    folder = tmp_path / "runs" / "finetune" / "exp"
    assert yaml.safe_load((folder / "opt.yaml").read_text())["hints"] == str(other)
    assert load(folder / "weights" / "best.pt").names == cut.names
    assert run("export", ["--repeats", "0", "--include", "onnx"]) == 0


@pytest.mark.parametrize("criterion", ["taylor", "obs"])
def test_criteria_that_look_at_labels(
    criterion: str, other: Path, shapes_yaml: Path, tmp_path: Path, capsys
) -> None:
    options = ["--weights", str(other), "--data", str(shapes_yaml), "--criterion", criterion]
    assert run("prune", options) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("4 classes, expected the 7 of the model")
    assert not (tmp_path / "runs").exists()


def test_what_is_cut_by_default(
    tiny_model: nn.Module,
    tiny_checkpoint: Path,
    shapes_yaml: Path,
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    """By gamma only what was trained for it: else by what the next layers miss, or by size."""
    from yolo_slim.host.checkpoint import save_model

    monkeypatch.chdir(tmp_path)
    trained = {"data": str(shapes_yaml), "imgsz": 64}
    known = save_model(tiny_model, tmp_path / "known.pt", opt=trained)
    sparse = save_model(tiny_model, tmp_path / "sparse.pt", opt=trained | {"st": True})
    gone = save_model(tiny_model, tmp_path / "gone.pt", opt={"data": "nowhere.yaml"})
    for weights, options, criterion in (
        (known, [], "thinet"),
        (sparse, [], "bn"),
        (tiny_checkpoint, [], "l2"),
        (gone, [], "l2"),
        (tiny_checkpoint, ["--data", str(shapes_yaml)], "thinet"),
        (known, ["--criterion", "l1"], "l1"),
        (known, ["--macs", "0.7"], "obs"),
    ):
        more = ["--dry-run", "--calib-images", "4", "--img", "64"]
        assert run("prune", ["--weights", str(weights), *more, *options]) == 0
        out = capsys.readouterr().out
        assert f"criterion {criterion}" in out
        macs = {"thinet": "50.0%", "l2": "50.0%", "obs": "70.0%"}.get(criterion)
        target = f"{macs} of the MACs" if macs else "60.0% of the prunable"
        assert f"requested {target}" in out
        assert (f"--criterion {criterion}: " in out) == (criterion != "l1")
        assert ("no --data: the smallest filters" in out) == (criterion == "l2")
