"""Model yamls: what YOLOv5's parse_model would evaluate is checked before it gets there.

parse_model calls eval() on the module names, the string arguments and the `activation` entry of a
yaml, and a checkpoint carries its yaml. `check_model_yaml` lets through names only.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from torch import nn

from yolo_slim.errors import InputError

_NAME = re.compile(r"(nn\.)?[A-Za-z_]\w*")
_CALL = re.compile(r"(?:torch\.)?nn\.(\w+)\((.*)\)")


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
        for index, row in enumerate(yaml[part]):
            at = f"{where}, {part}[{index}]"
            if not isinstance(row, list | tuple) or len(row) != 4:
                raise InputError(at, repr(row)[:80], "[from, number, module, args]")
            _, _, module, args = row
            if isinstance(module, str) and not _is_module(module, namespace):
                raise InputError(at, f"module {module[:80]!r}", "the name of a known module class")
            for arg in args if isinstance(args, list | tuple) else []:
                if isinstance(arg, str) and not _NAME.fullmatch(arg):
                    raise InputError(at, f"argument {arg[:80]!r}", "a number or a plain name")
    for key in ("nc", "depth_multiple", "width_multiple"):
        if not isinstance(yaml.get(key, 1), int | float):
            raise InputError(f"{where}, {key}", repr(yaml[key])[:80], "a number")


def parse_activation(text: str | nn.Module, where: str = "activation") -> nn.Module:
    """The module that an `activation:` entry such as "nn.LeakyReLU(0.1)" stands for, without eval.

    Raises:
        InputError: the text is not the call of a torch.nn activation with literal arguments.
    """
    if isinstance(text, nn.Module):
        return text
    match = _CALL.fullmatch(str(text).strip())
    module = getattr(nn.modules.activation, match[1], None) if match else None
    if match is None or not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise InputError(where, f"activation {str(text)[:80]!r}", "such as nn.SiLU()")
    try:
        call = ast.parse(f"f({match[2]})", mode="eval").body
        assert isinstance(call, ast.Call)
        args = [ast.literal_eval(a) for a in call.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        return module(*args, **kwargs)
    except (ValueError, TypeError, SyntaxError) as error:
        raise InputError(where, f"activation {str(text)[:80]!r}", "literal arguments") from error


def activation_text(module: nn.Module) -> str:
    """The `activation:` entry that builds this module: nn.LeakyReLU(negative_slope=0.1)."""
    literals = module.extra_repr().replace("inplace=True", "").strip(", ")
    return f"nn.{type(module).__name__}({literals})"


def _is_module(name: str, namespace: dict | None) -> bool:
    if not _NAME.fullmatch(name):
        return False
    found = getattr(nn, name[3:], None) if name.startswith("nn.") else (namespace or {}).get(name)
    return isinstance(found, type) and issubclass(found, nn.Module)
