"""From finished runs to a page: real runs of each kind on tiny data, and their page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from torch import nn

from yolo_slim import load, save
from yolo_slim.cli import run
from yolo_slim.errors import InputError
from yolo_slim.finished import finished_run
from yolo_slim.host.classes import yolo
from yolo_slim.host.data import read_data
from yolo_slim.host.evaluate import evaluate
from yolo_slim.measure.cost import cost
from yolo_slim.page.build import lost_in_training, page_of
from yolo_slim.page.model import Shown
from yolo_slim.sensitivity.run import SETTINGS, write_scan
from yolo_slim.sensitivity.scan import Row

SHOWN = Shown("dense", "a.pt", 1, 1, 1, map50=0.5, map=0.3)
DENSE_ROW = Row("dense", "-", 0, 0.0, 0.0, 0.9, 0.5)
TRAIN = ["--img", "64", "--batch-size", "8", "--workers", "0", "--noplots"]


@dataclass(frozen=True)
class Runs:
    """Folders of finished runs, and the data that they are of."""

    prune: Path
    finetune: Path
    slim: Path
    sparse: Path
    data: Path


@pytest.fixture(scope="module")
def runs(
    tiny_checkpoint: Path, shapes_yaml: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    folder, before = tmp_path_factory.mktemp("runs"), Path.cwd()
    os.chdir(folder)
    weights, data = ["--weights", str(tiny_checkpoint)], ["--data", str(shapes_yaml)]
    small = ["--imgsz", "64", "--calib-images", "8", "--round-to", "1", "--macs", "0.7"]
    assert run("prune", [*weights, *data, *small, "--criterion", "l2", "--recover", "all"]) == 0
    pruned = folder / "runs" / "prune" / "exp" / "pruned.pt"
    assert run("finetune", ["--weights", str(pruned), *data, *TRAIN, "--epochs", "2"]) == 0
    more = ["--calib-images", "8", "--round-to", "1", "--epochs", "2", "--rounds", "1"]
    assert run("slim", [*weights, *data, *TRAIN, *more]) == 0
    assert run("sparse", ["--st", *weights, *data, *TRAIN, "--epochs", "2"]) == 0
    os.chdir(before)
    base = folder / "runs"
    yield Runs(
        base / "prune" / "exp",
        base / "finetune" / "exp",
        base / "slim" / "exp",
        base / "train" / "exp",
        shapes_yaml,
    )


def build_tiny_of(cfg: dict, classes: int) -> nn.Module:
    """The tiny model for so many classes."""
    return yolo.DetectionModel({**cfg, "nc": classes}).eval()


def test_a_cut(runs: Runs, tiny_checkpoint: Path) -> None:
    page = page_of([runs.prune], repeats=2)
    assert [shown.label for shown in page.models] == ["dense", "cut"]
    for shown, file in zip(page.models, (tiny_checkpoint, runs.prune / "pruned.pt"), strict=True):
        model = load(file).model
        counted = cost(model, 64)
        assert (shown.params, shown.macs) == (counted.params, counted.macs)
        accuracy = evaluate(model, read_data(runs.data), imgsz=64, workers=0)
        assert (shown.map50, shown.map) == (accuracy.map50, accuracy.map)
        assert shown.ms and shown.spread is not None and shown.tally
    report = json.loads((runs.prune / "report.json").read_text())
    (cut,) = page.cuts
    assert [(x.name, x.channels, x.kept) for x in cut.layers] == [
        (x["name"], x["channels"], x["kept"]) for x in report["layers"]
    ]
    for layer in cut.layers:
        assert layer.params and layer.macs
        assert (layer.kept < layer.channels) <= (layer.params[1] < layer.params[0])
    parts = [part["name"] for part in report["recovery"]]
    assert [step.name for step in cut.steps] == ["as cut", *parts]
    assert page.looked == (8, 8) and len(page.pictures) == 8
    assert page.made[0].command.startswith("yolo-slim prune") or "prune" in page.made[0].command
    assert page.made[0].versions["yolo-slim"]
    assert page.made[0].options["macs"] == "0.7"
    assert [name for name, _ in page.ancestry] == ["the first model", "cut 1"]
    assert page.histograms[0].layer == "model.0.conv"


def test_layers_of_all_convs_add_up_to_the_model(runs: Runs) -> None:
    """But for the head's three convs, which have no BN."""
    page = page_of([runs.prune], repeats=0)
    head = [sum(p.numel() for p in load(s.file).model.model[-1].parameters()) for s in page.models]
    norms = [2 * sum(x.channels for x in page.cuts[0].layers)]
    norms.append(2 * sum(x.kept for x in page.cuts[0].layers))
    for side, shown in enumerate(page.models):
        convs = sum(x.params[side] for x in page.cuts[0].layers if x.params)
        assert convs + norms[side] + head[side] == shown.params
    assert page.models[0].ms is None


def test_boxes_lie_on_their_picture(runs: Runs) -> None:
    page = page_of([runs.finetune], repeats=0)
    for picture in page.pictures:
        assert picture.jpeg.startswith(b"\xff\xd8")
        assert len(picture.found) == len(page.models)
        for boxes in (picture.truth, *filter(None, picture.found)):
            for box in boxes:
                left, top, right, bottom = box.corners
                assert -1 <= left <= right <= picture.width + 1
                assert -1 <= top <= bottom <= picture.height + 1
                assert -1 <= box.match < len(picture.truth)


def test_a_finetuning_shows_the_model_before_the_cut(runs: Runs) -> None:
    page = page_of([runs.finetune], repeats=0)
    assert [shown.label for shown in page.models] == ["dense", "cut", "finetuned"]
    assert len(page.cuts) == 1 and len(page.trainings) == 1
    (training,) = page.trainings
    assert training.epochs == (1, 2)
    curves = training.panels["mAP on the validation images"]
    assert [curve.name for curve in curves] == ["mAP50", "mAP50-95"]
    assert len(page.made) == 2


def test_a_slim(runs: Runs) -> None:
    page = page_of([runs.slim], repeats=0)
    assert [shown.label for shown in page.models] == ["dense", "cut", "slim"]
    assert page.cuts[0].before and page.cuts[0].steps[0].name == "as cut"
    assert page.trainings[0].title == "Training 1 of 1, 2 epochs"


def test_a_training_that_made_it_worse_is_told(runs: Runs, tmp_path: Path) -> None:
    """As the run itself says it: best.pt is then the model before its training."""
    folder = tmp_path / "slim" / "exp"
    shutil.copytree(runs.slim, folder)
    report = json.loads((folder / "report.json").read_text())
    report |= {"best": "recovered", "trained": {"map50": 0.2, "map": 0.1}}
    report["accuracy"]["map"] = 0.28
    (folder / "report.json").write_text(json.dumps(report))
    told = "mAP50-95 is 0.100 after the last training, less than the 0.280 of the recovered model"
    assert told in " ".join(page_of([folder], repeats=0).notes)
    worse = [replace(SHOWN, label="cut", map=0.305), replace(SHOWN, label="finetuned", map=0.12)]
    (note,) = lost_in_training([SHOWN, *worse])
    assert note.startswith("The training made it worse: mAP50-95 is 0.120, less than the 0.305 of")
    assert not lost_in_training([SHOWN, worse[0], replace(worse[1], map=0.31)])


def test_images_that_are_trained_on_are_told(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "same.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(runs.data.read_text()) | {"val": "images/train"}))
    notes = page_of([runs.prune], repeats=0, data=str(file)).notes
    assert any("Training and validation images are the same" in note for note in notes)


def test_a_sparse_training_shows_its_gammas(runs: Runs) -> None:
    page = page_of([runs.sparse], repeats=0)
    assert [shown.label for shown in page.models] == ["before", "sparse"]
    (training,) = page.trainings
    gammas = training.panels["|gamma|, in units of its layer's median at the start"]
    assert [len(curve.values) for curve in gammas] == [2, 2, 2]
    assert "Prunable channels near zero" in training.panels


def test_a_token_is_not_shown(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    shutil.copytree(runs.sparse, folder)
    options = yaml.safe_load((folder / "opt.yaml").read_text()) | {"hf_token": "abc123"}
    (folder / "opt.yaml").write_text(yaml.safe_dump(options))
    assert "abc123" not in str(page_of([folder], repeats=0).made)


def test_few_images_are_said_to_be_few(runs: Runs) -> None:
    page = page_of([runs.prune], repeats=0, images=4)
    assert page.looked == (4, 8) and len(page.pictures) == 4


def test_several_runs_on_one_page(runs: Runs) -> None:
    page = page_of([runs.prune, runs.slim], repeats=0)
    labels = [shown.label for shown in page.models]
    assert labels == ["dense", "cut, prune/exp", "cut, slim/exp", "slim"]
    assert [cut.title for cut in page.cuts] == ["the cut of prune/exp", "the cut of slim/exp"]
    assert page.trainings[0].title.startswith("Training 1 of 1 of slim/exp")


def test_a_scan(tmp_path: Path, runs: Runs) -> None:
    """By layer, in the order of the file; what was not measured is None."""
    rows = [DENSE_ROW, Row("channels", "model.0.bn", 8, 0.5, 0.5, 0.6, 0.3)]
    settings = dict.fromkeys(SETTINGS, "") | {"weights": "tiny.pt", "images": "4", "imgsz": "64"}
    settings |= {"kinds": "channels", "shares": "0.25 0.5"}
    write_scan(tmp_path / "sensitivity.csv", settings, rows)
    with pytest.raises(InputError, match="not finished"):
        page_of([runs.prune, tmp_path], repeats=0)
    (tmp_path / "sensitivity.png").touch()
    (scan,) = page_of([runs.prune, tmp_path], repeats=0).scans
    assert (scan.title, scan.dense) == ("channels, on 4 images, 64 px", 0.5)
    assert scan.shares == (0.25, 0.5)
    assert scan.layers == (("model.0.bn", (None, 0.3)),)


def test_masks_have_their_figures(
    tiny_seg: nn.Module, seg_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tiny_seg, "seg.pt")
    argv = ["--weights", "seg.pt", "--data", str(seg_yaml), "--imgsz", "64", "--macs", "0.7"]
    assert run("prune", [*argv, "--round-to", "1", "--criterion", "l2"]) == 0
    page = page_of([tmp_path / "runs" / "prune" / "exp"], repeats=0)
    assert all(shown.mask_map is not None for shown in page.models)
    assert len(page.pictures) == 8


def test_a_model_of_other_classes_has_no_accuracy_before(
    tiny_yaml: dict, shapes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head is new: neither it nor the cut knows the classes, the finetuned model does."""
    monkeypatch.chdir(tmp_path)
    save(build_tiny_of(tiny_yaml, 7), "seven.pt")
    argv = ["--weights", "seven.pt", "--data", str(shapes_yaml), "--imgsz", "64", "--macs", "0.7"]
    assert run("prune", [*argv, "--round-to", "1", "--calib-images", "8"]) == 0
    folder = tmp_path / "runs" / "prune" / "exp"
    page = page_of([folder], repeats=0)
    assert [shown.map for shown in page.models] == [None, None] and not page.pictures
    assert "no model here knows the classes" in " ".join(page.notes)
    argv = ["--weights", str(folder / "pruned.pt"), *TRAIN, "--epochs", "1"]
    assert run("finetune", argv) == 0
    page = page_of([tmp_path / "runs" / "finetune" / "exp"], repeats=0)
    assert [shown.map is None for shown in page.models] == [True, True, False]
    assert [picture.found[:2] for picture in page.pictures] == [(None, None)] * 8
    assert sum("has not learned the classes" in note for note in page.notes) == 2
    assert "mAP50-95 is" in page.verdict


# What cannot be shown


def test_a_folder_that_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="a folder of no run that is known"):
        page_of([tmp_path])
    with pytest.raises(InputError, match="no such folder"):
        page_of([tmp_path / "nothing"])


def test_a_run_that_is_not_finished(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "slim.json").write_text((runs.slim / "slim.json").read_text())
    with pytest.raises(InputError, match=r"not finished.*--resume"):
        finished_run(tmp_path)
    training = tmp_path / "train"
    training.mkdir()
    (training / "opt.yaml").write_text((runs.sparse / "opt.yaml").read_text())
    with pytest.raises(InputError, match="not finished"):
        finished_run(training)


DAMAGE = [
    {"accuracy": "x"},
    {"accuracy": {"masked": {}}},
    {"recovery": "abc"},
    {"target": {"x": 1}},
    {"layers": [{}]},
    {"layers": "abc"},
    {"options": "abc"},
    {"options": {"imgsz": "abc"}},
    {"removed": [1]},
    {"parity": "small"},
]


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_a_report_that_was_changed_is_one_line(damage: dict, runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    shutil.copytree(runs.prune, folder)
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(report | damage))
    if damage == {"options": {"imgsz": "abc"}}:  # what the checkpoint says counts
        assert page_of([folder], repeats=0).imgsz == 64
        return
    with pytest.raises(InputError, match="damaged"):
        page_of([folder], repeats=0)


def test_runs_of_different_data(runs: Runs, tmp_path: Path) -> None:
    other = yaml.safe_load(runs.data.read_text()) | {"val": "images/train"}
    file = tmp_path / "other.yaml"
    file.write_text(yaml.safe_dump(other))
    copy = tmp_path / "exp"
    copy.mkdir()
    for name in ("best.pt", "dense.pt", "cut1.pt", "report.json"):
        (copy / name).write_bytes((runs.slim / name).read_bytes())
    state = json.loads((runs.slim / "slim.json").read_text())
    state["options"]["data"] = str(file)
    (copy / "slim.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="a run of other data"):
        page_of([runs.prune, copy], repeats=0)


def test_data_of_other_classes(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "seven.yaml"
    other = yaml.safe_load(runs.data.read_text()) | {"names": list("abcdefg")}
    file.write_text(yaml.safe_dump(other))
    with pytest.raises(InputError, match="no model here knows its classes, expected the 4 classes"):
        page_of([runs.prune], data=str(file))


def test_no_validation_images(runs: Runs, tmp_path: Path) -> None:
    empty = yaml.safe_load(runs.data.read_text()) | {"path": str(tmp_path)}
    (tmp_path / "images" / "val").mkdir(parents=True)
    file = tmp_path / "empty.yaml"
    file.write_text(yaml.safe_dump(empty))
    with pytest.raises(InputError, match="no images"):
        page_of([runs.prune], data=str(file))
