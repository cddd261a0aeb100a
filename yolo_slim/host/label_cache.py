"""YOLOv5's label cache (labels.cache), read as data: it is a pickle, and comes with a data set.

The host opens it with numpy.load(allow_pickle=True), which runs what it names. Here a cache may
name the arrays and numbers of numpy alone, and these are made from their bytes (see `unpickle`). Of
any other the host hears an error, and reads the labels anew, as it does when they have changed.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib import format as npy

from yolo_slim.errors import InputError, note
from yolo_slim.host.unpickle import Array, Dtype, build, scalar


class _Dtype(Dtype):
    """numpy.dtype of a number, or of what holds the whole cache: one Python object."""

    def __init__(self, code: str, *rest: Any) -> None:
        self.dtype = np.dtype(object)
        if code not in ("O", "O8"):
            super().__init__(code, *rest)

    def __setstate__(self, state: tuple) -> None:
        if self.dtype != object:
            super().__setstate__(state)


class _Array(Array):
    """numpy.ndarray; of the array of one object that object."""

    def __setstate__(self, state: tuple) -> None:
        if state[2].dtype != object:
            super().__setstate__(state)
        elif state[1] == () and type(state[4]) is list and len(state[4]) == 1:
            self.value = state[4][0]
        else:
            raise InputError("an array of objects", state[1], "arrays of numbers")


class _Scalar(Array):
    """numpy.core.multiarray.scalar; a class with a state, so that a pickle cannot change it."""

    def __init__(self, dtype: Dtype, content: bytes) -> None:
        self.value: Any = scalar(dtype, content)


KNOWN = {"numpy.dtype": _Dtype, "numpy.ndarray": "ndarray"}  # what a cache may name
for core in ("numpy.core", "numpy._core"):
    KNOWN |= {f"{core}.multiarray._reconstruct": _Array, f"{core}.multiarray.scalar": _Scalar}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in KNOWN:
            raise InputError("it", f"names {module}.{name}", "numbers and texts alone")
        return KNOWN[f"{module}.{name}"]


def read_cache(file: str | Path) -> dict[str, Any]:
    """What a label cache holds.

    Raises:
        InputError: it names something else than numbers of numpy. Nothing of it has run.
        Exception: it is damaged.
    """
    with Path(file).open("rb") as content:
        version = npy.read_magic(content)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        header(content)
        array = _Unpickler(content).load()
    cache = build(array.value)
    if not isinstance(cache, dict):
        raise InputError("it", f"holds a {type(cache).__name__}", "a dict")
    return cache


def load(file: Any, *args: Any, allow_pickle: bool = False, **kwargs: Any) -> Any:
    """numpy.load for the host's loaders; a pickle is read by `read_cache`."""
    if not allow_pickle:
        return np.load(file, *args, **kwargs)
    try:
        cache = read_cache(file)
    except InputError as error:
        note(file, f"not used, the labels are read anew ({error})")
        raise
    return SimpleNamespace(item=lambda: cache)


def numpy_for_the_host() -> SimpleNamespace:
    """numpy with our `load`."""
    names: Mapping[str, Any] = {**vars(np), "load": load}
    return SimpleNamespace(**names)
