"""An interrupted training goes on: whether it can."""

from __future__ import annotations

import argparse

from yolo_slim.as_called import SCRIPTS, as_called
from yolo_slim.errors import InputError
from yolo_slim.extensions import admit
from yolo_slim.files import read_mapping
from yolo_slim.host.checkpoint import Checkpoint
from yolo_slim.models import load
from yolo_slim.runs import trained_file, training_to_resume

NEXT = {"sparse": "prune", "finetune": "export"}  # the step after a training


def resolve_resume_(opt: argparse.Namespace, *, beside: str, made_by: str) -> Checkpoint:
    """Make --resume the absolute path of a checkpoint that a training goes on from.

    Args:
        opt: what was parsed.
        beside: a file that lies in the folders of such runs.
        made_by: the command.

    Returns:
        The checkpoint; its epoch is -1 if the training is finished, of whatever kind.

    Raises:
        InputError: nothing to resume, or a run of another kind.
    """
    last = training_to_resume(opt.resume, made_by=made_by).absolute()
    folder = last.parents[1]
    if (folder / "opt.yaml").is_file():
        for file in read_mapping(folder / "opt.yaml", "the options of a run").get("modules") or []:
            admit(file)
    saved = load(last)
    for name in ("opt.yaml", beside):
        if saved.epoch >= 0 and not (folder / name).is_file():
            kind = f"a run of {SCRIPTS[made_by]}"
            raise InputError(f"--resume {last}", f"no {name} in its run", kind)
    opt.resume = str(last)
    return saved


def refuse_finished(saved: Checkpoint, made_by: str) -> None:
    """See that a training can go on.

    Raises:
        InputError: it is finished.
    """
    if saved.epoch < 0:
        file = trained_file(saved.path.parents[1])
        step = as_called(NEXT[made_by], "--weights", file if file.is_file() else saved.path)
        expected = f"one that was interrupted; this one goes on with: {step}"
        raise InputError(f"--resume {saved.path}", "a finished training", expected)
