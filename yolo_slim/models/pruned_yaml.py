"""pruned.yaml as text: written one layer a line, read as any model yaml."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from yolo_slim.errors import InputError
from yolo_slim.files import read_mapping

LEGEND = """\
# A pruned YOLOv5 model: every channel count as it is, no multiples. ModelPruned builds it.
# Conv          [out, kernel, stride, padding, groups]
# C3Pruned      [out, cv1, cv2, [[inner, out] of each Bottleneck], residual add]
#               null in place of [inner, out]: this Bottleneck was cut as a whole
# SPPFPruned    [out, cv1, kernel]
# SegmentPruned [nc, anchors, masks, channels of the two convs before them]
# another type  [out, [its own arguments], {child: [in, out] of a conv, channels of a BatchNorm}]
#               null: this child was cut as a whole
"""


def write_yaml(data: Mapping[str, Any]) -> str:
    """The text of a pruned yaml: one layer a line, numbered."""

    def flow(value: Any) -> str:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
        return text.removesuffix("...\n").strip()

    lines = [LEGEND]
    for key in ("pruned", "nc", "ch", "depth_multiple", "width_multiple", "activation", "names"):
        lines.append(f"{key}: {flow(data[key])}")
    lines.append("anchors:")
    lines += [f"  - {flow(row)}" for row in data["anchors"]]
    index = 0
    for part in ("backbone", "head"):
        lines.append(f"\n{part}:\n  # [from, number, module, arguments]")
        for row in data[part]:
            lines.append(f"  - {flow(row)}  # {index}")
            index += 1
    return "\n".join(lines) + "\n"


def removed_in(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The residual Bottlenecks that a pruned yaml says are gone: "model.4.m.1"."""
    names = []
    for index, (_, _, module, args) in enumerate([*data["backbone"], *data["head"]]):
        if module == "C3Pruned":
            places = [f"m.{i}" for i, row in enumerate(args[3]) if row is None]
        else:
            sizes = args[-1] if args and isinstance(args[-1], Mapping) else {}
            places = [child for child, size in sizes.items() if size is None]
        names += [f"model.{index}.{place}" for place in places]
    return tuple(names)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a model yaml.

    Raises:
        InputError: no such file, or not a mapping.
    """
    if not isinstance(path, str | PathLike):
        raise InputError("model yaml", f"{path!r:.80}", "its path, or a dict")
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file", "a model yaml")
    data = read_mapping(path, "a model yaml (a mapping)")
    for key in ("nc", "ch"):  # `nc: 8e1` is a whole number, too
        value = data.get(key)
        data |= {key: int(value)} if isinstance(value, float) and value.is_integer() else {}
    return data
