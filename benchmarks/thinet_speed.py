"""How long ThiNet takes: the trials of the paper against one Gram matrix, and a whole model.

A layer: of 128 channels that a 3x3 conv with 128 filters reads, half are chosen, on 10 positions of
each of 64 maps. The slow loop is algorithm 1 as it is written: silence each channel that is left,
run the conv on the patches, keep the smallest norm. Ours has the maps to begin with, so that
drawing the patches and the Gram matrix count. Both must choose the same channels in the same order.
Rounds in turns; compared are the medians. Target: at least 100 times faster.

A model: thinet scores of all channels, and `reconstruct_` after a cut of a fifth of each layer, on
64 images.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _common import parser, random_model, save_json
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.channels.rules import channel_graph
from yolo_slim.pruning.activations import generator, patches
from yolo_slim.pruning.budget.choose import masks_by_percent
from yolo_slim.pruning.criteria.score import score
from yolo_slim.pruning.criteria.thinet import column_overlap, removal_order
from yolo_slim.pruning.rebuild.rebuild import rebuild
from yolo_slim.pruning.recover.reconstruct import reconstruct_
from yolo_slim.text import table

POSITIONS = 10


def maps(images: int, channels: int) -> torch.Tensor:
    """(images, channels, 20, 20): smooth, correlated, as after a conv and SiLU."""
    sources = F.interpolate(torch.randn(images, channels // 4, 7, 7), size=20, mode="bicubic")
    mixed = torch.einsum("nshw,cs->nchw", sources, torch.randn(channels, channels // 4))
    return F.silu(mixed / mixed.std() + 0.3 * torch.randn_like(mixed))


def ours(conv: Any, x: torch.Tensor, count: int) -> list[int]:
    """The channels that go first, by the Gram matrix."""
    read = patches(conv, x, POSITIONS, generator(0, "conv"))
    order, _ = removal_order(column_overlap(conv, read.T @ read / len(read)))
    return order[:count].tolist()


@torch.no_grad()
def slow(conv: Any, x: torch.Tensor, count: int) -> list[int]:
    """The same, by trying each channel."""
    read = patches(conv, x, POSITIONS, generator(0, "conv")).float()
    read = read.view(-1, conv.in_channels, *conv.kernel_size)
    gone: list[int] = []
    only = torch.zeros_like(read)  # the channels that are gone and the one that is tried
    while len(gone) < count:
        norms = {}
        for channel in set(range(conv.in_channels)) - set(gone):
            only[:, channel] = read[:, channel]
            norms[channel] = float(F.conv2d(only, conv.weight).norm())
            only[:, channel] = 0
        gone.append(min(norms, key=lambda c: norms[c]))
        only[:, gone[-1]] = read[:, gone[-1]]
    return gone


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--channels", type=int, default=128, help="of the layer")
    args.add_argument("--model", default="yolov5n", help="a model yaml of the host")
    args.add_argument("--imgsz", type=int, default=320, help="px of the model's images")
    args.add_argument("--images", type=int, default=64)
    args.add_argument("--rounds", type=int, default=3, help="timed rounds")
    opt = args.parse_args()

    torch.manual_seed(0)
    conv = nn.Conv2d(opt.channels, opt.channels, 3, padding=1, bias=False)
    x, half = maps(opt.images, opt.channels), opt.channels // 2
    ours(conv, x, half)
    times: dict[str, list[float]] = {"ours": [], "slow": []}
    for _ in tqdm(range(opt.rounds), desc="a layer", unit="round"):
        took, mine = seconds(lambda: ours(conv, x, half))
        times["ours"].append(took)
        took, theirs = seconds(lambda: slow(conv, x, half))
        times["slow"].append(took)
        assert mine == theirs, "not the same channels"
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["slow"] / medians["ours"]

    model = random_model(opt.model).eval()
    images = torch.rand(opt.images, 3, opt.imgsz, opt.imgsz)
    calibration = Calibration(tuple((part, None) for part in images.split(8)))
    graph = channel_graph(model, "inner")
    scoring, scores = seconds(lambda: score(model, graph, "thinet", calibration))
    masks = masks_by_percent(graph, scores, 0.2, spread="uniform")
    pruned = rebuild(model, graph, masks)
    fitting, _ = seconds(lambda: reconstruct_(pruned, model, graph, masks, calibration))

    rows = [
        ["trials", f"{medians['slow']:.2f}", "1"],
        ["one Gram matrix", f"{medians['ours']:.3f}", f"{ratio:.0f}"],
    ]
    print(f"{half} of {opt.channels} channels before a 3x3 conv, medians of {opt.rounds}")
    print(table(["", "s", "times faster"], rows))
    print("target: at least 100 times faster")
    rows = [["thinet scores", f"{scoring:.1f}"], ["least squares", f"{fitting:.1f}"]]
    print(f"{opt.model}, {opt.images} images of {opt.imgsz} px")
    print(table(["", "s"], rows))
    save_json(
        opt.json,
        channels=opt.channels,
        seconds=times,
        ratio=ratio,
        model=opt.model,
        imgsz=opt.imgsz,
        images=opt.images,
        scoring_s=scoring,
        fitting_s=fitting,
    )


if __name__ == "__main__":
    main()
