"""Checkpoints as bytes, for tests that write what no YOLOv5 of today writes."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import torch


def pickled(value: Any, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **kwargs)
    return file.getvalue()


def renamed(content: bytes, old: str, new: str) -> bytes:
    """A checkpoint whose pickle names other classes, each as "module\\nname"."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(f"c{old}".encode(), f"c{new}".encode())
            target.writestr(name, data)
    return file.getvalue()
