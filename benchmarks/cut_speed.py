"""How long it takes to cut a model: yolo_slim against torch-pruning 1.6.1.

yolo_slim: channel_graph, score, masks_by_percent and rebuild; and check_parity, timed by itself.
torch-pruning: MagnitudePruner with the L2 norm of the filters, global ranking, the Detect layer
ignored, its DependencyGraph built from one traced forward pass, as YOLOv5 is usually cut with it.
Both get the same model (random weights) and the same share of channels; the residual adds are cut
by both (residual="group"). torch-pruning changes its model, so each round it gets a fresh copy,
which is not timed. Rounds in turns; compared are the medians.
Targets: yolo_slim at most 2 s for yolov5l, and at least 10 times faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
import torch_pruning as tp
from _common import parser, random_model, save_json
from torch import nn
from tqdm import tqdm

from yolo_slim.channels.rules import channel_graph
from yolo_slim.pruning.budget.choose import masks_by_percent
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.rebuild.parity import check_parity
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.text import table

Times = dict[str, list[float]]
STAGES = ("graph", "scores and masks", "rebuild", "check_parity")


@contextmanager
def clock(times: Times, name: str) -> Iterator[None]:
    """Add the seconds that the block takes to times[name]."""
    start = time.perf_counter()
    yield
    times.setdefault(name, []).append(time.perf_counter() - start)


def cut_ours(model: nn.Module, percent: float, times: Times) -> nn.Module:
    """yolo_slim, each stage timed."""
    with clock(times, "graph"):
        graph = channel_graph(model, "group")
    with clock(times, "scores and masks"):
        masks = masks_by_percent(graph, score(model, graph), percent)
    with clock(times, "rebuild"):
        pruned = rebuild(model, graph, masks)
    with clock(times, "check_parity"):
        parity = check_parity(model, pruned, graph, masks)
    assert parity.holds, parity
    return pruned


def cut_theirs(model: nn.Module, percent: float, imgsz: int, times: Times) -> nn.Module:
    """torch-pruning; the model itself is cut."""
    image = torch.zeros(1, 3, imgsz, imgsz)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with clock(times, "torch-pruning"):
        pruner = tp.pruner.MagnitudePruner(
            model,
            image,
            importance=tp.importance.MagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=percent,
            ignored_layers=[model.model[-1]],
        )
        pruner.step()
    return model


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--model", default="yolov5l", help="a model yaml of the host")
    args.add_argument("--percent", type=float, default=0.5, help="share of the channels to cut")
    args.add_argument("--imgsz", type=int, default=640, help="px of torch-pruning's traced image")
    args.add_argument("--rounds", type=int, default=3, help="timed rounds")
    opt = args.parse_args()

    model, times = random_model(opt.model), {}  # type: nn.Module, Times
    cut_ours(model, opt.percent, {})
    runs: list[Callable[[], nn.Module]] = [
        lambda: cut_ours(model, opt.percent, times),
        lambda: cut_theirs(deepcopy(model), opt.percent, opt.imgsz, times),
    ]
    left = [0, 0]
    for index in tqdm(range(2 * opt.rounds), desc="cutting", unit="cut"):
        which = (index + index // 2) % 2  # ours first, then theirs first
        left[which] = params(runs[which]())

    cut_times = [sum(stages) for stages in zip(*(times[s] for s in STAGES[:3]), strict=True)]
    cut, checked = (
        statistics.median(cut_times),
        statistics.median(a + b for a, b in zip(cut_times, times["check_parity"], strict=True)),
    )
    theirs = statistics.median(times["torch-pruning"])
    rows = [[f"  {name}", f"{statistics.median(times[name]):.3f}", "", ""] for name in STAGES]
    rows += [
        [name, f"{seconds:.2f}", f"{theirs / seconds:.1f}", f"{count / 1e6:.1f}"]
        for name, seconds, count in (
            ("yolo_slim, cut", cut, left[0]),
            ("yolo_slim, cut and proven", checked, left[0]),
            ("torch-pruning 1.6.1", theirs, left[1]),
        )
    ]
    size = f"{params(model) / 1e6:.1f} M params"
    title = f"{opt.model} ({size}), {opt.percent:.0%} of channels cut, medians of {opt.rounds}"
    print(table(["", "s", "times faster", "M params left"], rows, title))
    print("targets: yolo_slim at most 2 s for yolov5l, at least 10 times faster")
    save_json(
        opt.json,
        model=opt.model,
        percent=opt.percent,
        cut_s=cut,
        checked_s=checked,
        torch_pruning_s=theirs,
        ratio=theirs / cut,
        ratio_checked=theirs / checked,
        seconds=times,
    )


if __name__ == "__main__":
    main()
