"""What a teacher adds to a training step of a pruned model: steps with it and without, in turns.

A step is YOLOv5's: forward, its loss, backward, clipped gradients, its optimizer; images and labels
are random. The student is the model cut to a share of its MACs, the teacher the model itself.
Target: at most 1.6 times as long on the CPU.
"""

from __future__ import annotations

from copy import deepcopy

from _common import parser, random_model, save_json
from penalty_overhead import batch, stepper

from yolo_slim import prune
from yolo_slim.distill.teacher import Teacher
from yolo_slim.measure.latency import interleaved
from yolo_slim.report.tables import table


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
    taught, optimizer, loss_of = stepper(student, images, targets)
    teacher = Teacher(model, student, optimizer)
    teacher.attach()
    compute = type(loss_of).__call__

    class Taught(type(loss_of)):  # type: ignore[misc]
        def __call__(self, outputs, *args):
            loss, items = compute(self, outputs, *args)
            return loss + teacher.loss(outputs) * len(images), items

    loss_of.__class__ = Taught
    times = interleaved({"without": plain, "with": taught}, repeats=opt.steps, warmup=3)
    base = times["without"].median
    rows = [
        [f"step {name} it", f"{t.median:.1f}", f"{t.spread:.1f}", f"{t.median / base:.2f}"]
        for name, t in times.items()
    ]
    title = f"{opt.model} at {opt.macs:g} of its MACs, batch {opt.batch}, {opt.imgsz} px, "
    title += f"{opt.steps} steps each, in turns"
    print(table(["", "median, ms", "between quartiles, ms", "ratio"], rows, title))
    print("target: at most 1.60")
    save_json(opt.json, without_ms=base, ratio=times["with"].median / base)


if __name__ == "__main__":
    main()
