"""Segmentation: the same road, on YOLOv5's segmentation loop."""

from __future__ import annotations

import argparse
import csv
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from conftest import MASKS, TINY, TINY_SEG
from sparse_runs import Poison, after
from sparse_runs import rows as table
from torch import nn

from yolo_slim import load, prune, save
from yolo_slim.cli import run
from yolo_slim.commands import export, finetune, sparse
from yolo_slim.commands import prune as prune_command
from yolo_slim.deploy.check import compare
from yolo_slim.deploy.export import to_onnx, to_torchscript
from yolo_slim.host.checkpoint import safe_loading
from yolo_slim.host.classes import yolo
from yolo_slim.host.compat import replaced
from yolo_slim.host.data import read_data
from yolo_slim.host.evaluate import Accuracy, evaluate
from yolo_slim.host.exported import read_exported
from yolo_slim.host.options import HYP
from yolo_slim.host.scripts import kind
from yolo_slim.host.tasks import DETECTION, SEGMENTATION, task_of_model, task_of_yaml
from yolo_slim.models.model import build_model
from yolo_slim.report.tables import accuracy_table
from yolo_slim.shapes import clip, draw_image, make_shapes

SMALL = ["--imgsz", "64", "--batch-size", "8", "--workers", "0", "--device", "cpu"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    file = tmp_path / "tiny-seg.yaml"
    file.write_text(TINY_SEG)
    return file


@pytest.fixture
def seg_checkpoint(_tiny_seg: nn.Module, tmp_path: Path) -> Path:
    return save(_tiny_seg, tmp_path / "tiny-seg.pt")


def test_task_follows_from_the_model(tiny_seg: nn.Module, tiny_model: nn.Module) -> None:
    assert task_of_model(tiny_seg) is task_of_yaml(yaml.safe_load(TINY_SEG)) is SEGMENTATION
    assert task_of_model(tiny_model) is task_of_yaml(yaml.safe_load(TINY)) is DETECTION
    assert task_of_yaml({"head": [[-1, 1, "SegmentPruned", []]]}) is SEGMENTATION
    assert task_of_yaml({"head": "none"}) is task_of_yaml({}) is DETECTION
    assert isinstance(build_model(yaml.safe_load(TINY_SEG)), yolo.SegmentationModel)


def test_nms_has_no_clock() -> None:
    """The host's drops detections after a time; the segmentation scripts take the mended one."""
    for name in ("val", "detect"):
        assert hasattr(SEGMENTATION.script(name).non_max_suppression, "__wrapped__")


def test_options_of_the_other_loop(refused, seg_checkpoint, tiny_checkpoint, seg_yaml, pruned_tiny):
    train = ["--data", seg_yaml, *SMALL]
    line = refused("sparse", "--weights", tiny_checkpoint, *train, "--mask-ratio", "2")
    assert "--mask-ratio: given for a detection model, expected a segmentation model" in line
    line = refused("finetune", "--weights", pruned_tiny, *train, "--no-overlap")
    assert "--no-overlap: given for a detection model" in line
    line = refused("sparse", "--weights", seg_checkpoint, *train, "--s3_upload_dir", "x")
    assert "--s3_upload_dir: given for a segmentation model, expected a detection model" in line
    line = refused("sparse", "--weights", seg_checkpoint, *train, "--mask-ratio", "0")
    assert "--mask-ratio: 0, expected 1 or more" in line
    for option in (["--quad"], ["--evolve", "2"]):  # yolov5 7.0.14 fails on them
        assert option[0] in refused("sparse", "--weights", seg_checkpoint, *train, *option)
    line = refused("val", "--weights", tiny_checkpoint, "--retina-masks")
    assert "unrecognized arguments: --retina-masks" in line


def test_task_of_a_file(tiny_seg: nn.Module, tiny_model: nn.Module, tmp_path: Path) -> None:
    for name, model, expected in (
        ("seg", tiny_seg, (SEGMENTATION, MASKS)),
        ("tiny", tiny_model, (DETECTION, 0)),
    ):
        files = [tmp_path / f"{name}{suffix}" for suffix in (".pt", ".onnx", ".torchscript")]
        save(model, files[0])
        files[1].write_bytes(to_onnx(model, imgsz=64, dynamic=True))
        files[2].write_bytes(to_torchscript(model, imgsz=64))
        exported = {str(file): read_exported(file) for file in files[1:]}
        assert [kind([str(file)], exported) for file in files] == [expected] * 3


def test_labels_without_outlines(refused, seg_checkpoint, shapes_yaml, seg_yaml, cfg, tmp_path):
    for source in (["--weights", seg_checkpoint], ["--weights", "", "--cfg", cfg]):
        line = refused("sparse", *source, "--data", shapes_yaml, *SMALL)
        assert "0000.txt: a box (class x y w h), expected an outline (class x1 y1" in line
    line = refused("val", "--weights", seg_checkpoint, "--data", shapes_yaml)
    assert "val/0000.txt: a box" in line
    options = ["--weights", seg_checkpoint, "--data", shapes_yaml, "--imgsz", 64]
    assert "train/0000.txt: a box" in refused("prune", *options)
    assert "val/0000.txt: a box" in refused("prune", *options, "--criterion", "l2")

    mixed = make_shapes(tmp_path / "mixed", train=3, val=2, size=64, polygons=True)
    with (mixed / "labels" / "train" / "0001.txt").open("a") as file:
        file.write("0 0.5 0.5 0.1 0.1\n")
    data = tmp_path / "mixed.yaml"
    data.write_text(yaml.safe_dump(yaml.safe_load(seg_yaml.read_text()) | {"path": str(mixed)}))
    line = refused("sparse", "--weights", seg_checkpoint, "--data", data, *SMALL)
    assert "train/0001.txt: a box" in line


def test_without_penalty_it_is_the_hosts_training_bit_for_bit(
    here: Path, cfg: Path, seg_yaml: Path
) -> None:
    host = SEGMENTATION.script("train")
    common = {"weights": "", "cfg": str(cfg), "data": str(seg_yaml), "epochs": 1, "imgsz": 64}
    common |= {"batch_size": 8, "workers": 0, "device": "cpu", "noplots": True, "seed": 3}
    common |= {"hyp": str(HYP), "project": "runs/train", "name": "host"}
    with safe_loading(), replaced(host, check_git_status=lambda: None):  # it changes the folder
        host.main(argparse.Namespace(**{**vars(host.parse_opt(True)), **common}))
    argv = ["--cfg", str(cfg), "--data", str(seg_yaml), "--epochs", "1", "--seed", "3", "--noplots"]
    ours = [
        sparse.main([*argv, *SMALL, *more])
        for more in ([], ["--st", "--sr", "0"], ["--st", "--sr", "0.1"])
    ]
    weights = [
        load(here / folder / "weights" / "last.pt").model.state_dict()
        for folder in (Path("runs/train/host"), *ours)
    ]
    same = [all(torch.equal(weights[0][k], w[k]) for k in weights[0]) for w in weights[1:]]
    assert same == [True, True, False]
    found = [yaml.safe_load((f / "opt.yaml").read_text()) for f in (Path("runs/train/host"), *ours)]
    differ = {"name", "save_dir"}
    assert {k: v for k, v in found[0].items() if k not in differ} == {
        k: v for k, v in found[1].items() if k in found[0].keys() - differ
    }


def test_four_commands(
    here: Path, cfg: Path, seg_yaml: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = ["--st", "--sr", "0.05", "--cfg", str(cfg), "--data", str(seg_yaml), "--epochs", "3"]
    argv += ["--mask-ratio", "2", "--noplots"]
    folder = sparse.main([*argv, *SMALL])
    assert folder == Path("runs/train/exp")
    rows = list(csv.DictReader((folder / "sparsity.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    np.testing.assert_allclose([float(r["sr"]) for r in rows], [0.05, 0.035, 0.02], rtol=1e-4)
    medians = [float(row["gamma_q50"]) for row in rows]
    assert medians == sorted(medians, reverse=True)
    assert tags(folder) >= {"sparsity/gamma", "sparsity/near_zero", "train/seg_loss"}
    dense = load(folder / "weights" / "last.pt")
    assert type(dense.model) is yolo.SegmentationModel
    assert dense.train["mask_ratio"] == 2
    assert "s3_upload_dir" not in dense.train

    cut = prune_command.main(["--percent", "0.5", "--data", str(seg_yaml), "--workers", "0"])
    report = json.loads((cut / "report.json").read_text())
    assert abs(report["achieved"] - 0.5) < 0.02
    assert report["parity"] < 1e-9
    accuracy = report["accuracy"]
    assert accuracy["masked"]["mask_map"] == pytest.approx(accuracy["pruned"]["mask_map"], abs=0.01)
    assert "masks mAP50-95" in capsys.readouterr().out

    slim = load(cut / "pruned.pt").model
    tuned = finetune.main(["--epochs", "2", "--noplots", *SMALL])
    best = load(tuned / "weights" / "best.pt")
    assert type(best.model) is type(slim)
    assert isinstance(best.model, yolo.SegmentationModel)
    assert finetune.shapes(best.model) == finetune.shapes(slim)
    assert best.train["mask_ratio"] == 4

    done = export.main(["--repeats", "4"])
    report = json.loads((done / "report.json").read_text())
    assert report["weights"] == str((tuned / "weights" / "best.pt").absolute())
    for form in ("onnx", "torchscript"):
        assert report["agreement"][form]["images"] == 8
        assert report["agreement"][form]["boxes"] <= 0.05
        assert report["agreement"][form]["scores"] <= 1e-4
        assert report["agreement"][form]["masks"] <= 1e-4
    session = onnxruntime.InferenceSession(done / "best.onnx")
    shapes = {out.name: out.shape for out in session.get_outputs()}
    assert shapes == {"output0": [1, 252, 4 + 1 + 4 + MASKS], "output1": [1, MASKS, 16, 16]}

    data = ["--data", str(seg_yaml), "--imgsz", "64", "--workers", "0"]
    assert run("val", ["--weights", str(done / "best.onnx"), *data, "--batch-size", "1"]) == 0


def tags(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    return {*board.Tags()["histograms"], *board.Tags()["scalars"]}


def test_resume_goes_on_without_gap_or_double(
    here: Path, cfg: Path, seg_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(session: Any, run: Any) -> None:
        """As by Ctrl-C when epoch 2 begins."""
        if run.epoch == 2:
            raise KeyboardInterrupt

    argv = ["--st", "--sr", "0.05", "--cfg", str(cfg), "--data", str(seg_yaml), "--epochs", "3"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        after(patch, "on_epoch_start", stop)
        sparse.main([*argv, "--noplots", *SMALL])
    folder = sparse.main(["--resume"])
    rows = list(csv.DictReader((folder / "sparsity.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    np.testing.assert_allclose([float(r["sr"]) for r in rows], [0.05, 0.035, 0.02], rtol=1e-4)
    assert load(folder / "weights" / "last.pt").epoch == -1


def test_nan_sends_the_run_back(
    here: Path,
    cfg: Path,
    seg_yaml: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """This loop has no hook for a batch's losses: it is found when the epoch ends."""
    poison = Poison(monkeypatch, epoch=1, batch=0, times=1)
    argv = ["--st", "--cfg", str(cfg), "--data", str(seg_yaml), "--epochs", "3", "--noplots"]
    folder = sparse.main([*argv, "--sr", "0.05", *SMALL])
    (line,) = [text for text in caplog.messages if "Back to" in text]
    assert "gammas are NaN or Inf. Back to epoch 1, with sr 0.015" in line
    assert poison.left == 0
    for name in ("sparsity.csv", "results.csv"):
        found = [row["epoch"] for row in table(folder / name)]
        assert found[:3] == ["0", "1", "2"]
        assert found[3:] in ([], ["3"])  # the host's verdict on best.pt is a row more
    strengths = [float(row["sr"]) for row in table(folder / "sparsity.csv")]
    np.testing.assert_allclose(strengths, [0.05, 0.3 * 0.035, 0.3 * 0.02], rtol=1e-4)
    state = load(folder / "weights" / "last.pt").model.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())


class Oracle(yolo.SegmentationModel):
    """Answers with the labels of its `batch`, and with `masks` (n, 24, 24) for each of them."""

    batch: torch.Tensor  # (n, 6): image, class, x, y, w, h as shares of 96 px
    masks: torch.Tensor

    def forward(self, image: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        found = torch.zeros(len(image), 8, 5 + 4 + MASKS)
        protos = torch.zeros(len(image), MASKS, 24, 24)
        for i in range(len(image)):
            for j, n in enumerate(torch.where(self.batch[:, 0] == i)[0]):
                found[i, j, :4] = self.batch[n, 2:] * 96
                found[i, j, 4] = found[i, j, 5 + int(self.batch[n, 1])] = 1
                found[i, j, 9 + j] = 10
                protos[i, j] = self.masks[n] * 2 - 1
        return found, protos


def test_accuracy_of_boxes_and_masks(tiny_seg: nn.Module, seg_yaml: Path) -> None:
    """On YOLOv5's own validation, of a model that knows the labels: 0.995 is its mAP of all right.

    The 64 px are padded to 96, the prototypes are a quarter of that.
    """
    data = read_data(seg_yaml)
    make = SEGMENTATION.script("val").create_dataloader
    loader, _ = make(data["val"], 64, 32, 32, pad=0.5, rect=True, workers=0)
    _, targets, _, _, masks = next(iter(loader))
    tiny_seg.__class__ = Oracle
    tiny_seg.batch = targets
    tiny_seg.masks = nn.functional.interpolate(masks[None].float(), (24, 24), mode="bilinear")[0]
    found = evaluate(tiny_seg, data, imgsz=64, workers=0, device="cpu")
    assert (found.map50, found.map, found.mask_map50) == pytest.approx((0.995,) * 3, abs=1e-6)
    tiny_seg.masks[1:] = 0  # of 16 objects
    found = evaluate(tiny_seg, data, imgsz=64, workers=0, device="cpu")
    assert (found.map50, found.map) == pytest.approx((0.995, 0.995), abs=1e-6)
    assert found.mask_map50 is not None
    assert 0 < found.mask_map50 < 0.3


def test_accuracy_prints_what_there_is() -> None:
    boxes, masks = Accuracy(0.5, 0.25), Accuracy(0.5, 0.25, 0.4, 0.2)
    assert str(boxes) == "mAP50 0.500, mAP50-95 0.250"
    assert str(masks) == f"boxes {boxes}, masks mAP50 0.400, mAP50-95 0.200"
    assert accuracy_table({"dense": boxes}).split()[-3:] == ["dense", "0.500", "0.250"]
    values = ["0.500", "0.250", "0.400", "0.200"]
    assert accuracy_table({"dense": masks}).split()[-5:] == ["dense", *values]


def test_yolov5s_own_val_and_predict(here: Path, seg_checkpoint: Path, seg_yaml: Path) -> None:
    weights = ["--weights", str(seg_checkpoint), "--imgsz", "64"]
    assert run("val", [*weights, "--data", str(seg_yaml), "--workers", "0"]) == 0
    assert (here / "runs" / "val-seg" / "exp" / "confusion_matrix.png").is_file()
    source = sorted((seg_yaml.parent / "shapes" / "images" / "val").glob("*.png"))[0]
    argv = [*weights, "--source", str(source), "--conf-thres", "0.001", "--save-txt"]
    assert run("detect", argv) == 0
    folder = here / "runs" / "predict-seg" / "exp"
    assert (folder / source.name).is_file()
    rows = (folder / "labels" / f"{source.stem}.txt").read_text().splitlines()
    assert any(len(row.split()) > 5 for row in rows)  # outlines


def test_export_that_differs_is_noticed(tiny_seg: nn.Module) -> None:
    session = onnxruntime.InferenceSession(to_onnx(tiny_seg, imgsz=64))
    image = torch.rand(1, 3, 64, 64).numpy()

    def outputs(x: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {"images": x})

    good = compare(tiny_seg, outputs, [image])
    assert good.holds
    assert good.masks is not None
    assert good.masks < 1e-4
    for index, part in ((0, np.s_[..., 9:]), (1, np.s_[:])):

        def changed(x: np.ndarray, index: int = index, part: Any = part) -> list[np.ndarray]:
            found = outputs(x)
            found[index][part] *= 1.001
            return found

        bad = compare(tiny_seg, changed, [image])
        assert bad.masks == pytest.approx(1e-3, rel=0.1)
        assert not bad.holds
        assert bad.scores == good.scores
    assert not compare(tiny_seg, lambda x: outputs(x)[:1], [image]).holds


def test_the_whole_road_in_one_command(
    seg_checkpoint: Path, seg_yaml: Path, tmp_path: Path, monkeypatch
) -> None:
    """slim, in YOLOv5's segment loop: the report is of boxes and masks of a smaller model."""
    monkeypatch.chdir(tmp_path)
    options = ["--macs", "0.6", "--round-to", "1", "--calib-images", "8", *SMALL, "--epochs", "2"]
    argv = ["--weights", str(seg_checkpoint), "--data", str(seg_yaml), *options]
    assert run("slim", argv) == 0
    folder = tmp_path / "runs" / "slim" / "exp"
    report = json.loads((folder / "report.json").read_text())
    assert report["macs"][1] / report["macs"][0] == pytest.approx(0.6, rel=0.02)
    assert task_of_model(load(folder / "best.pt").model) is SEGMENTATION
    with (folder / "train1" / "results.csv").open() as file:
        assert any("seg" in name for name in next(csv.reader(file)))


def test_pruned_model_validates_as_the_masked_one(tiny_seg: nn.Module, tmp_path: Path) -> None:
    """Pruned, saved, opened: boxes, coefficients and prototypes."""
    from yolo_slim.pruning.masks import apply_masks_

    pruned = prune(tiny_seg, 0.5, recover=(), imgsz=64)
    slim = load(save(pruned, tmp_path / "pruned.pt")).model
    masked = apply_masks_(deepcopy(tiny_seg), pruned.masks)
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for a, b in zip(slim(image)[:2], masked(image)[:2], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert task_of_model(slim) is SEGMENTATION
    assert slim.model[-1].nm == MASKS


def test_outlines_are_of_what_is_drawn(tmp_path: Path) -> None:
    """The same images as with boxes; an outline fills what differs from the background."""
    boxes = make_shapes(tmp_path / "boxes", train=30, val=1, size=96)
    outlines = make_shapes(tmp_path / "outlines", train=30, val=1, size=96, polygons=True)
    for image in sorted((boxes / "images").rglob("*.png")):
        other = outlines / image.relative_to(boxes)
        assert image.read_bytes() == other.read_bytes()
        files = [
            (f / "labels" / image.relative_to(f2 / "images")).with_suffix(".txt")
            for f, f2 in ((boxes, boxes), (outlines, boxes))
        ]
        rows = [[[float(v) for v in r.split()] for r in f.read_text().splitlines()] for f in files]
        for (c, x, y, w, h), (c2, *points) in zip(*rows, strict=True):
            xy = np.array(points).reshape(-1, 2)
            assert (c, len(xy) >= 3, xy.min() >= 0, xy.max() <= 1) == (c2, True, True, True)
            around = [*(xy.min(0) + xy.max(0)) / 2, *np.ptp(xy, 0)]
            np.testing.assert_allclose(around, [x, y, w, h], atol=0.01)  # a corner may be cut off


def test_outline_is_clipped_to_the_image() -> None:
    square = np.array([[-5.0, 5.0], [5.0, 5.0], [5.0, 15.0], [-5.0, 15.0]])
    assert area(clip(square, 100)) == 50
    diamond = np.array([[0.0, -10.0], [10.0, 0.0], [0.0, 10.0], [-10.0, 0.0]])
    assert area(clip(diamond, 100)) == pytest.approx(50)
    assert area(clip(diamond + 100, 100)) == pytest.approx(50)
    inside = square + 20
    np.testing.assert_array_equal(clip(inside, 100), inside)


def test_outline_covers_the_drawn_pixels() -> None:
    image, shapes = draw_image(np.random.default_rng(3), 128)
    for _, points in shapes:
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [clip(points, 128).round().astype(np.int32)], 1)
        inside = image[cv2.erode(mask, np.ones((5, 5))) > 0]
        assert len(inside) > 0
        assert (inside == inside[0]).all()  # one colour; the background is noise


def area(points: np.ndarray) -> float:
    """Shoelace formula."""
    x, y = points.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
