"""The stack that signals are handled on, kept as it is while a library would change it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """After the block signals of this thread are handled where they were before.

    On CPUs with AMX OpenVINO gives the thread another stack for signals with each Core, and frees
    its memory with the Core. The next signal, such as that of a process of a data loader that ends,
    is then a segmentation fault (OpenVINO 2026.4). Can go when the memory stays.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    set_stack, before = ctypes.CDLL(None).sigaltstack, _Stack()
    set_stack(None, ctypes.byref(before))
    try:
        yield
    finally:
        set_stack(ctypes.byref(before), None)
