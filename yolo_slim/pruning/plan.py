"""From masks to pruned.yaml: a YOLOv5 model yaml with explicit counts that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from yolo_slim.errors import InputError
from yolo_slim.host.checkpoint import class_names, common
from yolo_slim.host.yamls import activation_text
from yolo_slim.pruning.modules import SPECS

LEGEND = """\
# A pruned YOLOv5 model: every channel count as it is, no multiples. ModelPruned builds it.
# Conv        [out, kernel, stride, padding, groups]
# C3Pruned    [out, cv1, cv2, [[inner, out] of each Bottleneck], residual add]
# SPPFPruned  [out, cv1, kernel]
"""


def pruned_yaml(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The yaml of what remains of a model.

    Args:
        model: a YOLOv5 detector with trained anchors, names and strides.
        masks: BN name to bool (C,), True = kept; a BN that is missing keeps all.

    Returns:
        A dict as in models/*.yaml: nc, names, anchors in pixels, activation, ch, backbone, head.

    Raises:
        InputError: a module type has no spec.
    """
    modules = dict(model.named_modules())
    rows = []
    for layer in model.model:
        name = f"model.{layer.i}"
        if type(layer) not in SPECS:
            known = ", ".join(t.__name__ for t in SPECS)
            raise InputError(name, f"a {type(layer).__name__}", f"one of {known}")
        title, spec = SPECS[type(layer)]

        def kept(bn: str, name: str = name) -> int:
            full = f"{name}.{bn}"
            return int(masks[full].sum()) if full in masks else modules[full].num_features

        rows.append([layer.f, 1, title, spec(layer, kept)])
    detect = model.model[-1]
    anchors = (detect.anchors * detect.stride.view(-1, 1, 1)).flatten(1).tolist()
    split = len(model.yaml["backbone"])
    acts = [m.act for m in model.modules() if isinstance(m, common.Conv)]
    return {
        "nc": int(detect.nc),
        "ch": int(model.yaml.get("ch", 3)),
        "depth_multiple": 1.0,
        "width_multiple": 1.0,
        "activation": activation_text(next(a for a in acts if not isinstance(a, nn.Identity))),
        "names": class_names(model),
        "anchors": [[round(a, 4) for a in row] for row in anchors],
        "backbone": rows[:split],
        "head": rows[split:],
    }


def write_yaml(data: Mapping[str, Any]) -> str:
    """The text of a pruned yaml: one layer a line, numbered."""

    def flow(value: Any) -> str:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
        return text.removesuffix("...\n").strip()

    lines = [LEGEND]
    for key in ("nc", "ch", "depth_multiple", "width_multiple", "activation", "names"):
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


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a model yaml.

    Raises:
        InputError: no such file, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file", "a model yaml")
    try:
        data = yaml.safe_load(path.read_text(errors="ignore"))
    except yaml.YAMLError as error:
        raise InputError(path, "not yaml", "a model yaml") from error
    if not isinstance(data, dict):
        raise InputError(path, f"a {type(data).__name__}", "a model yaml (a mapping)")
    return data
