"""The cut model learns from the dense one, on calibration images and without labels.

Hinton et al. 2015: a student is trained to give what the teacher gives. Here all weights that are
left learn at once, in a few hundred steps of Adam, from two things: the outputs, and what each conv
reads, whose channels are those of the dense model. The second holds back the first: without it the
model learns the few images by heart. BatchNorms normalise by their running statistics, which stay.

It follows the least squares, which fit each conv alone: those are a far better start than the
surviving weights, and the rate of learning is small, so that they are not undone. What it brings
depends on the cut (docs/results.md, "Distillation"): mAP has to be measured after it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Calibration, check_images
from yolo_slim.channels.graph import ChannelGraph
from yolo_slim.numerics import relative_error
from yolo_slim.pruning.activations import evaluation_copy
from yolo_slim.pruning.masks import keep_vector
from yolo_slim.pruning.recover.cut import Cut

STEPS = 600  # optimizer steps
BATCH = 4  # images
SIDE = 320  # px; of larger images a random part of this side is looked at in each step
RATE = 5e-5  # of Adam, after the warm-up; it falls to 0
WARMUP = 0.1  # share of the steps
INNER = 5.0  # weight of what convs read, beside that of the outputs, 1
SECONDS = 270.0  # on a slow machine, or of a large model, there are fewer steps


def distill_(
    pruned: nn.Module,
    model: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, torch.Tensor],
    calibration: Calibration,
    *,
    steps: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
) -> int:
    """Train a pruned model to give what the dense one gives, in place.

    Args:
        pruned: what `rebuild` made of model, graph and masks, weights fitted or not.
        model: the dense model; left untouched.
        graph, masks: see `rebuild`.
        calibration: images, all of one size; its `compare` tells outputs apart.
        steps: of the optimizer; None: `STEPS`.
        seconds: that it takes at most, about, above 0: the rate falls to 0 by then.
        seed: of the images of each step.

    Returns:
        The number of steps.

    Raises:
        InputError: no images, or images of several sizes.
    """
    steps = STEPS if steps is None else steps
    images = torch.cat(check_images(calibration, "--recover distill"))
    keep = keep_vector(graph, masks)
    convs = {n: c for n, c in graph.convs.items() if keep[c.outputs].any()}
    reads = {n: torch.from_numpy(np.flatnonzero(keep[c.inputs])) for n, c in convs.items()}
    student, teacher = evaluation_copy(pruned), evaluation_copy(model).requires_grad_(False)
    weights = [p for p in student.parameters() if p.is_floating_point()]
    for weight in weights:
        weight.requires_grad_(True)
    ours, theirs = look(student, reads), look(teacher, reads)
    compare = calibration.compare or relative_errors
    optimizer = torch.optim.Adam(weights, lr=RATE)
    draw = torch.Generator().manual_seed(seed)
    first, begun, count, progress = next(student.parameters()), time.monotonic(), 0, 0.0
    with tqdm(total=steps, desc="distillation", unit="step", leave=False) as bar:
        while progress < 1:
            for group in optimizer.param_groups:
                group["lr"] = RATE * min((count + 1) / (WARMUP * steps), 1.0) * (1 - progress)
            batch = parts(images, draw).to(first)
            with torch.no_grad():
                wanted = teacher(batch)
            loss = compare(student(batch), wanted)
            once = {id(theirs[name]): name for name in reads}.values()  # several read the same
            inner = [relative_error(ours[n], theirs[n][:, reads[n]]) for n in once]
            loss = loss + INNER * torch.stack(inner).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += 1
            bar.update()
            progress = max(count / steps, (time.monotonic() - begun) / seconds)
    with torch.no_grad():
        for weight in weights:  # what half precision has no place for would double the checkpoint
            weight[weight.half() == 0] = 0
    state = student.state_dict()
    if all(value.isfinite().all() for value in state.values() if value.is_floating_point()):
        pruned.load_state_dict(state)
    return count


def look(model: nn.Module, reads: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What convs read in the last pass of a model, kept by hooks that stay on it."""
    inputs_of: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs: inputs_of.__setitem__(name, inputs[0])

    for name in reads:
        model.get_submodule(name).register_forward_pre_hook(keep(name))
    return inputs_of


def parts(images: torch.Tensor, draw: torch.Generator, side: int = SIDE) -> torch.Tensor:
    """A batch of random images, some mirrored; of large ones a random square.

    Args:
        images: (n, C, h, w).
        draw: the choice.
        side: px.

    Returns:
        (`BATCH` or n, C, side or less, side or less).
    """
    chosen = torch.randperm(len(images), generator=draw)[:BATCH]
    high, wide = (min(side, size) for size in images.shape[2:])
    crops = []
    for image in images[chosen]:
        top, left, mirror = (
            int(torch.randint(room + 1, (1,), generator=draw))
            for room in (image.shape[1] - high, image.shape[2] - wide, 1)
        )
        part = image[:, top : top + high, left : left + wide]
        crops.append(part.flip(2) if mirror else part)
    return torch.stack(crops)


def relative_errors(ours: Any, theirs: Any) -> torch.Tensor:
    """Mean of `relative_error` over the tensors that a model gives."""
    if isinstance(ours, torch.Tensor):
        return relative_error(ours, theirs)
    assert isinstance(ours, Sequence)
    return torch.stack([relative_errors(a, b) for a, b in zip(ours, theirs, strict=True)]).mean()


def recover_(cut: Cut) -> int:
    """`distill_` as a part of a recovery: all convs learn."""
    distill_(cut.pruned, cut.model, cut.graph, cut.masks, cut.images, seed=cut.seed)
    return len(cut.graph.convs)
