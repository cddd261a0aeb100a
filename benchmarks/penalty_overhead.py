"""What SparsityPenalty adds to a training step.

Two copies of yolov5n, each with its own SGD (the host's smart_optimizer), take the same training
steps on the same synthetic batch as yolov5.train does: forward, ComputeLoss, backward,
clip_grad_norm_, optimizer.step, zero_grad. One has the penalty attached. They step in turns, in an
order that changes; compared are the medians.

On a shared machine that difference drowns in noise, so the penalty's own call is also timed by
itself, where it runs: between the backward pass and the optimizer, its data not in the cache.
Target: at most 2% added.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
import yaml
from _common import parser, random_model, save_json
from torch import nn
from yolov5 import data
from yolov5.utils.loss import ComputeLoss
from yolov5.utils.torch_utils import smart_optimizer

from yolo_slim import SparsityPenalty
from yolo_slim.measure.latency import interleaved
from yolo_slim.report.tables import table

HYP = Path(data.__path__[0]) / "hyps" / "hyp.scratch-low.yaml"


def batch(size: int, imgsz: int, nc: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images (size, 3, imgsz, imgsz) and targets (6 an image; image, class, x, y, w, h)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, 3, imgsz, imgsz, generator=generator)
    boxes = 0.2 + 0.6 * torch.rand(6 * size, 2, generator=generator)
    sides = 0.05 + 0.3 * torch.rand(6 * size, 2, generator=generator)
    classes = torch.randint(nc, (6 * size, 1), generator=generator)
    index = torch.arange(size).repeat_interleave(6)[:, None]
    return images, torch.cat([index, classes, boxes, sides], 1)


def stepper(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor
) -> tuple[Callable[[], None], torch.optim.Optimizer, ComputeLoss]:
    """A function that takes one training step of yolov5.train, its optimizer and its loss."""
    model.train()
    hyp = yaml.safe_load(HYP.read_text())
    model.hyp = hyp | {"label_smoothing": 0.0, "obj": hyp["obj"] * (images.shape[-1] / 640) ** 2}
    optimizer = smart_optimizer(model, "SGD", hyp["lr0"], hyp["momentum"], hyp["weight_decay"])
    loss_of = ComputeLoss(model)

    def step() -> None:
        loss, _ = loss_of(model(images), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        optimizer.step()
        optimizer.zero_grad()

    return step, optimizer, loss_of


def timed(function: Callable[[], None], into: list[float]) -> Callable[[], None]:
    """The function, its times (ms) added to a list."""

    def call() -> None:
        start = time.perf_counter()
        function()
        into.append(1e3 * (time.perf_counter() - start))

    return call


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--model", default="yolov5n", help="a model yaml of the host")
    args.add_argument("--batch", type=int, default=16, help="images a step")
    args.add_argument("--imgsz", type=int, default=160, help="px")
    args.add_argument("--steps", type=int, default=60, help="timed steps of each")
    args.add_argument("--residual", default="skip", help="skip, inner or group")
    opt = args.parse_args()

    model = random_model(opt.model)
    images, targets = batch(opt.batch, opt.imgsz, model.nc)
    plain, *_ = stepper(deepcopy(model), images, targets)
    sparse, optimizer, _ = stepper(model, images, targets)
    penalty = SparsityPenalty(model, sr=2e-4, residual=opt.residual)
    calls: list[float] = []
    penalty.add_to_gradients_ = timed(penalty.add_to_gradients_, calls)
    penalty.attach(optimizer)
    times = interleaved({"without": plain, "with": sparse}, repeats=opt.steps, warmup=5)
    assert len(calls) == opt.steps + 5

    base, call = times["without"].median, statistics.median(calls[5:])
    added, share = times["with"].median / base - 1, call / base
    rows = [
        [f"step {name} it", f"{t.median:.1f}", f"{t.spread:.1f}", f"{t.median / base:.4f}"]
        for name, t in times.items()
    ] + [
        ["the penalty's call alone", f"{call:.2f}", "", f"{share:.4f}"],
    ]
    title = f"{opt.model}, batch {opt.batch}, {opt.imgsz} px, {opt.steps} steps each, in turns"
    title += f", residual {opt.residual}"
    print(table(["", "median, ms", "between quartiles, ms", "of a step"], rows, title))
    print(f"added: {added:+.2%} of a step by difference, {share:.2%} by its own time (target: 2%)")
    save_json(
        opt.json,
        without_ms=base,
        with_ms=times["with"].median,
        added=added,
        call_ms=call,
        call_share=share,
        penalised_norms=len(penalty.names),
    )


if __name__ == "__main__":
    main()
