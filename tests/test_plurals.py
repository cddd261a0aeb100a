"""No text says "1 classes": a number stands before a plural only where it cannot be one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yolo_slim

NOUNS = (
    "channel epoch round file column row weight tensor model thread BatchNorm cut line value word",
    "parameter conv module mask id image label name layer GPU",
)
PLURAL = re.compile(
    rf" (?:[a-z-]+ )?(?:(?:{'|'.join(' '.join(NOUNS).split())})s|classes|boxes|batches|processes)\b"
)
MANY = {  # all that are two at least, no numbers, or between us alone
    "bare: {len({**own, **theirs})} tensors differ",
    "checkpoint: {len(paths)} files",
    "choose: {graph.channels} channels can be cut (",
    "command_line: {only} models)",
    "graph: {self.channels} channels are prunable",
    "layers: {inputs} channels, which cannot ",
    "modules: {c2} channels",
    "parse: {inputs} channels, which cannot ",
    "report: {lose} channels",
    "report: {times_fewer(before.params, after.params)} parameters",
    "scan: {most} layers that lose most, ",
    "script_options: {len(files)} files",
    "timing: {repeats} rounds in turns",
    "soundness: {na * rows} channels of each conv",
    "soundness: {outputs} channels",
    "tracer: {c_out} channels, ",
    "tracer: {len(b)} channels cannot be tied",
    "tracer: {len(x)} channels reach it, it h",
    "yamls: {len(heads)} layers that detect",
    "training_options: {processes} processes",
}


def counts(file: Path) -> list[str]:
    """Texts in which a value is followed by a plural."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:], strict=False):
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                words = ast.unparse(value.value)
                one = words.startswith(("counted(", "shlex."))
                if PLURAL.match(str(text.value)) and not value.format_spec and not one:
                    found.append(f"{file.stem}: {{{ast.unparse(value.value)}}}{text.value[:24]}")
    return found


def test_no_number_stands_before_a_fixed_plural() -> None:
    files = Path(yolo_slim.__file__).parent.rglob("*.py")
    assert {text for file in files for text in counts(file)} == MANY
