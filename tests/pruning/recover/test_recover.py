"""The recovery as a stage: statistics by hand, what each part moves, what is undone, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from _common import randomise_norms_
from _data import coco_halves
from torch import nn

from yolo_slim import InputError, channel_graph, load, prune
from yolo_slim.calibration import Calibration
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.cli import run
from yolo_slim.host.calibration import calibrate
from yolo_slim.host.data import check_data
from yolo_slim.host.evaluate import Accuracy, evaluate
from yolo_slim.pruning.budget.choose import masks_by_percent
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.masks import Masks
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover import distill
from yolo_slim.pruning.recover.recover import recover_
from yolo_slim.pruning.recover.statistics import retake_statistics_
from yolo_slim.pruning.recover.table import ALL, PARTS

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(count: int = 8, height: int = 64, width: int = 64) -> Calibration:
    """Images of white noise in batches of 3."""
    images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))
    return Calibration(tuple((part, None) for part in images.split(3)))


def cut(model: nn.Module, percent: float = 0.4) -> tuple[ChannelGraph, Masks, nn.Module]:
    graph = channel_graph(model)
    masks = masks_by_percent(graph, score(model, graph, "random"), percent, spread="uniform")
    return graph, masks, rebuild(model, graph, masks)


def changed(before: dict, after: nn.Module) -> set[str]:
    """The last words of the names of the tensors that differ."""
    now = after.state_dict()
    return {k.rpartition(".")[2] for k in before if not torch.equal(before[k], now[k])}


# statistics


def test_statistics_by_hand() -> None:
    """The second BN reads a conv of the first's channels: its moments before and after the cut."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.SiLU()),
        *(nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5), nn.SiLU(), nn.Conv2d(5, 2, 1)),
    )
    model.image = (3, 16, 16)
    randomise_norms_(model)
    model.double().eval()
    images = torch.cat([batch for batch, _ in noise(8, 16, 16).batches]).double()
    graph, masks = channel_graph(model), {"1": torch.tensor([True, False, True, True])}
    slim = rebuild(model, graph, masks)
    batches = Calibration(((images[:3], None), (images[3:], None)))
    assert retake_statistics_(slim, model, graph, masks, batches) == 2
    with torch.no_grad():
        read = model[:3](images)
        then = model[3](read)
        now = nn.functional.conv2d(read[:, masks["1"]], model[3].weight[:, masks["1"]])
    for wanted, found in (
        (model[4].running_mean + now.mean((0, 2, 3)) - then.mean((0, 2, 3)), slim[4].running_mean),
        (
            model[4].running_var
            * (now.var((0, 2, 3), correction=0) + model[4].eps)
            / (then.var((0, 2, 3), correction=0) + model[4].eps),
            slim[4].running_var,
        ),
        (model[1].running_mean[masks["1"]], slim[1].running_mean),
        (model[1].running_var[masks["1"]], slim[1].running_var),
    ):
        assert torch.allclose(wanted, found.double(), rtol=1e-6)


def test_statistics_of_what_is_not_cut_stay(tiny_model: nn.Module) -> None:
    """Whatever the images are: keep-all is the identity."""
    graph, slim = channel_graph(tiny_model), rebuild(tiny_model, channel_graph(tiny_model), {})
    before = deepcopy(slim.state_dict())
    retake_statistics_(slim, tiny_model, graph, {}, noise())
    for key, value in slim.state_dict().items():
        assert torch.allclose(value.float(), before[key].float(), rtol=1e-4, atol=1e-6), key


def test_statistics_move_nothing_else(tiny_model: nn.Module) -> None:
    graph, masks, slim = cut(tiny_model.train())
    before, dense = deepcopy(slim.state_dict()), deepcopy(tiny_model.state_dict())
    retake_statistics_(slim, tiny_model, graph, masks, noise())
    assert changed(before, slim) == {"running_mean", "running_var"}
    assert changed(dense, tiny_model) == set()
    for model in (slim, tiny_model):
        assert all(m.training for m in model.modules())
        assert not any(m._forward_pre_hooks for m in model.modules())


def test_statistics_make_the_moments_right(tiny_model: nn.Module) -> None:
    """On the calibration images each BN normalises as well as that of the dense model did."""
    graph, masks, slim = cut(tiny_model)
    images = noise()
    retake_statistics_(slim, tiny_model, graph, masks, images)
    for name in ("model.5.bn", "model.11.cv3.bn"):
        means = []
        for model in (tiny_model, slim):
            read = list[torch.Tensor]()
            bn = model.get_submodule(name)
            handle = bn.register_forward_pre_hook(lambda m, x, read=read: read.append(x[0]))
            with torch.no_grad():
                for batch, _ in images.batches:
                    model(batch)
            handle.remove()
            moved = torch.cat(read).mean((0, 2, 3)) - bn.running_mean
            means.append(moved)
        assert torch.allclose(means[0][masks[name]], means[1], atol=1e-3)


# The stage


@pytest.mark.parametrize("part", PARTS)
def test_a_part_moves_what_it_says(
    part: str, tiny_model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "STEPS", 5)
    moves = {
        "constants": {"running_mean", "bias"},
        "weights": {"running_mean", "bias", "weight"},
        "statistics": {"running_mean", "running_var"},
        "distill": {"bias", "weight"},
    }
    graph, masks, slim = cut(tiny_model)
    before = deepcopy(slim.state_dict())
    found = recover_(slim, tiny_model, graph, masks, [part], noise())
    assert changed(before, slim) == moves[part]
    assert found.names == (part,) and found.parts[0].layers > 0


def scripted(values: list[float]) -> Iterator[Accuracy]:
    return iter([Accuracy(0.5, value) for value in values])


def test_a_part_after_which_map_falls_is_undone(tiny_model: nn.Module) -> None:
    """0.2 as cut, 0.3, 0.25 (undone), 0.4: the last part begins where the first one ended."""
    graph, masks, slim = cut(tiny_model)
    values, seen = scripted([0.2, 0.3, 0.25, 0.4]), list[dict]()

    def judge(model: nn.Module) -> Accuracy:
        seen.append(deepcopy(model.state_dict()))
        return next(values)

    found = recover_(slim, tiny_model, graph, masks, ALL, noise(), judge=judge)
    assert found.cut == Accuracy(0.5, 0.2) and found.accuracy == Accuracy(0.5, 0.4)
    assert [(p.name, p.kept, p.accuracy.map) for p in found.parts if p.accuracy] == [
        ("constants", True, 0.3),
        ("weights", False, 0.25),
        ("statistics", True, 0.4),
    ]
    assert found.names == ("constants", "statistics")
    weights = [k for k in seen[0] if k.endswith("conv.weight")]
    assert any(not torch.equal(seen[2][k], seen[1][k]) for k in weights)
    assert all(torch.equal(seen[3][k], seen[1][k]) for k in weights)


def test_half_precision_survives(tiny_model: nn.Module) -> None:
    """A checkpoint that was half stays half; a float32 one keeps its digits."""
    for model, half in ((tiny_model.half().float(), True), (deepcopy(tiny_model), False)):
        if not half:
            model.model[0].bn.weight.data[0] = 1 / 3
        graph, masks, slim = cut(model)
        recover_(slim, model, graph, masks, ALL, noise())
        values = [v for v in slim.state_dict().values() if v.is_floating_point()]
        assert all(torch.equal(v.half().float(), v) for v in values) == half


def test_images_are_asked_for(tiny_model: nn.Module) -> None:
    for part in ("weights", "statistics", "distill"):
        with pytest.raises(InputError, match=f"recover {part}: no calibration images"):
            prune(tiny_model, 0.4, recover=[part], imgsz=64)
    with pytest.raises(InputError, match="recover: 'sleep', expected some of constants, weights"):
        prune(tiny_model, 0.4, recover=["sleep"], imgsz=64)


# The command


def test_report_after_each_part(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """mAP as cut and after each part, in report.json and in the table; pruned.pt is the last."""
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", tiny_checkpoint, "--data", shapes_yaml, "--imgsz", 64, "--workers", 0]
    argv += ["--percent", 0.3, "--criterion", "l2", "--recover", "all", "--calib-images", 8]
    assert run("prune", [str(a) for a in argv]) == 0
    report = json.loads((tmp_path / "runs/prune/exp/report.json").read_text())
    assert [part["name"] for part in report["recovery"]] == list(ALL)
    kept = [part for part in report["recovery"] if part["kept"]]
    assert report["recovered"] == [part["name"] for part in kept]
    assert report["calibration"] == 8
    last = kept[-1]["accuracy"] if kept else report["accuracy"]["masked"]
    assert report["accuracy"]["pruned"] == last
    saved = load(tmp_path / "runs/prune/exp/pruned.pt").model
    data = check_data(shapes_yaml)
    again = evaluate(saved, data, imgsz=64, workers=0)
    assert (again.map50, again.map) == pytest.approx((last["map50"], last["map"]))
    text = capsys.readouterr().out
    rows = [line.split()[0] for line in text.splitlines() if line.strip().startswith("+ ")]
    assert rows == ["+"] * 3 and "+ statistics" in text


def test_parts_by_name(tiny_checkpoint: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", str(tiny_checkpoint), "--imgsz", "64", "--percent", "0.3"]
    assert run("prune", [*argv, "--recover", "constants,wieghts"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == (
        "error: --recover: 'wieghts', "
        "expected some of constants, weights, statistics, distill and all, or none alone"
    )
    assert not (tmp_path / "runs").exists()
    assert run("prune", [*argv, "--recover", "none"]) == 0
    report = json.loads((tmp_path / "runs/prune/exp/report.json").read_text())
    assert report["recovered"] == [] and report["recovery"] == []


def test_calibrated_on_real_images(shared: Path, tmp_path: Path) -> None:
    """The COCO yolov5n on photos it was not fitted on: each part brings something back."""
    data = coco_halves(tmp_path, shared)[0]
    model = load(shared / "weights" / "yolov5n.pt").model
    images = calibrate(data, model, imgsz=320, images=64)
    judge = lambda slim: evaluate(slim, data, imgsz=320, workers=0)  # noqa: E731
    found = prune(
        model,
        macs=0.95,
        criterion="bn",
        round_to=8,
        calibration=images,
        recover=["constants", "weights"],
        judge=judge,
        imgsz=320,
    ).recovery
    assert found.cut is not None
    constants, weights = (part.accuracy for part in found.parts)
    assert found.cut.map50 < 0.1 < constants.map50 < weights.map50
    assert weights.map50 > 0.25
