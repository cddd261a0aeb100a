"""What stands beside an exported network, in a yaml."""

from __future__ import annotations

from typing import Any

import yaml

from yolo_slim.deploy.options import ExportOptions
from yolo_slim.runtimes.network import DIGEST, digest


def described(about: dict[str, Any], options: ExportOptions, weights: bytes) -> bytes:
    """The yaml beside a file: what YOLOv5 reads, what the images are, and which .bin belongs to it.

    Args:
        about: stride and names.
        options: of the export.
        weights: content of the .bin.
    """
    sizes = {"batch": options.batch, "imgsz": list(options.imgsz), "dynamic": options.dynamic}
    of_file = {DIGEST: digest(weights)}
    text: str = yaml.safe_dump({**about, **sizes, **of_file}, sort_keys=False, allow_unicode=True)
    return text.encode()
