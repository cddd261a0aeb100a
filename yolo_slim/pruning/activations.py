"""What convs read from real images: sampled patches, and their Gram matrix.

The patches that a conv sees at some output positions are a matrix X: a row a position, a column an
input channel and a tap of the kernel. Its output there is X W'. How much of it is lost when input
channels go depends on X through G = X'X / positions alone: it is gathered once, and what ThiNet
then asks costs no pass through the model.

ThiNet (Luo et al. 2017, section 3.2.1) draws one filter for each position; here all filters of a
drawn position count, which costs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from yolo_slim.calibration import Calibration
from yolo_slim.host.image import is_detector
from yolo_slim.host.running import layers_named
from yolo_slim.numerics import copy_of

POSITIONS = 64  # output positions an image and conv
GRAM_MEMORY = 1 << 30  # bytes of Gram matrices that are held at a time
Look = Callable[[Any, torch.Tensor], None]  # a conv and what it reads


def grams(
    model: nn.Module,
    convs: Sequence[str],
    calibration: Calibration,
    *,
    positions: int | None = POSITIONS,
    seed: int = 0,
    memory: int = GRAM_MEMORY,
    centred: bool = False,
) -> Iterator[tuple[str, torch.Tensor]]:
    """The Gram matrices of what some convs read.

    Args:
        model: any module that takes the images; left untouched.
        convs: names of Conv2d, ConvTranspose2d or Linear modules in it, not grouped.
        calibration: the images.
        positions: output positions drawn of each image for each conv; None: all.
        seed: of the positions.
        memory: bytes. Where the matrices of all convs would take more, the images are run several
            times; one matrix is always held.
        centred: of what is read less its mean: covariances.

    Yields:
        Name and (columns, columns) float64, the mean over positions of outer products; columns as
        `filters` has them.
    """
    modules = dict(model.named_modules())
    sizes = {name: filters(modules[name]).shape[1] for name in convs}
    for names in _passes(sizes, memory):
        sums = {name: _Sum(sizes[name], positions, generator(seed, name)) for name in names}
        looks = {name: done.add for name, done in sums.items()}
        watch(model, looks, [images for images, _ in calibration.batches], "feature maps")
        while sums:
            name, done = sums.popitem()
            yield name, done.matrix(centred)


@torch.no_grad()
def watch(
    model: nn.Module,
    looks: Mapping[str, Look],
    batches: Sequence[torch.Tensor],
    desc: str,
    *,
    copied: bool = False,
) -> None:
    """Run a model on images, in eval mode, and look at what some modules read.

    Args:
        model: left untouched.
        copied: `model` is an `evaluation_copy`: it is run itself, and `looks` may change it.
        looks: module name to what is called with the module (of the copy) and its input, before
            the module runs.
        batches: images, (n, C, h, w) each.
        desc: of the progress bar.
    """
    copy = model if copied else evaluation_copy(model)
    first = next(copy.parameters())
    total = len(looks) * len(batches)
    with tqdm(total=total, desc=desc, unit="conv", leave=False, disable=not total) as bar:

        def hook(look: Look, module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            look(module, inputs[0])
            bar.update()

        for name, look in looks.items():
            copy.get_submodule(name).register_forward_pre_hook(partial(hook, look))
        for images in batches:
            with layers_named("calibration images"):
                copy(images.to(first))


def evaluation_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode; of a detector that does not decode boxes, which takes most memory."""
    copy = copy_of(model).eval()
    if is_detector(copy):
        copy.model[-1].training = True  # of the head itself, not of the modules in it
    return copy


class _Sum:
    """The sum of outer products of the patches that a conv has read so far."""

    def __init__(self, columns: int, positions: int | None, generator: torch.Generator) -> None:
        self.total = torch.zeros(columns, columns, dtype=torch.float64)
        self.sum = torch.zeros(columns, dtype=torch.float64)
        self.count, self.positions, self.generator = 0, positions, generator

    def add(self, conv: Any, x: torch.Tensor) -> None:
        read = patches(conv, x, self.positions, self.generator)
        self.total.addmm_(read.T, read)
        self.sum += read.sum(0)
        self.count += len(read)

    def matrix(self, centred: bool) -> torch.Tensor:
        total, count = self.total, max(self.count, 1)
        if centred:
            total.addr_(self.sum, self.sum, alpha=-1 / count)
        return total.div_(count)


def generator(seed: int, name: str) -> torch.Generator:
    """What the positions of a conv are drawn from: for each conv others, whatever else is run."""
    return torch.Generator().manual_seed(crc32(f"{seed} {name}".encode()))


def filters(conv: Any) -> torch.Tensor:
    """The weights of a conv as (filters, columns) float64: `patches` times them is its output.

    Columns are ordered by input channel, then by tap. A ConvTranspose2d has a filter for each
    output channel and tap, and a column a channel: what it writes is seen before its strokes are
    added up, which changes nothing where they do not overlap (stride >= kernel, as is usual).
    """
    weight = conv.weight.detach().cpu().double()
    return weight.flatten(1).T if getattr(conv, "transposed", False) else weight.flatten(1)


def patches(
    conv: Any, x: torch.Tensor, positions: int | None = None, generator: Any = None
) -> torch.Tensor:
    """What a conv reads at some of its output positions.

    Args:
        conv: a Conv2d or ConvTranspose2d that is not grouped, or a Linear.
        x: its input, (n, C, h, w), or (n, ..., C) of a Linear.
        positions: how many are drawn of each image, without repetition; None: all.
        generator: what they are drawn from.

    Returns:
        (samples, columns) float64 on the CPU, columns as in `filters`.
    """
    if isinstance(conv, nn.Linear) or conv.transposed:  # they read one place at a time
        last = x if isinstance(conv, nn.Linear) else x.movedim(1, -1)
        rows = last.reshape(len(x), -1, last.shape[-1])
        return rows[_draw(len(x), rows.shape[1], positions, generator)].cpu().double()
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    x = F.pad(x, conv._reversed_padding_repeated_twice, mode=mode)
    (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.stride, conv.dilation
    height = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    image, place = _draw(len(x), height * width, positions, generator)
    rows = (place // width * sh)[:, None] + torch.arange(kh) * dh
    columns = (place % width * sw)[:, None] + torch.arange(kw) * dw
    taps = x.movedim(1, -1)[image[:, None, None], rows[:, :, None], columns[:, None]]
    return taps.movedim(-1, 1).flatten(1).cpu().double()


def _draw(
    images: int, places: int, positions: int | None, generator: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of images and of places in them, (samples,) each."""
    if positions is None or positions >= places:
        place = torch.arange(places).expand(images, -1)
    else:
        place = torch.rand(images, places, generator=generator).topk(positions).indices
    return torch.arange(images).repeat_interleave(place.shape[1]), place.flatten()


def _passes(columns: Mapping[str, int], memory: int) -> list[list[str]]:
    """Names in lots whose matrices fit into memory."""
    lots: list[list[str]] = []
    free = 0
    for name, count in columns.items():
        need = 8 * count**2
        if not lots or need > free:
            lots.append([])
            free = memory
        lots[-1].append(name)
        free -= need
    return lots
