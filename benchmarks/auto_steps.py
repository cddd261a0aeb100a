"""Does --sr auto work for few optimizer steps as for many?

A small detector (the blocks of YOLOv5, 3 scales) learns shapes of 32 px in a loop of its own, with
YOLOv5's loss and a linearly falling learning rate, once for each number of steps and optimizer.
Said are the share of prunable gammas that are zero when three quarters are over and at the end, and
the loss over the last tenth, next to that of the same training without a penalty. The detector
takes some 15 ms a step; with --small a net of two convs, which learns the mean, the spread and the
left half of noise, takes its place: a millisecond or two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

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
from yolo_slim.shapes import box, draw_image
from yolo_slim.sparsify.schedule import descent
from yolo_slim.text import table

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


Task = tuple[nn.Module, Callable[[], torch.Tensor]]  # a model, and a function to a batch's loss


def detector() -> Task:
    """The small detector, with random batches of shapes."""
    images, boxes = samples()
    torch.manual_seed(0)
    model = DetectionModel(yaml.safe_load(CFG)).train()
    model.hyp = yaml.safe_load(HYP.read_text()) | {"label_smoothing": 0.0}
    loss_of = ComputeLoss(model)

    def loss() -> torch.Tensor:
        chosen = torch.randint(IMAGES, (BATCH,)).tolist()
        rows = [nn.functional.pad(boxes[j], (1, 0), value=i) for i, j in enumerate(chosen)]
        return loss_of(model(images[chosen]), torch.cat(rows))[0]

    return model, loss


def small() -> Task:
    """Two convs that learn mean, spread and left half of noise."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU()),
        *(nn.Conv2d(16, 40, 3, 2, padding=1, bias=False), nn.BatchNorm2d(40), nn.SiLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 3)),
    )
    model.image = (1, 8, 8)

    def loss() -> torch.Tensor:
        images = torch.randn(8, 1, 8, 8)
        flat = images.flatten(1)
        wanted = torch.stack([flat.mean(1), flat.std(1), images[..., :4].mean((1, 2, 3))], 1)
        return nn.functional.mse_loss(model(images), wanted)

    return model, loss


def train(
    task: Callable[[], Task], steps: int, optimizer: str, percent: float | None
) -> tuple[float, float, float]:
    """Train.

    Args:
        task: what is trained.
        steps: optimizer steps.
        optimizer: SGD, Adam or AdamW.
        percent: share for the penalty; None: without.

    Returns:
        Shares of the penalised gammas that are zero just after three quarters and at the end; the
        mean loss of the last tenth of the steps.
    """
    model, loss_of = task()
    lr = 0.01 if optimizer == "SGD" else 0.002
    extra = {"momentum": 0.937, "nesterov": True} if optimizer == "SGD" else {}
    stepper = getattr(torch.optim, optimizer)(model.parameters(), lr=lr, **extra)
    rates = [
        (i / steps, lr * min(1, 10 * i / steps) * (1 - 0.99 * i / steps)) for i in range(steps)
    ]
    penalty = SparsityPenalty(model, percent=percent or 0.0).follow(descent(rates))
    norms = [model.get_submodule(name) for name in penalty.names]
    if percent:
        penalty.attach(stepper)
    losses, reached = [], 0.0
    for step, (progress, rate) in enumerate(tqdm(rates, leave=False, mininterval=5)):
        penalty.progress, stepper.param_groups[0]["lr"] = progress, rate
        loss = loss_of()
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
    args.add_argument("--small", action="store_true", help="the small net")
    opt = args.parse_args()
    task, rows, found = small if opt.small else detector, [], []
    for steps in opt.steps:
        for name in opt.optimizers:
            reached, last, loss = train(task, steps, name, opt.percent)
            plain = train(task, steps, name, None)[2]
            rows.append([f"{steps:,}", name, f"{reached:.1%}", f"{last:.1%}"])
            rows[-1] += [f"{loss:.3g}", f"{plain:.3g}"]
            found.append({"steps": steps, "optimizer": name, "reached": reached, "last": last})
            found[-1] |= {"loss": loss, "plain": plain}
            print(" ".join(rows[-1]), flush=True)
    heads = ["steps", "optimizer", "zero at 3/4", "at the end", "loss", "without penalty"]
    print(table(heads, rows, f"--sr auto, percent {opt.percent:g}"))
    save_json(opt.json, small=opt.small, runs=found)


if __name__ == "__main__":
    main()
