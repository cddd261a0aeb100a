"""When a quick cut may be made, and on how many images: see `Probe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 0.03  # of the seconds of the training
SIZES = (8, 16, 32, 64)  # images; more would take memory
TIMES = 5  # a run that can afford it looks at least so often, before it looks at more images
MARGIN = 1.5  # times the seconds that a probe is expected to take
FIXED = 0.1  # seconds of a validation without images; a guess, and low for a large model


@dataclass(frozen=True)
class Cost:
    """Seconds of a probe: of each validation `fixed`, and `image` for each of its images."""

    fixed: float
    image: float

    @classmethod
    def measured(cls, seconds: float, images: int, runs: int) -> Cost:
        """From a probe of so many validations. What is not fixed is put down to the images."""
        each = seconds / runs
        fixed = min(FIXED, each / 2)
        return cls(fixed, (each - fixed) / images)

    def of(self, images: int, runs: int) -> float:
        """What to expect, with a margin."""
        return MARGIN * runs * (self.fixed + self.image * images)


def images_now(
    cost: Cost,
    *,
    runs: int,
    credit: float,
    income: float,
    left: int,
    epochs: int,
    sizes: Sequence[int] = SIZES,
) -> int:
    """How many images to probe with at the end of this epoch; 0: not now.

    As many as let the run look TIMES times or more; where not even the smallest size does, it looks
    less often. The last epoch always has its turn: before it nothing is spent that would not be
    there again by then.

    Args:
        cost: what a probe takes.
        runs: validations of it.
        credit: seconds that may be spent by now.
        income: seconds that each further epoch allows.
        left: epochs after this one.
        epochs: length of the run.
        sizes: numbers of images to choose from, rising.
    """
    if not left:
        return max((n for n in sizes if cost.of(n, runs) <= credit), default=0)
    often = [n for n in sizes if cost.of(n, runs) <= income * max(epochs / TIMES, 1)]
    images = max(often, default=min(sizes, default=0))
    seconds = cost.of(images, runs)
    return images if seconds <= min(credit, income * left) else 0
