"""What a cut does to the time: as the table of a device predicts it, and as it is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerTime:
    """A layer's time by the table, ms; what is no conv is summed up by its kind.

    "besides" is what a whole network takes besides its layers: less than 0 where they take less
    time in it than alone.
    """

    name: str
    dense: float
    pruned: float


@dataclass(frozen=True)
class Times:
    """Time of a model before and after a cut, ms.

    Attributes:
        runtime: and its version.
        processor: that the table is of.
        threads: of the runtime.
        imgsz: px.
        step: what layers keep a multiple of there, in channels.
        predicted: before and after, by the table.
        measured: before and after, medians of runs in turns; None on another machine than the
            table's.
        layers: of which the prediction is the sum.
        rough: why what was measured says little; "" where it can be relied on.
    """

    runtime: str
    processor: str
    threads: int
    imgsz: int
    step: int
    predicted: tuple[float, float]
    measured: tuple[float, float] | None
    layers: tuple[LayerTime, ...]
    rough: str = ""

    @property
    def share(self) -> float:
        """What is left of the time: as measured, or else as predicted."""
        before, after = self.measured or self.predicted
        return after / before
