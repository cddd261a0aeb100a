"""A user's own module classes: `--modules my_modules.py`.

The file is imported. From then on its classes may stand in a model yaml and in a checkpoint, and
the rules (`channels.rules.rule`) and criteria (`pruning.criteria.table.criterion`) that it makes
hold. A checkpoint may name such a class as it was called where it was saved (models.common.CBAM in
a clone): the last part of the name decides.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.channels.rules import RULES
from yolo_slim.errors import InputError
from yolo_slim.host.admitted import ADMITTED
from yolo_slim.host.classes import yolo
from yolo_slim.host.clone import HOST, Clone, admit_clone, clone_around
from yolo_slim.host.compat import imported_as
from yolo_slim.pruning.criteria.table import CRITERIA


def admit(path: str | Path) -> list[type[nn.Module]]:
    """Import a module file and admit its classes.

    Within it `from models.common import Conv`, as a file of a YOLOv5 clone has it, means the class
    of the pip package.

    Args:
        path: a Python file; or the folder of a YOLOv5 clone, whose classes are taken with its own
            utils, as they are for a file that lies in a clone.

    Returns:
        The nn.Module classes that it defines.

    Raises:
        InputError: no such file, it does not import, it holds no module class, rule or
            criterion, or a class has the name of one of YOLOv5's.
    """
    if not isinstance(path, str | PathLike):
        raise InputError("admit", f"{path!r:.80}", "the path of a Python file, or of a clone")
    path = Path(path)
    if path.is_dir() or (path.suffix != ".py" and not path.exists()):
        return list(admit_clone(path).of_yamls().values())
    if not path.is_file() or path.suffix != ".py":
        got = "no such file" if not path.exists() else "not a Python file"
        raise InputError(f"--modules {path}", got, "a Python file with module classes")
    clone = clone_around(path)
    if clone:
        return _admit_of_clone(path, admit_clone(clone))
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() != (
        path.resolve()
    ):
        got = f"the name {path.stem}, which Python uses already"
        raise InputError(f"--modules {path}", got, "a file name of its own")
    made = dict(RULES), dict(CRITERIA)
    try:
        module = known or _import(path)
    except InputError:  # what it had registered until then goes again
        RULES.clear()
        CRITERIA.clear()
        RULES.update(made[0])
        CRITERIA.update(made[1])
        raise
    own = _defined(module)
    if not own and made == (RULES, CRITERIA) and known is None:
        del sys.modules[path.stem]
        got = "no nn.Module class in it, no rule and no criterion"
        raise InputError(f"--modules {path}", got, "at least one")
    for cls in own:
        if hasattr(yolo, cls.__name__) and ADMITTED.get(cls.__name__) is not cls:
            got = f"a class {cls.__name__}, a name of YOLOv5's own"
            raise InputError(f"--modules {path}", got, "another name")
    ADMITTED.update({cls.__name__: cls for cls in own})
    return own


def _admit_of_clone(path: Path, clone: Clone) -> list[type[nn.Module]]:
    """The classes of a file of a clone, besides those that its model yamls may name."""
    made = dict(RULES), dict(CRITERIA)
    try:
        name = ".".join(path.resolve().relative_to(clone.root).with_suffix("").parts)
        module = clone.module(name)
    except InputError:
        RULES.clear()
        CRITERIA.clear()
        RULES.update(made[0])
        CRITERIA.update(made[1])
        raise
    own = [cls for cls in _defined(module) if cls.__name__ not in HOST]
    ADMITTED.update({cls.__name__: cls for cls in own})
    return own


def _defined(module: Any) -> list[type[nn.Module]]:
    """The module classes that a file defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
    ]


def _import(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        with _names_of_a_clone():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file does
        del sys.modules[path.stem]
        got = f"does not import ({type(error).__name__}: {str(error)[:120]})"
        raise InputError(f"--modules {path}", got, "a Python file that imports") from error
    return module


@contextmanager
def _names_of_a_clone() -> Iterator[None]:
    """`models.common` and `utils.general` mean the pip package's."""
    names = [name for name in sys.modules if name.startswith(("yolov5.models", "yolov5.utils"))]
    aliases = {name.removeprefix("yolov5."): sys.modules[name] for name in names}
    with imported_as(aliases):
        yield
