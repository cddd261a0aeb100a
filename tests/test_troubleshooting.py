"""Each message that docs/troubleshooting.md quotes is one that the package prints."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yolo_slim
from yolo_slim.cli import COMMANDS

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"


def texts_in(file: Path) -> list[str]:
    """The strings of a file; of f-strings the parts between their values."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return plain + [joined(n) for n in nodes if isinstance(n, ast.JoinedStr)]


def joined(node: ast.JoinedStr) -> str:
    return "".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values)


def test_every_quoted_message_is_printed() -> None:
    quoted = re.findall(r"^> (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    said = [t for file in Path(yolo_slim.__file__).parent.rglob("*.py") for t in texts_in(file)]
    assert len(quoted) >= 8
    for message in quoted:
        parts = re.split(r"\.\.\.|, expected ", message)  # InputError puts in the second one
        for piece in filter(None, map(str.strip, parts)):
            assert any(piece in text for text in said), f"{message!r}: {piece!r} is nowhere"


def test_it_names_commands_that_exist() -> None:
    lines = re.findall(r"^    yolo-slim (\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(lines) <= set(COMMANDS)
