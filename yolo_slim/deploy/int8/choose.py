"""The method of calibration that moves detections least, and the layers that cost most in 8 bits.

Both are judged on training images that were not calibrated on, without labels. The validation
split is looked at only to hold `max_drop`, so that what it says of the file stays worth something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from yolo_slim.deploy.formats import Content
from yolo_slim.deploy.int8.methods import Maker
from yolo_slim.deploy.int8.movement import Movement, Outputs, movement, outputs_of

Run = Callable[[np.ndarray], Outputs]
Opener = Callable[[Content], Run]


@dataclass(frozen=True)
class Judge:
    """The float model on some images, to compare files in 8 bits with.

    Attributes:
        images: batches.
        expected: what the float model returns for each.
        classes: number of classes.
        open: makes a file's content run.
    """

    images: Sequence[np.ndarray]
    expected: Sequence[Outputs]
    classes: int
    open: Opener

    def __call__(self, content: Content) -> Movement:
        """How far detections move with a file."""
        return movement(self.expected, outputs_of(self.open(content), self.images), self.classes)


def judge(run: Run, images: Sequence[np.ndarray], classes: int, open: Opener) -> Judge:
    """A judge that knows what the float model returns.

    Args:
        run: the float model.
        images: batches, which are held in memory.
        classes, open: see `Judge`.
    """
    images = list(images)
    return Judge(images, outputs_of(run, images), classes, open)


def compared(
    make: Callable[[str, tuple[str, ...]], Content], methods: Sequence[str], judge: Judge
) -> dict[str, Movement]:
    """What each method of calibration costs, the cheapest first.

    Args:
        make: of a `Maker`.
        methods: names.
        judge: tells what a file costs.
    """
    bar = tqdm(methods, desc="methods of calibration", unit="method", leave=False)
    costs = {method: judge(make(method, ())) for method in bar}
    return dict(sorted(costs.items(), key=lambda item: item[1].cost))


def layer_costs(maker: Maker, method: str, judge: Judge) -> dict[str, float]:
    """What each layer costs when it alone is in 8 bits, the dearest first."""
    names = list(maker.scope.layers)
    bar = tqdm(names, desc="what layers cost", unit="layer", leave=False)
    costs = {
        name: judge(maker.make(method, [other for other in names if other != name])).cost
        for name in bar
    }
    return dict(sorted(costs.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class Attempt:
    """A file with some layers in float.

    Attributes:
        float_layers: their names, the dearest first.
        drop: points of mAP50-95 that it loses against the float file.
    """

    float_layers: tuple[str, ...]
    drop: float


def held(
    drop: Callable[[tuple[str, ...]], float], dearest: Callable[[], Sequence[str]], limit: float
) -> Iterator[Attempt]:
    """Put the dearest layers back to float, a few at a time, until the drop holds.

    1, 2, 4, 8 ... layers; where that holds, the middle between it and the last one that did not is
    tried as well. No more than half of the layers go back: a file with fewer in 8 bits is none.

    Args:
        drop: of a file with these layers in float, points.
        dearest: the layers by what they cost; asked for only where the first file does not hold.
        limit: of the drop, points.

    Yields:
        Each attempt.
    """
    first = Attempt((), drop(()))
    yield first
    if first.drop <= limit:
        return
    names = tuple(dearest())
    failed, count = 0, 1
    while count <= len(names) // 2:
        attempt = Attempt(names[:count], drop(names[:count]))
        yield attempt
        if attempt.drop <= limit:
            break
        failed, count = count, 2 * count
    else:
        return
    if count - failed > 1:
        middle = names[: (failed + count) // 2]
        yield Attempt(middle, drop(middle))
