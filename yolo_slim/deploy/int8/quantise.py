"""A file in 8 bits that loses no more than it may: method chosen, dearest layers back in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from yolo_slim.deploy.formats import Content
from yolo_slim.deploy.int8.choose import Attempt, Judge, compared, held
from yolo_slim.deploy.int8.methods import Maker
from yolo_slim.deploy.int8.movement import Movement
from yolo_slim.errors import CheckFailed
from yolo_slim.host.evaluate import Accuracy
from yolo_slim.text import counted


@dataclass(frozen=True)
class Int8:
    """A file in 8 bits, and how it came to be.

    Attributes:
        content: of the file.
        methods: what each method of calibration costs, the cheapest first: that is taken.
        before: mAP of the float file.
        after: mAP of this one.
        attempts: what was tried to hold the limit, in turn.
        float_layers: names of the layers that went back to float.
        layers: the number of layers that could be in 8 bits.
    """

    content: Content
    methods: Mapping[str, Movement]
    before: Accuracy
    after: Accuracy
    attempts: tuple[Attempt, ...]
    float_layers: tuple[str, ...]
    layers: int

    @property
    def method(self) -> str:
        """The method of calibration."""
        return next(iter(self.methods))

    def __str__(self) -> str:
        text = f"mAP50-95 {self.before.map:.3f} in float, {self.after.map:.3f} in 8 bits"
        if self.before.mask_map is not None:
            text += f" (masks {self.before.mask_map:.3f}, {self.after.mask_map:.3f})"
        text += f"; calibrated by {self.method}"
        if self.float_layers:
            text += f"; {len(self.float_layers)} of {counted(self.layers, 'layer')} in float"
        return text


def points_lost(before: Accuracy, after: Accuracy) -> float:
    """Points of mAP50-95 that are lost, of boxes or of masks: the more of the two."""
    lost = before.map - after.map
    if before.mask_map is not None and after.mask_map is not None:
        lost = max(lost, before.mask_map - after.mask_map)
    return 100 * lost


def quantised(
    maker: Maker,
    judge: Judge,
    accuracy: Callable[[Content], Accuracy],
    before: Accuracy,
    dearest: Callable[[], Sequence[str]],
    max_drop: float,
    where: str,
) -> Int8:
    """Make a file in 8 bits.

    Args:
        maker: of its format.
        judge: chooses the method.
        accuracy: mAP of a file's content.
        before: of the float file.
        dearest: names of layers by what they cost, asked for only where they are needed.
        max_drop: points of mAP50-95 that the file may lose.
        where: what a message calls it.

    Raises:
        CheckFailed: it loses more, also with half of the layers in float.
    """
    make = cache(maker.make)  # NNCF takes its time
    methods = compared(make, maker.methods, judge)
    method = next(iter(methods))
    results: dict[tuple[str, ...], Accuracy] = {}

    def drop(float_layers: tuple[str, ...]) -> float:
        results[float_layers] = accuracy(make(method, float_layers))
        return points_lost(before, results[float_layers])

    attempts = tuple(held(drop, dearest, max_drop))
    holding = [attempt for attempt in attempts if attempt.drop <= max_drop]
    if not holding:
        best = min(attempts, key=lambda attempt: attempt.drop)
        layers = f" with {counted(len(best.float_layers), 'layer')} in float" * bool(
            best.float_layers
        )
        raise CheckFailed(
            f"{where} in 8 bits loses {best.drop:.2f} points of mAP50-95{layers}, more than "
            f"--max-drop {max_drop:g}; nothing was written"
        )
    chosen = min(holding, key=lambda attempt: len(attempt.float_layers))
    return Int8(
        make(method, chosen.float_layers),
        methods,
        before,
        results[chosen.float_layers],
        attempts,
        chosen.float_layers,
        len(maker.scope.layers),
    )
