"""YOLOv5's training options in groups, for --help: it declares them in one long list."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

GROUPS = {  # title to the options, by their names in the parsed result
    "model and data": ("weights", "cfg", "data", "imgsz", "single_cls", "rect", "cache"),
    "length and pace": (
        "epochs",
        "batch_size",
        "resume",
        "patience",
        "optimizer",
        "hyp",
        "cos_lr",
        "label_smoothing",
        "freeze",
        "seed",
    ),
    "machine": ("device", "workers", "sync_bn", "local_rank"),
    "images": ("multi_scale", "image_weights", "quad", "noautoanchor", "mask_ratio", "no_overlap"),
    "results": ("project", "name", "exist_ok", "nosave", "noval", "noplots", "save_period"),
}
REST = "evolution, loggers, uploads"


def adder(parser: argparse.ArgumentParser) -> Callable[..., Any]:
    """A function (name, *flags, **kwargs) that adds an option of YOLOv5 to the group of its name.

    Args:
        parser: gets the groups, in the order of this table, whatever comes first.
    """
    titles = [*GROUPS, REST]
    groups = {title: parser.add_argument_group(f"YOLOv5, {title}") for title in titles}
    title_of = {name: title for title, names in GROUPS.items() for name in names}

    def add(name: str, *flags: str, **kwargs: Any) -> argparse.Action:
        return groups[title_of.get(name, REST)].add_argument(*flags, **kwargs)

    return add
