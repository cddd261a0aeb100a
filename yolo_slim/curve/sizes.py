"""Smaller image sizes whose cost is near to that of a cut: the rivals of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence


def nearest_sizes(imgsz: int, stride: int, shares: Sequence[float]) -> list[int]:
    """The image sizes nearest to some shares of the MACs, which grow with the area.

    Args:
        imgsz: of the whole image, px.
        stride: what sizes are multiples of, px.
        shares: of the MACs, each in (0, 1).

    Returns:
        Sizes below imgsz, by falling size, each once.

    Example:
        >>> nearest_sizes(640, 32, [0.9, 0.5, 0.3])
        [608, 448, 352]
    """
    steps = {max(1, round(imgsz * math.sqrt(share) / stride)) for share in shares}
    return sorted((step * stride for step in steps if step * stride < imgsz), reverse=True)
