"""What a teacher, or hints, add to a training step of a pruned model: with and without, in turns.

A step is YOLOv5's: forward, its loss, backward, clipped gradients, its optimizer; images and labels
are random. The student is the model cut to a share of its MACs, the teacher the model itself.
Target: at most 1.6 times as long on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from _common import parser, random_model, save_json
from penalty_overhead import batch, stepper

from yolo_slim import prune
from yolo_slim.distill.hints import Hints
from yolo_slim.distill.teacher import Teacher
from yolo_slim.measure.latency import interleaved
from yolo_slim.text import table


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--model", default="yolov5n", help="a model yaml of the host")
    args.add_argument("--macs", type=float, default=0.45, help="share of them that the student has")
    args.add_argument("--batch", type=int, default=16, help="images a step")
    args.add_argument("--imgsz", type=int, default=320, help="px")
    args.add_argument("--steps", type=int, default=30, help="timed steps of each")
    opt = args.parse_args()

    model = random_model(opt.model)
    images, targets = batch(opt.batch, opt.imgsz, model.nc)
    options = {"criterion": "random", "budget": "uniform", "residual": "inner", "imgsz": opt.imgsz}
    student = prune(model, macs=opt.macs, **options).model.train()
    plain, *_ = stepper(deepcopy(student), images, targets)
    copy = deepcopy(student)
    taught, optimizer, loss_of = stepper(copy, images, targets)
    teacher = Teacher(model, copy, optimizer)
    teacher.attach()
    add_(loss_of, lambda outputs: teacher.loss(outputs) * len(images))
    copy = deepcopy(student)
    hinted, _, loss_of = stepper(copy, images, targets)
    hints = Hints(model, copy, student.maskbndict)
    hints.attach()
    add_(loss_of, lambda outputs: hints.loss(0.0))
    steps = {"alone": plain, "with a teacher": taught, "with hints": hinted}
    times = interleaved(steps, repeats=opt.steps, warmup=3)
    base = times["alone"].median
    rows = [
        [f"step {name}", f"{t.median:.1f}", f"{t.spread:.1f}", f"{t.median / base:.2f}"]
        for name, t in times.items()
    ]
    title = f"{opt.model} at {opt.macs:g} of its MACs, batch {opt.batch}, {opt.imgsz} px, "
    title += f"{opt.steps} steps each, in turns"
    print(table(["", "median, ms", "between quartiles, ms", "ratio"], rows, title))
    print("target: at most 1.60")
    ratios = {name: t.median / base for name, t in times.items()}
    save_json(opt.json, alone_ms=base, ratios=ratios)


def add_(loss_of: Any, more: Callable[[Any], Any]) -> None:
    """Add to what a loss of the host comes to, in place."""
    compute = type(loss_of).__call__

    class More(type(loss_of)):  # type: ignore[misc]
        def __call__(self, outputs, *args):
            loss, items = compute(self, outputs, *args)
            return loss + more(outputs), items

    loss_of.__class__ = More


if __name__ == "__main__":
    main()
