"""A share of the latency as the target: cut, measure, and try another share of the MACs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn
from tqdm import tqdm

from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.deploy.export import to_onnx
from yolo_slim.errors import InputError
from yolo_slim.measure.latency import onnx_latency
from yolo_slim.pruning.masks import Masks
from yolo_slim.pruning.rebuild.rebuild import rebuild

LATENCY_SLACK = 0.03  # the promise is 0.05


def search_latency(
    model: nn.Module,
    graph: ChannelGraph,
    masks_at: Callable[[float], Masks],
    wanted: float,
    *,
    imgsz: int,
    threads: int = 2,
    tries: int = 7,
) -> tuple[Masks, float]:
    """Masks with which ONNX Runtime takes a share of the time that it takes for the model.

    Args:
        model: a detector; left untouched.
        graph: its channel graph.
        masks_at: share of MACs to masks; raises InputError where it cannot be reached.
        wanted: share of the latency.
        imgsz: side of the image, px.
        threads: of ONNX Runtime.
        tries: measurements at most.

    Returns:
        The masks, and the share of the latency that was measured for them.

    Raises:
        InputError: the share cannot be reached; the message says what can.
    """
    dense = to_onnx(model, imgsz=imgsz)
    seen: dict[float, float] = {1.0: 1.0}  # share of MACs -> of latency
    best: tuple[float, Masks] | None = None
    share, least = wanted, 0.0
    with tqdm(total=tries, desc="searching the latency", unit="cut") as bar:
        for _ in range(tries):
            try:
                masks = masks_at(share)
            except InputError as error:  # more than can go
                if least:
                    break
                least = share = _smallest(masks_at, share, error)
                masks = masks_at(share)
            pruned = to_onnx(rebuild(model, graph, masks), imgsz=imgsz)
            times = onnx_latency({"dense": dense, "pruned": pruned}, imgsz=imgsz, threads=threads)
            ratio = times["pruned"].median / times["dense"].median
            seen[share] = ratio
            bar.set_postfix_str(f"{share:.2f} of MACs takes {ratio:.2f} of the time")
            bar.update()
            if best is None or abs(ratio - wanted) < abs(best[0] - wanted):
                best = ratio, masks
            if abs(ratio - wanted) <= LATENCY_SLACK * wanted or (share == least and ratio > wanted):
                break
            share = max(_next_share(seen, wanted), least)
    assert best is not None
    if abs(best[0] - wanted) > 0.05 * wanted:
        raise InputError("--latency", f"{wanted:g}", f"{min(seen.values()):.2f} to 1, as measured")
    return best[1], best[0]


def _next_share(seen: dict[float, float], wanted: float) -> float:
    """Where a line through what was seen on both sides of the wanted share meets it."""
    nearest = sorted(seen, key=lambda share: abs(seen[share] - wanted))
    below = [s for s in nearest if seen[s] <= wanted][:1]
    above = [s for s in nearest if seen[s] > wanted][:1]
    a, b = (*below, *above) if below and above else nearest[:2]
    if seen[a] == seen[b] or a == b:
        return a * wanted / seen[a]
    guess = a + (wanted - seen[a]) * (b - a) / (seen[b] - seen[a])
    return float(np.clip(guess, 0.01, 1.0))


def _smallest(masks_at: Callable[[float], Masks], share: float, error: InputError) -> float:
    """The smallest share of MACs that can be reached, by bisection to 0.01."""
    low, high = share, 1.0
    while high - low > 0.01:
        middle = (low + high) / 2
        try:
            masks_at(middle)
            high = middle
        except InputError:
            low = middle
    if high == 1.0:
        raise error
    return high
