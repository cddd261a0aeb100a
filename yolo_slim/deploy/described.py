"""What stands beside an exported network, in a yaml."""

from __future__ import annotations

from typing import Any

import yaml

from yolo_slim.deploy.options import ExportOptions


def described(about: dict[str, Any], options: ExportOptions) -> bytes:
    """The yaml beside a file: what YOLOv5 reads, and what the images are."""
    sizes = {"batch": options.batch, "imgsz": list(options.imgsz), "dynamic": options.dynamic}
    text: str = yaml.safe_dump({**about, **sizes}, sort_keys=False, allow_unicode=True)
    return text.encode()
