"""Images that models are run on where only their size counts."""

from __future__ import annotations

import numpy as np


def random_images(*shape: int) -> np.ndarray:
    """Images (batch, channels, h, w), float32 in [0, 1), the same each time."""
    return np.random.default_rng(0).random(shape, dtype=np.float32)
