"""--cfg for weights that come without their model: which yaml, looked up before torch is imported.

A command that is given --cfg opens its checkpoints within `architecture(cfg)`; a program gives the
yaml to `load(path, cfg=...)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
from pathlib import Path
from typing import Any

from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping, shipped
from yolo_slim.host.sources import root

Cfg = str | Path | Mapping[str, Any]  # a model yaml: its path, the name of a known one, its content
_GIVEN: ContextVar[Cfg | None] = ContextVar("given", default=None)
_ONLY: ContextVar[bool] = ContextVar("only", default=False)


@contextmanager
def architecture(cfg: Cfg | None, only: bool = False) -> Iterator[None]:
    """Within the block weights without a model are opened as this model yaml says.

    Args:
        cfg: the model yaml; None: there is none.
        only: the yaml is for nothing else, so that it is said where a file does not need it.
    """
    tokens = _GIVEN.set(cfg or None), _ONLY.set(only)
    try:
        yield
    finally:
        _GIVEN.reset(tokens[0])
        _ONLY.reset(tokens[1])


def given() -> Cfg | None:
    """The model yaml of the block that is running."""
    return _GIVEN.get()


def unused() -> Cfg | None:
    """The same, where it is for bare weights alone."""
    return _GIVEN.get() if _ONLY.get() else None


def find_cfg(value: str | Path, option: str = "--cfg") -> Path:
    """A model yaml by its path, or by the name of one that ships with us or YOLOv5.

    Args:
        value: a path, or a name such as yolov5n.yaml or yolov5n.
        option: what the error calls it.

    Raises:
        InputError: there is none.
    """
    if not isinstance(value, str | PathLike):
        raise InputError(option, f"{value!r:.80}", "a model yaml, by path or name")
    path = Path(value)
    if path.is_file():
        return path
    name = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    found = [p for p in (shipped(str(path)), shipped(f"cfg/{name}")) if p.is_file()]
    found += sorted(p for p in (root() / "models").rglob("*.yaml") if p.name == name)
    if not found or path.is_dir():
        got = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{option} {value}", got, "a model yaml, such as yolov5n.yaml")
    return found[0]


def read_cfg(cfg: Cfg, option: str = "--cfg") -> dict[str, Any]:
    """The content of a model yaml.

    Raises:
        InputError: there is none, or it is no mapping.
    """
    if isinstance(cfg, Mapping):
        return dict(cfg)
    return read_mapping(find_cfg(cfg, option), "a model yaml")


def title(cfg: Cfg) -> str:
    """What an error calls a model yaml."""
    return "the cfg" if isinstance(cfg, Mapping) else f"--cfg {cfg}"
