"""Model yamls: what they may hold, and what fits together.

YOLOv5 calls eval() on the module names, the string arguments and the `activation` entry of a yaml,
and a checkpoint carries its yaml. `check_model_yaml` lets through names only, `check_structure`
what layers can be built of.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from torch import nn

from yolo_slim.errors import InputError, check_count
from yolo_slim.host.admitted import ADMITTED
from yolo_slim.text import counted, indices

_NAME = re.compile(r"(nn\.)?[A-Za-z_]\w*")
_CHILD = re.compile(r"\w+(\.\w+)*")
_ACTIVATION = re.compile(r"((?:torch\.)?nn\.)?(\w+)")
_VALUES = {"nc", "anchors", "None", "True", "False"}  # names that parse_model gives a value
_NOT_LAYERS = {"AutoShape", "DetectMultiBackend", "Ensemble"}  # they open files
_NOT_LAYERS |= {"BaseModel", "ClassificationModel", "DetectionModel", "Model", "SegmentationModel"}


def check_model_yaml(yaml: Any, where: str = "model yaml", namespace: dict | None = None) -> None:
    """Refuse a model yaml with a string that is more than a name.

    Args:
        yaml: the model dict, as in YOLOv5's models/*.yaml.
        where: what the error calls it.
        namespace: where module names are looked up (the globals of the host's models/yolo.py).

    Raises:
        InputError: an entry is missing, or a string is neither a module nor a plain name.
    """
    if not isinstance(yaml, dict):
        raise InputError(where, f"a {type(yaml).__name__}", "a YOLOv5 model yaml (a mapping)")
    missing = [key for key in ("nc", "anchors", "backbone", "head") if key not in yaml]
    if missing:
        raise InputError(where, f"no entry {', '.join(missing)}", "a YOLOv5 model yaml")
    if yaml.get("activation"):
        parse_activation(yaml["activation"], where)
    for part in ("backbone", "head"):
        if not isinstance(yaml[part], list | tuple):
            raise InputError(f"{where}, {part}", repr(yaml[part])[:80], "a list of layers")
        for index, row in enumerate(yaml[part]):
            _check_layer(row, f"{where}, {part}[{index}]", namespace or {})
    for key in ("nc", "ch", "depth_multiple", "width_multiple"):
        if not isinstance(yaml.get(key, 1), int | float):
            raise InputError(f"{where}, {key}", repr(yaml[key])[:80], "a number")
    if not _is_numbers(yaml["anchors"]):
        raise InputError(f"{where}, anchors", repr(yaml["anchors"])[:80], "rows of numbers")


def check_structure(
    yaml: Mapping[str, Any], is_head: Callable[[str], bool], where: str = "model yaml"
) -> None:
    """Refuse a yaml, of entries that `check_model_yaml` has let through, that no model is built of.

    Args:
        yaml: the model dict.
        is_head: name of a module to True if it detects.
        where: what the error calls it.

    Raises:
        InputError: a number is out of range, a layer reads one that comes later, or the last layer
            is not the one that detects.
    """
    missing = [key for key in ("depth_multiple", "width_multiple") if key not in yaml]
    if missing:
        raise InputError(where, f"no entry {', '.join(missing)}", "a YOLOv5 model yaml")
    for key in ("nc", "ch"):
        check_count(f"{where}, {key}", yaml.get(key, 1))
    for key in ("depth_multiple", "width_multiple"):
        value = yaml[key]
        if isinstance(value, bool) or not 0 < value < inf:
            raise InputError(f"{where}, {key}", value, "a number above 0")
    rows = [*yaml["backbone"], *yaml["head"]]
    heads = [i for i, row in enumerate(rows) if is_head(row[2])]
    if heads != [len(rows) - 1]:
        at = ", ".join(f"layer {i} of {len(rows)}" for i in heads)
        count = "1 layer that detects" if len(heads) == 1 else f"{len(heads)} layers that detect"
        got = f"{count}{at and f' ({at})'}"
        raise InputError(where, got, "one, Detect or Segment, as the last layer")
    for i, (source, number, name, _) in enumerate(rows):
        sources = list(source) if isinstance(source, list | tuple) else [source]
        for f in sources:
            if isinstance(f, bool) or not isinstance(f, int) or not -max(i, 1) <= f < max(i, 0):
                expected = f"-1, or a layer before it, {indices(i)}" if i else "-1, the image"
                raise InputError(f"{where}, layer {i}, {name}", f"from {source}", expected)
        check_count(f"{where}, layer {i}, {name}, number", number)
        if not sources or (i in heads and not isinstance(source, list | tuple)):
            expected = "the layers that it reads, such as [17, 20, 23]"
            raise InputError(f"{where}, layer {i}, {name}", f"from {source}", expected)
    _check_anchors(yaml["anchors"], len(rows[-1][0]), where)


def _check_anchors(anchors: Any, scales: int, where: str) -> None:
    where = f"{where}, anchors"
    if not isinstance(anchors, list | tuple):
        check_count(where, anchors)
        return
    if len(anchors) != scales:
        got = f"{counted(len(anchors), 'row')} for a head that reads {counted(scales, 'layer')}"
        raise InputError(where, got, "a row for each of them")
    for row in anchors:
        pairs = isinstance(row, list | tuple) and len(row) > 1 and len(row) % 2 == 0
        if not pairs or len(row) != len(anchors[0]) or not min(row) >= 0:
            expected = "width, height of each anchor, 0 or more, as many in each row"
            raise InputError(where, repr(row)[:80], expected)


def _check_layer(row: Any, where: str, namespace: dict) -> None:
    if not isinstance(row, list | tuple) or len(row) != 4:
        raise InputError(where, repr(row)[:80], "[from, number, module, args]")
    source, number, module, args = row
    if not isinstance(number, int) or not _is_numbers(source):
        raise InputError(where, repr(row)[:80], "integers as from and number")
    if not isinstance(module, str) or not _is_module(module, namespace):
        text = "the name of a known module class (--modules FILE admits your own)"
        raise InputError(where, f"module {str(module)[:80]!r}", text)
    if not isinstance(args, list | tuple):
        raise InputError(where, f"arguments {str(args)[:80]!r}", "a list")
    for arg in args:
        _check_argument(arg, where, namespace)


def _check_argument(arg: Any, where: str, namespace: dict) -> None:
    if isinstance(arg, list | tuple):
        for item in arg:
            _check_argument(item, where, namespace)
        return
    if isinstance(arg, dict):  # sizes of children in a pruned yaml
        for key, value in arg.items():
            if not isinstance(key, str) or not _CHILD.fullmatch(key):
                raise InputError(where, f"argument {str(key)[:80]!r}", "the name of a child")
            if isinstance(value, str):
                parse_activation(value, where)
            elif value is not None and not _is_numbers(value):
                raise InputError(where, f"{key}: {str(value)[:80]}", "numbers of channels")
        return
    plain = arg is None or isinstance(arg, int | float)
    if isinstance(arg, str):
        known = arg in namespace or hasattr(builtins, arg)
        plain = arg in _VALUES or (arg.isidentifier() and not known)
    if not plain:
        raise InputError(where, f"argument {str(arg)[:80]!r}", "a number or a plain name")


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_numbers, value))
    return isinstance(value, int | float)


def parse_activation(text: str, where: str = "activation") -> nn.Module:
    """The module that an `activation:` entry such as "nn.LeakyReLU(0.1)" stands for, without eval.

    Raises:
        InputError: the text is not the call of an activation of torch.nn, or of a class of
            --modules, with literal arguments.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        name = _ACTIVATION.fullmatch(ast.unparse(call.func)) if isinstance(call, ast.Call) else None
        module: Any = None
        if name:
            module = getattr(nn.modules.activation, name[2], None) if name[1] else ADMITTED[name[2]]
        if not isinstance(call, ast.Call) or not issubclass(module, nn.Module):
            raise TypeError(text)
    except Exception as error:  # not a text, not Python, no such class
        raise InputError(where, f"activation {str(text)[:80]!r}", "such as nn.SiLU()") from error
    try:
        args = [ast.literal_eval(a) for a in call.args]
        return module(*args, **{str(k.arg): ast.literal_eval(k.value) for k in call.keywords})
    except Exception as error:  # an expression, or what the module does not take
        raise InputError(where, f"activation {str(text)[:80]!r}", "literal arguments") from error


def is_activation(module: nn.Module) -> bool:
    """True for an activation of torch.nn, which attention is not."""
    attention = isinstance(module, nn.MultiheadAttention)
    return type(module).__module__ == nn.modules.activation.__name__ and not attention


def activation_text(module: nn.Module) -> str:
    """The `activation:` entry that builds this module: nn.LeakyReLU(negative_slope=0.1)."""
    if not is_activation(module):
        return f"{type(module).__name__}()"
    literals = module.extra_repr().replace("inplace=True", "").strip(", ")
    return f"nn.{type(module).__name__}({literals})"


def _is_module(name: str, namespace: dict) -> bool:
    if not _NAME.fullmatch(name) or name in _NOT_LAYERS:
        return False
    cls = getattr(nn, name[3:], None) if name.startswith("nn.") else namespace.get(name)
    return isinstance(cls, type) and issubclass(cls, nn.Module)
