"""Calibration images are the host's: its loader, its letterbox, its labels, its loss."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from _common import randomise_norms_
from conftest import build_tiny
from test_rebuild import fingerprint
from test_segment import TINY_SEG
from torch import nn
from yolov5.utils.loss import ComputeLoss

from yolo_slim import Calibration, InputError, calibrate, channel_graph
from yolo_slim.host.calibration import loss_hyp
from yolo_slim.host.classes import yolo
from yolo_slim.host.data import read_data
from yolo_slim.pruning.criteria.score import score
from yolo_slim.shapes import NAMES, make_shapes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(shapes_yaml: Path) -> dict[str, Any]:
    return read_data(shapes_yaml)


@pytest.fixture
def copied(tmp_path: Path) -> dict[str, Any]:
    """A data set of 3 + 2 shapes of its own, to be damaged."""
    return made(tmp_path, polygons=False)


def made(folder: Path, polygons: bool) -> dict[str, Any]:
    root = make_shapes(folder / "own", train=3, val=2, size=64, polygons=polygons)
    text = {"path": str(root), "train": "images/train", "val": "images/val"}
    (folder / "own.yaml").write_text(yaml.safe_dump({**text, "names": dict(enumerate(NAMES))}))
    return read_data(folder / "own.yaml")


def pictures(calibration: Calibration) -> torch.Tensor:
    """All images (n, 3, h, w)."""
    return torch.cat([images for images, _ in calibration.batches])


def on_disk(data: dict[str, Any], split: str = "train") -> dict[str, np.ndarray]:
    """Stem to RGB image (3, h, w) in [0, 1], read with OpenCV alone."""
    files = sorted(Path(data[split]).glob("*.*"))
    return {f.stem: cv2.imread(str(f))[..., ::-1].transpose(2, 0, 1) / 255 for f in files}


def test_images_and_labels_are_those_on_disk(data, _tiny) -> None:
    found = calibrate(data, _tiny, imgsz=64, images=5, batch_size=2)
    assert [len(images) for images, _ in found.batches] == [2, 2, 1]
    assert found.images == 5
    assert found.source == f"5 of 16 images of train: {data['train']}"
    names, disk = set(), on_disk(data)
    for images, (labels, *rest) in found.batches:
        assert images.dtype == torch.float32
        assert rest == []
        for i, image in enumerate(images.numpy()):
            stem = next(s for s, known in disk.items() if np.abs(known - image).max() < 1e-6)
            names.add(stem)
            file = Path(data["train"].replace("images", "labels")) / f"{stem}.txt"
            wanted = np.loadtxt(file, ndmin=2)
            np.testing.assert_allclose(labels[labels[:, 0] == i, 1:], wanted, atol=2e-3)
    assert len(names) == 5  # no image twice


def test_letterboxed_and_not_augmented(tmp_path: Path, _tiny) -> None:
    """64 x 32 px in 64 x 64: as it is, with 16 px of grey above and below; its box moves along."""
    wide = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "wide.png"), wide)
    (tmp_path / "labels" / "wide.txt").write_text("2 0.25 0.5 0.125 0.75\n")
    found = calibrate({"train": str(tmp_path / "images"), "nc": 4}, _tiny, imgsz=64)
    ((images, (labels,)),) = found.batches
    image = images[0].numpy() * 255
    np.testing.assert_allclose(image[::-1, 16:48].transpose(1, 2, 0), wide, atol=1e-3)
    np.testing.assert_allclose(image[:, [*range(16), *range(48, 64)]], 114, atol=1e-3)
    np.testing.assert_allclose(labels.numpy(), [[0, 2, 0.25, 0.5, 0.125, 0.375]], atol=1e-6)


def test_the_seed_chooses(data, _tiny) -> None:
    state = torch.get_rng_state()
    one, again, other = (calibrate(data, _tiny, imgsz=64, images=6, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(pictures(one), pictures(again))
    assert not torch.equal(pictures(one).sort(0)[0], pictures(other).sort(0)[0])


def test_fewer_images_than_asked(copied, _tiny) -> None:
    found = calibrate(copied, _tiny, imgsz=64, images=64)
    assert (found.images, found.source) == (3, f"3 of 3 images of train: {copied['train']}")
    assert calibrate(copied, _tiny, imgsz=64, split="val").images == 2
    next(Path(copied["train"]).glob("*.*")).write_bytes(b"no image")
    assert calibrate(copied, _tiny, imgsz=64).source.startswith("2 of 3 images of train")


def test_nothing_is_written_beside_the_data(copied, _tiny) -> None:
    root = Path(copied["path"])
    before = sorted(root.rglob("*"))
    calibrate(copied, _tiny, imgsz=64)
    assert sorted(root.rglob("*")) == before


def test_loss_is_that_of_the_host(data) -> None:
    """Reference: the host's ComputeLoss on a model in training mode with its BNs in eval mode."""
    model = build_tiny()
    found = calibrate(data, model, imgsz=64, images=4)
    before = fingerprint(model)
    (images, (labels,)) = found.batches[0]
    loss = found.loss(model, found.batches[0])
    assert fingerprint(model) == before
    assert not hasattr(model, "hyp")
    twin = deepcopy(model)
    twin.hyp = {"box": 0.05, "cls": 0.5 * 4 / 80, "obj": 0.01, "cls_pw": 1.0, "obj_pw": 1.0}
    twin.hyp |= {"fl_gamma": 0.0, "anchor_t": 4.0}
    twin.train()
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.testing.assert_close(loss, ComputeLoss(twin)(twin(images), labels)[0][0])
    twin.hyp["obj"] = 1.0
    own = calibrate(data, twin, imgsz=64, images=4)
    assert own.loss(model, found.batches[0]) > loss  # the hyperparameters of the model given


def test_hyperparameters_that_are_not_complete() -> None:
    model = build_tiny()
    model.hyp = {"box": 1.0, "cls": 1.0}
    hyp = loss_hyp(model, 320)
    assert [hyp[k] for k in ("box", "cls", "obj")] == pytest.approx([0.05, 0.5 * 4 / 80, 0.25])
    assert model.hyp == {"box": 1.0, "cls": 1.0}


def test_segmentation(tmp_path: Path) -> None:
    """Masks come with the batch; the BNs inside the head keep their statistics."""
    model = yolo.SegmentationModel(yaml.safe_load(TINY_SEG))
    randomise_norms_(model)
    model.eval()
    data = made(tmp_path, polygons=True)
    found = calibrate(data, model, imgsz=64, batch_size=3)
    images, (labels, masks) = found.batches[0]
    assert masks.shape == (3, 16, 16)
    for i, mask in enumerate(masks):  # each object has a number, drawn where it is seen
        assert set(mask.unique().tolist()) <= set(range(int((labels[:, 0] == i).sum()) + 1))
        assert mask.any()
    before = fingerprint(model)
    loss = found.loss(model, found.batches[0])
    assert fingerprint(model) == before
    blank = found.loss(model, (images, (labels, torch.zeros_like(masks))))
    assert blank != loss  # the masks count
    scores = score(model, channel_graph(model), "taylor", found)
    assert (scores["model.12.proto.cv1.bn"] > 0).any()
    with pytest.raises(InputError, match="a box .* expected an outline"):
        calibrate(made(tmp_path / "boxes", polygons=False), model, imgsz=64)


def test_bad_arguments(data, _tiny) -> None:
    wrong = {"images": 0, "batch_size": 0, "workers": -1}
    for name, value in wrong.items():
        with pytest.raises(InputError, match=f"calibration, {name}: {value}, expected"):
            calibrate(data, _tiny, **{"imgsz": 64, name: value})
    with pytest.raises(InputError, match="^imgsz: 65, expected a multiple of the stride, 32"):
        calibrate(data, _tiny, imgsz=65)
    with pytest.raises(InputError, match="train: .*: 3 classes, expected the 4 of the model"):
        calibrate({**data, "nc": 3}, _tiny, imgsz=64)


def test_data_that_cannot_be_used(copied, _tiny) -> None:
    train = Path(copied["train"])
    labels = train.parents[1] / "labels" / "train"
    with pytest.raises(InputError, match="test: None: no images"):
        calibrate(copied, _tiny, imgsz=64, split="test")
    first = sorted(labels.glob("*.txt"))[0]
    text = first.read_text()
    first.write_text("9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=f"{first}: class 9, expected 0 to 3"):
        calibrate(copied, _tiny, imgsz=64)
    first.write_text(text)
    for file in labels.glob("*.txt"):
        file.write_text("")
    with pytest.raises(InputError, match="train: .*: no labels of 3 images, expected some labels"):
        calibrate(copied, _tiny, imgsz=64)
    for file in labels.glob("*.txt"):
        file.unlink()
    with pytest.raises(InputError, match="no labels of 3 images"):
        calibrate(copied, _tiny, imgsz=64)
    for file in train.glob("*.*"):
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match="train: .*: cannot be read"):
        calibrate(copied, _tiny, imgsz=64)
