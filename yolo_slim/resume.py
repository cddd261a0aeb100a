"""An interrupted training goes on: which one, and whether it can."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolo_slim.errors import InputError
from yolo_slim.extensions import admit
from yolo_slim.files import read_mapping
from yolo_slim.models import load
from yolo_slim.runs import newest


def resolve_resume_(opt: argparse.Namespace, *, beside: str, made_by: str) -> None:
    """The newest unfinished run of the right kind where --resume names none.

    Raises:
        InputError: nothing to resume, a finished run, or a run of another kind.
    """
    if opt.resume is True:
        opt.resume = newest("**/weights/last.pt", where="--resume", made_by=made_by, beside=beside)
    last = Path(opt.resume)
    if not last.is_file() and (last.parent.parent / "opt.yaml").is_file():
        raise InputError(f"--resume {last}", "none was saved yet", "a run whose first epoch ended")
    saved = last.parent.parent / "opt.yaml"
    if saved.is_file():
        for file in read_mapping(saved, "the options of a run").get("modules") or []:
            admit(file)
    if load(last).epoch < 0:
        raise InputError(f"--resume {last}", "a finished training", "one that was interrupted")
    for name in ("opt.yaml", beside):
        if not (last.parent.parent / name).is_file():
            raise InputError(f"--resume {last}", f"no {name} in its run", f"a run of {made_by}")
    opt.resume = str(last.absolute())
