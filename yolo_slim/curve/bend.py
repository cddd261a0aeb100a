"""Where a curve bends: Kneedle (Satopaa et al. 2011, "Finding a Kneedle in a Haystack").

Accuracy over what is left of a model rises fast and then hardly any more: the knee is where more
does not bring much more. As in section III of the paper both axes are scaled to [0, 1], the
difference y - x is taken, and a local maximum is a knee if the difference falls below a threshold
before it rises again. It departs in two ways. The few points are not smoothed by a spline; instead
accuracy is made to never fall with what is left, since a smaller model that measures better does
so by chance. And of several knees the one that stands out most is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SENSITIVITY = 1.0  # S of the paper, its choice for data that is all there


def knee(points: Sequence[tuple[float, float]], sensitivity: float = SENSITIVITY) -> int | None:
    """The index of the point at which a rising curve bends.

    Args:
        points: (x, y), three or more with different x, in any order.
        sensitivity: how far the curve must bend, in mean steps of x.

    Returns:
        The index in `points`; None for a curve that does not bend, or bends the other way.

    Example:
        >>> knee([(0.2, 0.1), (0.4, 0.48), (0.6, 0.5), (0.8, 0.51), (1.0, 0.52)])
        1
        >>> knee([(0.2, 0.1), (0.6, 0.3), (1.0, 0.5)]) is None
        True
    """
    order = sorted(range(len(points)), key=lambda index: points[index][0])
    x, y = np.array([points[index] for index in order], float).reshape(-1, 2).T
    y = np.maximum.accumulate(y)
    if len(points) < 3 or x[0] == x[-1] or y[0] == y[-1]:
        return None
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    peaks = [i for i in range(1, len(x) - 1) if above[i - 1] < above[i] >= above[i + 1]]
    threshold = sensitivity / (len(x) - 1)
    knees = []
    for peak, end in zip(peaks, [*peaks[1:], len(x)], strict=True):
        if above[peak + 1 : end].min(initial=np.inf) < above[peak] - threshold:
            knees.append(peak)
    return order[max(knees, key=lambda index: above[index])] if knees else None
