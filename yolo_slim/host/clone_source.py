"""The source of a clone: its imports rewritten, its definitions compared with YOLOv5's."""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from yolo_slim.host.sources import root

FILES = ("common.py", "experimental.py", "yolo.py")  # where YOLOv5 defines its modules
IMPORTERS = ("import_module", "__import__")


def with_private_imports(tree: ast.Module, names: set[str], package: str) -> ast.Module:
    """A module whose absolute imports of these names go to a package.

    Args:
        tree: the module; it is changed.
        names: top-level names of the clone: models, utils, ...
        package: the name that goes before them.
    """
    tree = _Imports(names, package).visit(tree)
    return ast.fix_missing_locations(tree)


class _Imports(ast.NodeTransformer):
    def __init__(self, names: set[str], package: str) -> None:
        self.names, self.package = names, package

    def private(self, name: str) -> str:
        return f"{self.package}.{name}" if name.partition(".")[0] in self.names else name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.AST]:
        if node.level == 0 and _is_missing(node.module or ""):
            return [_none(alias, node) for alias in node.names]
        if node.level == 0 and node.module:
            node.module = self.private(node.module)
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.AST]:
        made: list[ast.AST] = []
        for alias in node.names:
            top = alias.name.partition(".")[0]
            name = self.private(alias.name)
            if _is_missing(name):
                made.append(_none(alias, node))
                continue
            if top not in self.names or alias.asname:
                made.append(ast.Import([ast.alias(name, alias.asname)]))
                continue
            if name.count(".") > 1:  # import models.common: it is imported, and models is bound
                made.append(ast.Import([ast.alias(name, "_imported")]))
            made.append(ast.ImportFrom(self.package, [ast.alias(top)], 0))
        return [ast.copy_location(statement, node) for statement in made]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = node.args[0] if node.args else None
        if called in IMPORTERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
            node.args[0] = ast.copy_location(ast.Constant(self.private(first.value)), first)
        return node


def _is_missing(name: str) -> bool:
    """True for IPython where it is not: YOLOv5 6.2 imports it to show pictures in a notebook."""
    return name.partition(".")[0] == "IPython" and not find_spec("IPython")


def _none(alias: ast.alias, node: ast.stmt) -> ast.stmt:
    """The statement `name = None` in the place of an import."""
    name = ast.Name(alias.asname or alias.name.partition(".")[0], ast.Store())
    return ast.copy_location(ast.Assign([name], ast.Constant(None)), node)


def definitions(file: Path) -> dict[str, ast.stmt]:
    """The classes and functions of a file by name, without docstrings and annotations."""
    body = ast.parse(file.read_bytes()).body
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name: _Bare().visit(node) for node in body if isinstance(node, kinds)}


class _Bare(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and isinstance(body, list):
            node.body = [s for s in node.body if not _is_text(s)] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        return node


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@lru_cache
def _host_definitions() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in FILES:
        found |= {k: ast.dump(v) for k, v in definitions(root() / "models" / file).items()}
    return found


def unchanged(found: dict[str, ast.stmt], classes: set[str]) -> set[str]:
    """The classes of YOLOv5 that a file has as YOLOv5 has them, with all of the file that they use.

    Args:
        found: the definitions of the file.
        classes: names of YOLOv5's classes.
    """
    hosts = _host_definitions()
    changed = {name for name, node in found.items() if hosts.get(name) != ast.dump(node)}
    uses = {
        name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - {name}
        for name, node in found.items()
    }
    while more := {n for n in found if n not in changed and uses[n] & changed}:
        changed |= more
    return (found.keys() - changed) & classes
