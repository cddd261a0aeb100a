"""Opening a file in OpenVINO leaves the stack for signals as it is."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
from torch import nn

from yolo_slim.deploy.formats import FORMATS
from yolo_slim.deploy.options import ExportOptions
from yolo_slim.runtimes import opened
from yolo_slim.runtimes.signal_stack import _Stack


def now() -> tuple[int | None, int, int]:
    stack = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.start, stack.flags, stack.size


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the stack is looked at on Linux")
def test_openvino_leaves_it(tiny_model: nn.Module, tmp_path: Path) -> None:
    row, before = FORMATS["openvino"], now()
    opened(row.put(tmp_path, "best", row.write(tiny_model, ExportOptions((64, 64)))))
    assert now() == before
