"""What SparsityPenalty adds to a training step, in time and in memory.

Two copies of yolov5n, each with its own SGD (the host's smart_optimizer), take the same training
steps on the same synthetic batch as yolov5.train does: forward, ComputeLoss, backward,
clip_grad_norm_, optimizer.step, zero_grad. One has the penalty attached. They step in turns, in an
order that changes; compared are the medians.

On a shared machine that difference drowns in noise, so the penalty's own calls are also timed by
themselves, where they run: before and after the optimizer, their data not in the cache. Memory is
the peak of a process of its own that takes a few steps, with and without, in turns.
Targets: at most 2% of a step, at most 1% of the memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
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
from yolo_slim.text import table

Calls = tuple[list[float], list[float]]
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


def timed(function: Callable[..., None], into: list[float]) -> Callable[..., None]:
    """The function, its times (ms) added to a list."""

    def call(*args: object) -> None:
        start = time.perf_counter()
        function(*args)
        into.append(1e3 * (time.perf_counter() - start))

    return call


def attach(model: nn.Module, optimizer: torch.optim.Optimizer, opt: argparse.Namespace) -> Calls:
    """The penalty on an optimizer; the times of its calls before and after a step, ms."""
    sr = opt.sr if opt.sr == "auto" else float(opt.sr)
    penalty = SparsityPenalty(model, sr, penalty=opt.penalty, residual=opt.residual)
    calls: Calls = ([], [])
    penalty.before_step_ = timed(penalty.before_step_, calls[0])
    penalty.after_step_ = timed(penalty.after_step_, calls[1])
    count = iter(range(opt.steps + 5))

    def go_on(*_: object) -> None:
        penalty.progress = next(count) / (opt.steps + 5) * 0.7  # auto is at work, with its plans

    optimizer.register_step_pre_hook(go_on)
    penalty.attach(optimizer)
    return calls


def peak(opt: argparse.Namespace, with_penalty: bool) -> int:
    """Peak memory of a process that takes 8 steps, kB."""
    options = ["--model", opt.model, "--batch", str(opt.batch), "--imgsz", str(opt.imgsz)]
    options += ["--sr", opt.sr, "--residual", opt.residual, "--steps", "8"]
    options += ["--penalty", opt.penalty] if opt.penalty else []
    command = [sys.executable, __file__, *options, "--peak", "with" if with_penalty else "without"]
    return int(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--model", default="yolov5n", help="a model yaml of the host")
    args.add_argument("--batch", type=int, default=16, help="images a step")
    args.add_argument("--imgsz", type=int, default=160, help="px")
    args.add_argument("--steps", type=int, default=60, help="timed steps of each")
    args.add_argument("--sr", default="auto", help="auto, or a number")
    args.add_argument("--penalty", help="prox or l1; default as in train_sparse.py")
    args.add_argument("--residual", default="skip", help="skip, inner or group")
    args.add_argument("--peak", choices=["with", "without"], help=argparse.SUPPRESS)
    opt = args.parse_args()

    model = random_model(opt.model)
    images, targets = batch(opt.batch, opt.imgsz, model.nc)
    if opt.peak:
        step, optimizer, _ = stepper(model, images, targets)
        if opt.peak == "with":
            attach(model, optimizer, opt)
        for _ in range(opt.steps):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    plain, *_ = stepper(deepcopy(model), images, targets)
    sparse, optimizer, _ = stepper(model, images, targets)
    calls = attach(model, optimizer, opt)
    times = interleaved({"without": plain, "with": sparse}, repeats=opt.steps, warmup=5)
    both = [a + b for a, b in zip(*calls, strict=True)][5:]
    assert len(both) == opt.steps
    memory = [[peak(opt, with_penalty) for with_penalty in (False, True)] for _ in range(3)]
    without, held = (statistics.median(column) / 1e3 for column in zip(*memory, strict=True))

    # of the calls the mean: a plan is made now and then, and counts
    base, call = times["without"].median, statistics.mean(both)
    added, share, more = times["with"].median / base - 1, call / base, held / without - 1
    rows = [
        [f"step {name} it", f"{t.median:.1f}", f"{t.spread:.1f}", f"{t.median / base:.4f}"]
        for name, t in times.items()
    ] + [
        ["the penalty's calls alone, mean", f"{call:.2f}", "", f"{share:.4f}"],
    ]
    title = f"{opt.model}, batch {opt.batch}, {opt.imgsz} px, {opt.steps} steps each, in turns"
    title += f", sr {opt.sr}, residual {opt.residual}"
    print(table(["", "median, ms", "between quartiles, ms", "of a step"], rows, title))
    print(f"added: {added:+.2%} of a step by difference, {share:.2%} by its own time (target: 2%)")
    print(f"peak memory: {without:.0f} MB without, {held:.0f} MB with: {more:+.2%} (target: 1%)")
    save_json(
        opt.json,
        without_ms=base,
        with_ms=times["with"].median,
        added=added,
        call_ms=call,
        call_share=share,
        memory_mb=[without, held],
    )


if __name__ == "__main__":
    main()
