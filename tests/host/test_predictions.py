"""What a validation sees: the same mAP, the boxes behind it, AP by class."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from yolo_slim import load
from yolo_slim.host.data import read_data
from yolo_slim.host.predictions import predictions, true_objects
from yolo_slim.host.validation import Validation


def validation(model: nn.Module, yaml: Path) -> Validation:
    return Validation(model, read_data(yaml), imgsz=64, progress=False)


def test_the_labels_are_those_of_the_files(tiny_model: nn.Module, shapes_yaml: Path) -> None:
    images = true_objects(validation(tiny_model, shapes_yaml))
    assert len(images) == 8
    for image in images:
        text = Path(str(image.file).replace("images", "labels")).with_suffix(".txt").read_text()
        rows = np.array([line.split() for line in text.splitlines()], dtype=float)
        assert sorted(image.labels) == sorted(rows[:, 0].astype(int))
        height, width = image.size
        widths = image.corners[:, 2] - image.corners[:, 0]
        assert sorted(widths) == pytest.approx(sorted(rows[:, 3] * width), abs=1e-3)
        assert image.corners[:, 3].max() <= height + 1e-3


def test_boxes_of_a_very_wide_image(tiny_model: nn.Module, tmp_path: Path) -> None:
    """Its sides are scaled by different ratios, since both are whole px."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "wide.png"), np.zeros((101, 1000, 3), np.uint8))
    (tmp_path / "labels" / "wide.txt").write_text("0 0.9 0.5 0.1 0.5")
    data = read_data(
        {"train": str(tmp_path / "images"), "val": str(tmp_path / "images"), "names": {0: "a"}}
        | {"nc": 1}
    )
    model = tiny_model
    (image,) = true_objects(Validation(model, data, imgsz=96, progress=False))
    assert image.corners[0] == pytest.approx([850, 25.25, 950, 75.75], abs=0.5)


def test_masks_change_nothing_of_the_boxes(tiny_seg: nn.Module, seg_yaml: Path) -> None:
    seen = predictions(validation(tiny_seg, seg_yaml), tiny_seg, least=0.0)
    assert seen.accuracy == validation(tiny_seg, seg_yaml)(tiny_seg)
    assert len(seen.images) == 8 and seen.accuracy.mask_map is not None


def test_real_boxes_and_their_ap(shared: Path, tmp_path: Path) -> None:
    """The mean of AP by class is mAP; the boxes are those of detect, in px of the image."""
    model = load(next(shared.rglob("yolov5n.pt"))).model
    pictures = sorted((shared / "coco128").rglob("*.jpg"))[:12]
    assert pictures
    listed = tmp_path / "some.txt"
    listed.write_text("\n".join(map(str, pictures)))
    names = {i: str(name) for i, name in enumerate(model.names.values())}
    data = read_data({"train": str(listed), "val": str(listed), "names": names, "nc": len(names)})
    validate = Validation(model, data, imgsz=320, progress=False)
    seen = predictions(validate, model, least=0.25)
    assert seen.accuracy == validate(model)
    assert np.mean([ap for _, ap in seen.classes.values()]) == pytest.approx(seen.accuracy.map)
    assert np.mean([ap for ap, _ in seen.classes.values()]) == pytest.approx(seen.accuracy.map50)
    for image in seen.images:
        same = image.labels[:, None] == image.labels[None]
        iou = box_iou(*[torch.from_numpy(image.corners)] * 2).numpy()
        assert np.triu(iou * same, 1).max(initial=0) <= 0.45 + 1e-3
        assert (image.scores >= 0.25).all() and (np.diff(image.scores) <= 0).all()
        height, width = image.size
        assert image.corners[:, [0, 2]].max(initial=0) <= width
        assert image.corners[:, [1, 3]].max(initial=0) <= height
