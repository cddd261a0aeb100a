"""What only a CUDA machine can show; elsewhere it says so in one line and ends with code 0.

1. yolov5s, cut on the CPU, gives the same raw output on the GPU (float32, TF32 off), and a model
   that is cut while it lies on the GPU has parity.
2. Training steps under autocast and GradScaler with the penalty attached, sr "auto": its call is
   counted at each step, a step that overflows is skipped with the penalty and moves no weight, and
   the share that was asked for is at zero in the end.
3. Latency of the dense and the pruned model in half precision, fused, in turns, synchronised.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from _common import parser, random_model, save_json
from penalty_overhead import batch, stepper
from torch import nn
from tqdm import tqdm

from yolo_slim import SparsityPenalty, prune
from yolo_slim.measure.latency import interleaved
from yolo_slim.text import table


def output_error(model: nn.Module, imgsz: int) -> float:
    """Largest difference of the raw outputs on GPU and CPU, in standard deviations of them."""
    image = torch.rand(2, 3, imgsz, imgsz, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = deepcopy(model).cpu().eval()(image)[1]
        found = deepcopy(model).cuda().eval()(image.cuda())[1]
    errors = [(f.cpu() - e).abs().max() / e.std() for e, f in zip(expected, found, strict=True)]
    return float(torch.stack(errors).max())


def amp_steps(model: nn.Module, imgsz: int, steps: int) -> dict[str, object]:
    """Train under AMP; the middle step's gradients overflow."""
    images, targets = (t.cuda() for t in batch(16, imgsz, model.nc))
    _, optimizer, loss_of = stepper(model, images, targets)
    penalty, calls = SparsityPenalty(model, percent=0.5), []  # type: SparsityPenalty, list[int]
    act, scaler = penalty.after_step_, torch.amp.GradScaler("cuda", init_scale=1024.0)
    penalty.after_step_ = lambda optimizer: (calls.append(index), act(optimizer))
    penalty.attach(optimizer)
    losses, moved = [], True
    for index in tqdm(range(steps), desc="AMP", unit="step", leave=False):
        penalty.progress = index / steps
        with torch.autocast("cuda"):
            loss, _ = loss_of(model(images), targets)
        scaler.scale(loss).backward()
        before = [p.detach().clone() for p in model.parameters()]
        if index == steps // 2:
            next(model.parameters()).grad.fill_(float("inf"))
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(float(loss))
        if index == steps // 2:
            pairs = zip(before, model.parameters(), strict=True)
            moved = any(not torch.equal(a, b) for a, b in pairs)
    skipped = sorted(set(range(steps)) - set(calls))
    return {
        "skipped": skipped,
        "overflow_at": steps // 2,
        "moved": moved,
        "finite": all(bool(p.isfinite().all()) for p in model.parameters()),
        "losses": losses,
        "zero": float((penalty.norms.flat("weight") == 0).float().mean()),
    }


def waited_for(model: nn.Module, imgsz: int, size: int) -> Callable[[], None]:
    """A forward pass in half precision on the GPU, to its end."""
    net = deepcopy(model).cuda().fuse().half().eval()
    images = torch.rand(size, 3, imgsz, imgsz).cuda().half()

    @torch.no_grad()
    def call() -> None:
        net(images)
        torch.cuda.synchronize()

    return call


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--model", default="yolov5s", help="a model yaml of the host")
    args.add_argument("--percent", type=float, default=0.6, help="share of the channels to cut")
    args.add_argument("--imgsz", type=int, default=640, help="px, of the latency")
    args.add_argument("--batch", type=int, default=16, help="images a call, of the latency")
    args.add_argument("--steps", type=int, default=8, help="AMP training steps")
    opt = args.parse_args()
    if not torch.cuda.is_available():
        print("gpu_parity: no CUDA device here, nothing is checked")
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    model = random_model(opt.model)
    pruned = prune(model, opt.percent)
    on_gpu = prune(deepcopy(model).cuda(), opt.percent)  # raises where the parity is broken
    error = output_error(pruned.model, 320)
    amp = amp_steps(deepcopy(pruned.model).cuda(), 160, opt.steps)
    calls = {"dense": waited_for(model, opt.imgsz, opt.batch)}
    calls["pruned"] = waited_for(pruned.model, opt.imgsz, opt.batch)
    times = interleaved(calls, repeats=100, warmup=20)
    ratio = times["dense"].median / times["pruned"].median

    skips = amp["skipped"] == [amp["overflow_at"]] and not amp["moved"] and amp["finite"]
    rows = [
        ["CPU parity, float64", f"{pruned.parity.error:.1e}", "1e-9"],
        ["parity of a model cut on the GPU", f"{on_gpu.parity.error:.1e}", "1e-9"],
        ["GPU against CPU, float32", f"{error:.1e}", "1e-3"],
        ["AMP: the overflow alone is skipped", str(skips), "True"],
        ["AMP: channels at zero, sr auto", f"{amp['zero']:.3f}", "0.5"],
        ["dense, ms", f"{times['dense'].median:.2f}", ""],
        ["pruned, ms", f"{times['pruned'].median:.2f}", ""],
        ["times faster", f"{ratio:.2f}", ""],
    ]
    print(table(["", "found", "target"], rows, f"{opt.model} on {torch.cuda.get_device_name()}"))
    save_json(
        opt.json,
        device=torch.cuda.get_device_name(),
        gpu_error=error,
        amp=amp,
        ratio=ratio,
        dense_ms=times["dense"].median,
        pruned_ms=times["pruned"].median,
    )
    if error > 1e-3 or not skips or abs(amp["zero"] - 0.5) > 0.011:
        raise SystemExit("gpu_parity: a figure misses its target")


if __name__ == "__main__":
    main()
