"""A modified YOLOv5 clone: its module classes, with its own utils, beside the host's.

The clone's files become the modules of a package with a name of their own. Its absolute imports
(`from utils.general import ...`) are rewritten to that package as a file is compiled, also those
inside functions, which run later. So nothing named models or utils is left in sys.modules, and
sys.path stays as it is.

A class that the clone has as YOLOv5 has it, with all that it uses, is YOLOv5's. One that differs
is settled when a model is there to try it with, see `clone_classes`.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import logging
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import cv2
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.admitted import ADMITTED, CLONES
from yolo_slim.host.classes import common, experimental, yolo
from yolo_slim.host.clone_source import definitions, unchanged, with_private_imports

HOST = {
    name: value
    for module in (experimental, common, yolo)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__[:6] == "yolov5"
}
HOME = "models.yolo"  # the module whose namespace model yamls are read in
NEVER = {"yolo_slim", "yolov5", "torch", "numpy"}  # never the clone's, though it has such a folder


class Clone:
    """A clone, of which a file is imported when something of it is asked for.

    Args:
        root: its folder.

    Attributes:
        package: the name under which its modules are in sys.modules.
        kept: name to class, for classes of YOLOv5's names that compute something else.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.package = f"yolov5_clone_{zlib.crc32(str(self.root).encode()):08x}"
        self.kept: dict[str, type[nn.Module]] = {}
        files = [p for p in self.root.iterdir() if not p.name.startswith(".")]
        folders = {p.name for p in files if p.is_dir() and any(p.rglob("*.py"))}
        self.names = (folders | {p.stem for p in files if p.suffix == ".py"}) - NEVER

    def module(self, name: str) -> ModuleType:
        """A module of the clone by the name that the clone gives it, such as models.common.

        Raises:
            InputError: it does not import.
        """
        full = f"{self.package}.{name}"
        try:
            return importlib.import_module(full)
        except (Exception, SystemExit) as error:  # whatever the clone does
            for left in [m for m in sys.modules if m == full]:
                del sys.modules[left]
            got = f"{name} does not import ({type(error).__name__}: {str(error)[:120]})"
            got = got.replace(f"{self.package}.", "")
            raise InputError(f"--clone {self.root}", got, "a clone that imports") from error

    def find(self, name: str) -> type[nn.Module] | None:
        """A class by its dotted name, as a checkpoint of the clone, or of ours, has it.

        Raises:
            InputError: its file does not import.
        """
        home, _, title = name.removeprefix(f"{self.package}.").rpartition(".")
        place = self.root.joinpath(*home.split("."))
        files = place.with_name(f"{place.name}.py"), place / "__init__.py"
        if not home or not any(file.is_file() for file in files):
            return None
        found = getattr(self.module(home), title, None)
        return found if isinstance(found, type) and issubclass(found, nn.Module) else None

    def of_yamls(self) -> dict[str, type[nn.Module]]:
        """The classes that its model yamls may name besides YOLOv5's."""
        return {
            name: value
            for name, value in vars(self.module(HOME)).items()
            if isinstance(value, type)
            and issubclass(value, nn.Module)
            and value.__module__.startswith(self.package)
            and name not in HOST
        }

    def parse_model(self, yaml: dict[str, Any], ch: list[int]) -> tuple[nn.Sequential, list[int]]:
        """Its own parse_model, on a yaml that has been checked: it evaluates what stands there."""
        layers, save = self.module(HOME).parse_model(deepcopy(yaml), ch)
        for module in layers.modules():
            name = type(module).__name__
            if name in HOST and name not in self.kept and self.made(type(module)):
                module.__class__ = HOST[name]
        for layer in layers:
            layer.type = str(layer.type).replace(f"{self.package}.", "")
        return layers, save

    def made(self, cls: type) -> bool:
        """True for a class that a file of this clone defines."""
        return cls.__module__.startswith(f"{self.package}.")

    def take_hosts_(self, names: set[str]) -> None:
        """From now on these names mean YOLOv5's classes in all modules of the clone."""
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith(f"{self.package}."):
                for name in names & vars(module).keys():
                    if getattr(vars(module)[name], "__module__", "").startswith(self.package):
                        setattr(module, name, HOST[name])


def is_clone(folder: Path) -> bool:
    """True for the folder of a YOLOv5 clone."""
    return all((folder / "models" / name).is_file() for name in ("yolo.py", "common.py"))


def clone_around(file: Path) -> Path | None:
    """The clone that a file lies in."""
    return next((p for p in file.resolve().parents if is_clone(p)), None)


def admit_clone(root: Path) -> Clone:
    """Take the classes of a clone: checkpoints and model yamls may name them.

    Raises:
        InputError: it is no clone, or does not import.
    """
    if not is_clone(root):
        got = "no such folder" if not root.exists() else "no models/yolo.py and models/common.py"
        raise InputError(f"--clone {root}", got, "the folder of a YOLOv5 clone")
    root = root.resolve()
    for known in CLONES:
        if known.root == root:
            return known
    clone = Clone(root)
    if clone.package not in sys.modules:
        package = ModuleType(clone.package)
        package.__path__ = [str(root)]
        sys.modules[clone.package] = package
        sys.meta_path.insert(0, _Finder(clone))
    ADMITTED.update(clone.of_yamls())
    CLONES.append(clone)
    return clone


class _Finder:
    """Finds the modules of a clone's package."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith(f"{self.clone.package}."):
            return None
        place = self.clone.root.joinpath(*name.split(".")[1:])
        inside, file = place / "__init__.py", place.with_name(f"{place.name}.py")
        if place.is_dir() and not inside.is_file() and not file.is_file():
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        source = inside if inside.is_file() else file
        if not source.is_file():
            return None
        folders = [str(place)] if source is inside else None
        loader = _Loader(name, str(source), self.clone)
        return importlib.util.spec_from_file_location(
            name, source, loader=loader, submodule_search_locations=folders
        )


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a file of a clone with its imports rewritten; writes no .pyc."""

    def __init__(self, name: str, path: str, clone: Clone) -> None:
        super().__init__(name, path)
        self.clone = clone

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        tree = with_private_imports(tree, self.clone.names, self.clone.package)
        return compile(tree, path, "exec")

    def exec_module(self, module: ModuleType) -> None:
        with _undisturbed():
            super().exec_module(module)
        same = unchanged(definitions(Path(self.path)), set(HOST))
        for name, value in list(vars(module).items()):  # Model is another name of DetectionModel
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and value.__name__ in same:
                setattr(module, name, HOST[value.__name__])


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What a YOLOv5 changes as it is imported is put back.

    Within the block the process is none that would download a font or log: RANK says so.
    """
    logger = logging.getLogger("yolov5")
    state = logger.level, logger.propagate, list(logger.handlers)
    path, environment = list(sys.path), dict(os.environ)
    patched = {name: getattr(cv2, name) for name in ("imread", "imwrite", "imshow")}
    os.environ["RANK"] = "1"
    try:
        yield
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        logger.level, logger.propagate, logger.handlers[:] = state[0], state[1], state[2]
        for name, value in patched.items():
            setattr(cv2, name, value)
