"""YAML as its writers mean it: numbers are numbers, names are words, and a fault has a line.

PyYAML follows YAML 1.1, in which `1e-2` is a text, `no` is False, and the last of two equal keys
silently counts. Here, as in YAML 1.2, `1e-2` is a number; two equal keys that contradict each other
are an error; and the entries of a mapping or list of names are the words that stand there.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from yolo_slim.errors import InputError

FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, to which `1e-2` is a number, too."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def parse(text: str, where: str, expected: str, *, names: str = "") -> Any:
    """What a yaml says.

    Args:
        text: of the yaml.
        where: what an error calls it.
        expected: what it should be, for an error.
        names: a key of the whole whose entries are words as written, and whose keys are numbers
            where they look so; "": none.

    Raises:
        InputError: it is no yaml, or a mapping has two entries for a key that differ.

    Example:
        >>> parse("lr0: 1e-2\\nnames: [no, yes, 7]", "my.yaml", "a yaml", names="names")
        {'lr0': 0.01, 'names': ['no', 'yes', '7']}
    """
    try:
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            check_keys(node, where, set())
            as_written_(node, names)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date 2020-13-45, an unhashable key
        raise InputError(where, f"not yaml ({fault(error)})", expected) from error
    except RecursionError as error:
        raise InputError(where, "not yaml (too deep)", expected) from error


def fault(error: Exception) -> str:
    """What is wrong, and in which line.

    Example:
        >>> try: yaml.safe_load("a: 1\\n\\tb: 2")
        ... except yaml.YAMLError as error: print(fault(error))
        line 2: found character '\\t' that cannot start any token: a tab; yaml takes spaces
    """
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    text = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    text = " ".join(str(text).split())
    if "'\\t'" in text:
        text += ": a tab; yaml takes spaces"
    return f"line {mark.line + 1}: {text}" if mark else text


def check_keys(node: yaml.Node, where: str, seen: set[int]) -> None:
    """See that no mapping has two entries for a key that differ.

    Raises:
        InputError: one has.
    """
    if id(node) in seen:  # an alias may come back to where it stands
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            check_keys(item, where, seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            check_keys(value, where, seen)
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            known, other = first.setdefault(key.value, (key, value))
            if known is not key and yaml.serialize(value) != yaml.serialize(other):
                lines = f"{known.start_mark.line + 1} and {key.start_mark.line + 1}"
                got = f"{key.value!r} twice, in lines {lines}"
                raise InputError(where, got, "each entry once")


def as_written_(node: yaml.Node, names: str) -> None:
    """The entries below a key of a mapping are words: their tags become that of a text."""
    if not names or not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.value != names:
            continue
        entries = value.value if isinstance(value, yaml.SequenceNode | yaml.MappingNode) else []
        for entry in entries:
            word = entry[1] if isinstance(entry, tuple) else entry
            if isinstance(word, yaml.ScalarNode):
                word.tag = "tag:yaml.org,2002:str"
