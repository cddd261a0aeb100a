"""A detector of seconds whose mAP is high: the labels of its images are what it finds itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from conftest import build_tiny
from torch import nn

from yolo_slim import save
from yolo_slim.host.validation import general
from yolo_slim.shapes import NAMES, make_shapes

IMGSZ, BORDER = 64, 16


def to_batch(files: list[Path]) -> torch.Tensor:
    """(n, 3, 96, 96) in [0, 1]: with the grey border that the host's validation adds."""
    read = [cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1).copy() for file in files]
    images = torch.from_numpy(np.stack(read)).float()
    return nn.functional.pad(images, (BORDER,) * 4, value=114) / 255


def self_labelled(base: Path, train: int = 2) -> tuple[Path, Path]:
    """A checkpoint in a folder, and the data yaml of 6 images that it was given the labels of."""
    model = build_tiny()
    folder = make_shapes(base / "shapes", train=train, val=6, size=IMGSZ)
    data = {"path": str(folder), "train": "images/train", "val": "images/val"}
    (base / "data.yaml").write_text(yaml.safe_dump({**data, "names": dict(enumerate(NAMES))}))
    files = sorted((folder / "images" / "val").glob("*.png"))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for conv in model.model[-1].m:  # an eager head, that is seldom sure of an object
            nn.init.normal_(conv.weight, std=1.5 / conv.in_channels**0.5)
            nn.init.zeros_(conv.bias).view(3, -1)[:, 4] = -6
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()(to_batch(files))
        for norm in norms:
            norm.momentum = 0.03
        found = model.eval()(to_batch(files))[0]
    found = general.non_max_suppression(found, 0.001, 0.6, multi_label=True)
    sure = torch.cat(found)[:, 4].sort(descending=True).values[40]
    for file, boxes in zip(files, (boxes[boxes[:, 4] > sure] for boxes in found), strict=True):
        xywh = general.xyxy2xywh((boxes[:, :4] - BORDER).clamp(0, IMGSZ)) / IMGSZ
        rows = torch.cat([boxes[:, 5:], xywh], 1).tolist()
        text = "".join(f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in rows)
        (folder / "labels" / "val" / f"{file.stem}.txt").write_text(text)
    return save(model, base / "model.pt"), base / "data.yaml"
