"""detect: YOLOv5's detect.py as it is, with checkpoints opened safely and pruned models known."""

from __future__ import annotations

from collections.abc import Sequence

import yolo_slim.models  # noqa: F401  (pruned models are known from here on)
from yolo_slim.host.scripts import run_host


def main(argv: Sequence[str] | None = None) -> None:
    """Run it with YOLOv5's own options."""
    run_host("detect", argv)
