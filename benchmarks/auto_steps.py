"""Does --sr auto work for 100 optimizer steps as for 100,000?

A small detector (the blocks of YOLOv5, 3 scales) learns shapes of 32 px in a loop of its own, with
YOLOv5's loss and a linearly falling learning rate, once for each number of steps and optimizer.
Said are the share of prunable gammas that are zero when three quarters are over and at the end, and
the loss over the last tenth, next to that of the same training without a penalty (--alone: not).
100,000 steps take about half an hour of one core for each training.
"""

from __future__ import annotations

import math
import statistics

import cv2
import numpy as np
import torch
import yaml
from _common import parser, save_json
from penalty_overhead import HYP
from torch import nn
from tqdm import tqdm
from yolov5.models.yolo import DetectionModel
from yolov5.utils.loss import ComputeLoss

from yolo_slim import SparsityPenalty
from yolo_slim.report.tables import table
from yolo_slim.shapes import box, draw_image

SIZE, IMAGES, BATCH = 32, 512, 4
CFG = """
nc: 4
depth_multiple: 0.33
width_multiple: 0.25
anchors: [[4, 4, 8, 8], [8, 14, 14, 8], [16, 16, 24, 24]]
backbone:
  - [-1, 1, Conv, [64, 6, 2, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, C3, [64]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, C3, [128, False]]
  - [[2, 7, 4], 1, Detect, [nc, anchors]]
"""


def samples() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Images (IMAGES, 3, SIZE, SIZE) in [0, 1], and of each its boxes (n, 5): class, x, y, w, h."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for _ in range(IMAGES):
        image, shapes = draw_image(rng, 4 * SIZE)
        image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        images.append(torch.from_numpy(image).permute(2, 0, 1).float() / 255)
        rows = [[c, *(box(points, 4 * SIZE) / (4 * SIZE))] for c, points in shapes]
        boxes.append(torch.tensor(np.array(rows, dtype=np.float32)))
    return torch.stack(images), boxes


def train(
    steps: int, optimizer: str, lr: float, percent: float | None, data: tuple
) -> tuple[float, float, float]:
    """Train.

    Args:
        steps: optimizer steps of BATCH images.
        optimizer: a class of torch.optim.
        lr: where the rate begins.
        percent: share for the penalty; None: without.
        data: from `samples`.

    Returns:
        Shares of the penalised gammas that are zero at three quarters and at the end; the mean loss
        of the last tenth of the steps.
    """
    torch.manual_seed(0)
    model = DetectionModel(yaml.safe_load(CFG)).train()
    hyp = yaml.safe_load(HYP.read_text())
    model.hyp = hyp | {"label_smoothing": 0.0}
    extra = {"momentum": 0.937, "nesterov": True} if optimizer == "SGD" else {}
    stepper = getattr(torch.optim, optimizer)(model.parameters(), lr=lr, **extra)
    penalty = SparsityPenalty(model, percent=percent or 0.0)
    norms = [model.get_submodule(name) for name in penalty.names]
    if percent:
        penalty.attach(stepper)
    loss_of, losses, reached = ComputeLoss(model), [], 0.0
    images, boxes = data
    for step in tqdm(range(steps), leave=False, mininterval=5):
        penalty.progress = step / steps
        chosen = torch.randint(IMAGES, (BATCH,)).tolist()
        rows = [nn.functional.pad(boxes[j], (1, 0), value=i) for i, j in enumerate(chosen)]
        loss, _ = loss_of(model(images[chosen]), torch.cat(rows))
        stepper.param_groups[0]["lr"] = lr * min(1, 10 * step / steps) * (1 - 0.99 * step / steps)
        stepper.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        stepper.step()
        losses.append(loss.item())
        if step == int(0.76 * steps):
            reached = zeros(norms)
    return reached, zeros(norms), statistics.mean(losses[-max(steps // 10, 1) :])


def zeros(norms: list[nn.Module]) -> float:
    """Share of their gammas that are exactly zero."""
    return torch.cat([norm.weight.detach() == 0 for norm in norms]).float().mean().item()


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--steps", type=int, nargs="+", default=[100, 1000, 10_000], help="of a run")
    args.add_argument("--optimizers", nargs="+", default=["SGD", "Adam", "AdamW"])
    args.add_argument("--percent", type=float, default=0.6)
    args.add_argument("--alone", action="store_true", help="not the plain trainings")
    opt = args.parse_args()
    data, rows, found = samples(), [], []
    for steps in opt.steps:
        for name in opt.optimizers:
            lr = 0.01 if name == "SGD" else 0.002
            reached, last, loss = train(steps, name, lr, opt.percent, data)
            plain = math.nan if opt.alone else train(steps, name, lr, None, data)[2]
            rows.append([f"{steps:,}", name, f"{reached:.1%}", f"{last:.1%}"])
            rows[-1] += [f"{loss:.3f}", f"{plain:.3f}"]
            found.append({"steps": steps, "optimizer": name, "reached": reached, "last": last})
            found[-1] |= {"loss": loss, "plain": plain}
            print(" ".join(rows[-1]), flush=True)
    heads = ["steps", "optimizer", "zero at 3/4", "at the end", "loss", "without penalty"]
    print(table(heads, rows, f"--sr auto, percent {opt.percent:g}"))
    save_json(opt.json, runs=found)


if __name__ == "__main__":
    main()
