"""A checkpoint's pickle is read as inert records; what they describe is made of them afterwards.

torch.load(weights_only=True) limits what a pickle can name, not what it does with it: it may call
an allowed class, or a module (torch's own _rebuild_from_type_v2 calls its first argument), and give
a module attributes that stand in for its methods. So a class is here only a `Name`, which cannot be
called, and an object a `Record` of what the file says of it. When the whole file has been read,
`build` looks at the records and makes modules without calling a constructor. Numbers of numpy are
made from their bytes: numpy's own dtype takes field offsets outside of its memory from a pickle.

What is wrapped around a model to serve it (`Wrapper`: AutoShape, DetectMultiBackend) is not made:
the model that it holds stands in its place. Of the hooks of torch.nn.utils.prune the tensor's name
is kept, the mask lies in the module's buffers.
"""

from __future__ import annotations

import argparse
import pathlib
import re
from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from yolo_slim.errors import InputError

_PLAIN: tuple[type, ...] = (type(None), bool, int, float, complex, str, bytes, bytearray)
_PLAIN += (torch.Size, torch.dtype, torch.device, torch.layout, np.generic, pathlib.PurePath)
_CONTENT = {"_parameters": nn.Parameter, "_buffers": torch.Tensor, "_modules": nn.Module}
_PRE_HOOKS = "_forward_pre_hooks"
_SPECTRAL = [f"SpectralNorm{kind}" for kind in ("", "StateDictHook", "LoadStateDictPreHook")]
_HOOK_HOMES = [f"torch.nn.utils.spectral_norm.{title}" for title in _SPECTRAL]
_HOOK_HOMES += ["torch.nn.utils.weight_norm.WeightNorm"]
_NUMBER = re.compile(r"[biuf]\d+")
Pair = tuple[Any, str]


class Name:
    """A class that a pickle may name, to ask for an empty object of it."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.__new__ = lambda _: Record(cls)  # type: ignore

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InputError(self.cls.__name__, "called", "no calls in a checkpoint")


class Wrapper(nn.Module):
    """Stands for AutoShape and DetectMultiBackend: what they hold is taken, they are not made."""


class Foreign:
    """Stands for what a wrapper has among its attributes (attempt_load): named, never called."""


class Reparametrized:
    """Stands for a hook that computes a weight at each call: weight_norm, spectral_norm."""


class Record:
    """An object of a class, as the file describes it."""

    __slots__ = ("cls", "state")

    def __init__(self, cls: type) -> None:
        self.cls, self.state = cls, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Attribute:
    """getattr(owner, name), not looked up."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name


class Dtype:
    """numpy.dtype of a number."""

    def __init__(self, code: str, *_: Any) -> None:
        if not _NUMBER.fullmatch(str(code)):
            raise InputError("numpy.dtype", repr(code)[:40], "a number type")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "=") or any(field is not None for field in state[2:5]):
            raise InputError("numpy.dtype", repr(state)[:40], "a number type")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """numpy.ndarray, from (version, shape, dtype, fortran order, bytes)."""

    def __init__(self, *_: Any) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        flat = np.frombuffer(content, dtype.dtype)
        self.value = flat.reshape(shape, order="F" if fortran else "C").copy()


def scalar(dtype: Dtype, content: bytes) -> np.generic:
    """numpy.core.multiarray.scalar."""
    return np.frombuffer(content, dtype.dtype)[0]


def posix_path(*parts: str) -> pathlib.PurePath:
    """pathlib.PosixPath, as a path of this machine."""
    return pathlib.Path(*map(str, parts))


def windows_path(*parts: str) -> pathlib.PurePath:
    """pathlib.WindowsPath."""
    return pathlib.PureWindowsPath(*map(str, parts))


def data_names() -> list[Pair]:
    """What checkpoints hold besides modules: for torch.serialization.safe_globals.

    A name without a dot cannot stand in a pickle: those entries only let records get their state.
    """
    pairs: list[Pair] = [(cls, cls.__name__) for cls in (Record, Dtype, Array)]
    for core in ("numpy.core", "numpy._core"):
        pairs += [(scalar, f"{core}.multiarray.scalar"), (Array, f"{core}.multiarray._reconstruct")]
    for module in ("pathlib", "pathlib._local"):
        pairs += [(posix_path, f"{module}.PosixPath"), (windows_path, f"{module}.WindowsPath")]
    pairs += [(Dtype, "numpy.dtype"), (Name(np.ndarray), "numpy.ndarray")]
    pairs += [(Name(argparse.Namespace), "argparse.Namespace"), (Attribute, "builtins.getattr")]
    pairs += [(Name(Reparametrized), home) for home in _HOOK_HOMES]
    pairs += [(Name(Foreign), "torch.nn.modules.module._WrappedHook")]  # spectral_norm has one
    for title, value in vars(torch_prune).items():
        if isinstance(value, type) and issubclass(value, torch_prune.BasePruningMethod):
            pairs.append((Name(torch_prune.CustomFromMask), f"{torch_prune.__name__}.{title}"))
    return pairs


def build(value: Any) -> Any:
    """What the records of a file describe.

    Containers are copied, shared objects stay shared.

    Raises:
        InputError: an object refers to itself, a class or a function stands among the data, or a
            module has hooks, or attributes in the place of its methods.
    """
    return _Builder().build(value)


class _Builder:
    _OPEN = object()

    def __init__(self) -> None:
        self.done: dict[int, Any] = {}  # the records outlive this object, so ids are unique

    def build(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = self._OPEN
            self.done[id(value)] = self._make(value)
        if self.done[id(value)] is self._OPEN:
            raise InputError(_title(value), "contains itself", "a tree")
        return self.done[id(value)]

    def _make(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return _plain_tensor(value)
        if type(value) in (dict, OrderedDict, Counter):
            pairs = [(self.build(k), self.build(v)) for k, v in dict.items(value)]
            return OrderedDict(pairs) if type(value) is OrderedDict else dict(pairs)
        if type(value) in (list, tuple, set):
            return type(value)(self.build(v) for v in value)
        if isinstance(value, Dtype | Array):
            return value.dtype if isinstance(value, Dtype) else value.value
        if isinstance(value, Record) and value.cls is argparse.Namespace:
            return argparse.Namespace(**self.build(value.state))
        if isinstance(value, Record) and value.cls is torch_prune.CustomFromMask:
            return _pruning(value)
        if isinstance(value, Record) and value.cls is Wrapper:
            return self._wrapped(value)
        if isinstance(value, Record) and issubclass(value.cls, nn.Module):
            return self._module(value)
        raise InputError(_title(value), "among the data", "modules, tensors and plain values")

    def _wrapped(self, record: Record) -> Any:
        """The model that an AutoShape or a DetectMultiBackend holds."""
        state: Any = record.state if isinstance(record.state, dict) else {}
        modules = state.get("_modules")
        model = modules.get("model") if isinstance(modules, dict) else None
        model = state.get("model") if model is None else model
        if not isinstance(model, Record):
            raise InputError("AutoShape or DetectMultiBackend", "without a PyTorch model", "one")
        return self.build(model)

    def _module(self, record: Record) -> nn.Module:
        cls, state = record.cls, record.state
        title = cls.__name__
        if type(state) is not dict or not state.keys() >= _CONTENT.keys():
            raise InputError(title, "incomplete", "a module's parameters, buffers and modules")
        attributes = {}
        for key, value in state.items():
            if isinstance(value, Attribute):
                if value.name == "forward_fuse" and value.owner is record:
                    continue  # how a fused Conv is saved
                if key != "detect" or value.name != "forward" or not isinstance(value.owner, Name):
                    raise InputError(f"{title}.{key}", f"{value.name!r}", "no methods")
                attributes[key] = value.owner.cls.forward  # Segment.detect is Detect.forward
                continue
            if _has_hooks_of(Reparametrized, value):
                text = "plain weights (torch.nn.utils.remove_weight_norm or remove_spectral_norm)"
                raise InputError(title, "under weight_norm or spectral_norm", text)
            attributes[str(key)] = _check_attribute(cls, str(key), self.build(value))
        _check_prunings(title, attributes)
        module = cls.__new__(cls)
        module.__setstate__(attributes)
        return module


def _check_attribute(cls: type[nn.Module], key: str, value: Any) -> Any:
    where = f"{cls.__name__}.{key}"
    if key in _CONTENT:
        right = isinstance(value, dict) and all(
            isinstance(k, str)
            and not k.startswith("__")  # copy.deepcopy would call a child named __deepcopy__
            and (v is None or isinstance(v, _CONTENT[key]))
            for k, v in value.items()
        )
        if not right:
            raise InputError(where, "of wrong types", f"a {_CONTENT[key].__name__} a name")
    elif key == _PRE_HOOKS and _is_prunings(value):
        pass
    elif "hook" in key and value and value is not True:
        raise InputError(where, "not empty", "no hooks in a checkpoint")
    elif callable(value) or (key != "type" and callable(getattr(cls, key, None))):
        raise InputError(where, "in the place of a method", "plain values")  # YOLOv5 sets `type`
    return value


def _pruning(record: Record) -> torch_prune.CustomFromMask:
    """A hook that multiplies by the mask in the module's buffers, whatever class had made it."""
    tensor = record.state.get("_tensor_name") if isinstance(record.state, dict) else None
    if not isinstance(tensor, str):
        raise InputError("a pruning of torch.nn.utils.prune", "without a name", "a tensor's name")
    made = torch_prune.CustomFromMask.__new__(torch_prune.CustomFromMask)
    made._tensor_name = tensor
    return made


def _is_prunings(value: Any) -> bool:
    return isinstance(value, dict) and all(
        type(hook) is torch_prune.CustomFromMask for hook in value.values()
    )


def _has_hooks_of(cls: type, value: Any) -> bool:
    hooks = value.values() if isinstance(value, dict) else ()
    return any(isinstance(hook, Record) and hook.cls is cls for hook in hooks)


def _check_prunings(title: str, attributes: dict[str, Any]) -> None:
    """See that each pruning has its tensor and a mask of its shape."""
    for hook in (attributes.get(_PRE_HOOKS) or {}).values():
        name = hook._tensor_name
        tensor = attributes["_parameters"].get(f"{name}_orig")
        mask = attributes["_buffers"].get(f"{name}_mask")
        if tensor is None or mask is None or tensor.shape != mask.shape:
            raise InputError(f"{title}.{name}", "pruned without its mask", f"{name}_mask")
        attributes.pop(name, None)  # computed at each call


def _plain_tensor(value: torch.Tensor) -> torch.Tensor:
    if type(value) not in (torch.Tensor, nn.Parameter) or value.layout is not torch.strided:
        raise InputError(_title(value), f"of layout {value.layout}", "dense tensors")
    if value._backward_hooks:
        raise InputError(_title(value), "with hooks", "no hooks in a checkpoint")
    value.__dict__.clear()
    return value


def _title(value: Any) -> str:
    if isinstance(value, Name | Record):
        return value.cls.__name__
    return f"attribute {value.name!r}" if isinstance(value, Attribute) else type(value).__name__
