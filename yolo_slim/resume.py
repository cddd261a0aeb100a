"""An interrupted training goes on: whether it can."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolo_slim.as_called import SCRIPTS
from yolo_slim.errors import InputError
from yolo_slim.extensions import admit
from yolo_slim.files import read_mapping
from yolo_slim.models import load
from yolo_slim.runs import training_to_resume


def resolve_resume_(opt: argparse.Namespace, *, beside: str, made_by: str) -> Path:
    """Make --resume the absolute path of a checkpoint that a training goes on from.

    Args:
        opt: what was parsed.
        beside: a file that lies in the folders of such runs.
        made_by: the command.

    Returns:
        The run's folder, absolute.

    Raises:
        InputError: nothing to resume, a finished run, or a run of another kind.
    """
    last = training_to_resume(opt.resume, made_by=made_by).absolute()
    folder = last.parents[1]
    if (folder / "opt.yaml").is_file():
        for file in read_mapping(folder / "opt.yaml", "the options of a run").get("modules") or []:
            admit(file)
    if load(last).epoch < 0:
        raise InputError(f"--resume {last}", "a finished training", "one that was interrupted")
    for name in ("opt.yaml", beside):
        if not (folder / name).is_file():
            kind = f"a run of {SCRIPTS[made_by]}"
            raise InputError(f"--resume {last}", f"no {name} in its run", kind)
    opt.resume = str(last)
    return folder
