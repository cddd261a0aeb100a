"""Beside --resume nothing is listened to, so nothing else may stand there: YOLOv5's, and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yolo_slim.commands import slim_options
from yolo_slim.host.command_line import BESIDE_RESUME, names_given, training_parser

COMMANDS = ["sparse", "finetune", "slim"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "given", ["--epochs 3", "--epochs 100", "--data x.yaml", "--device cpu", "--img 64", "--nosave"]
)
def test_options_of_the_host(command: str, given: str, refused: Any) -> None:
    """Also with the value that is the default."""
    flag = "--imgsz" if given.startswith("--img") else given.split()[0]
    Path("run/weights").mkdir(parents=True)
    for name in ("opt.yaml", "slim.json", "weights/last.pt"):
        (Path("run") / name).touch()
    line = refused(command, "--resume", "run", *given.split())
    assert f"{flag}: given with --resume, expected the options of the run that goes on" in line


def test_every_option() -> None:
    parser = training_parser(slim_options.add_options)
    for action in parser._actions:
        if action.dest in ("help", "resume", "modules", "local_rank"):
            continue
        value = action.choices[0] if action.choices else "1"  # type: ignore[index]
        argv = [action.option_strings[-1], *([] if action.nargs == 0 else [str(value)])]
        given = [*sum(names_given(["--resume", *argv], slim_options.add_options), [])]
        assert [name for name in given if name not in BESIDE_RESUME] == action.option_strings[:1]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_name(command: str, refused: Any) -> None:
    """As of a shell variable that is not set: a new training would begin."""
    assert "--resume: an empty name, expected a run's folder" in refused(command, "--resume", "")


@pytest.mark.parametrize("command", COMMANDS[:2])
def test_nothing_to_go_on_with(command: str, refused: Any) -> None:
    line = refused(command, "--resume")
    assert "--resume: no run to go on with found in runs/, expected a training that was" in line
    Path("folder").mkdir()
    line = refused(command, "--resume", "folder")
    assert "--resume folder: a folder without a training, expected the folder of a" in line
    Path("run/weights").mkdir(parents=True)
    Path("run/opt.yaml").touch()
    for place in ("run", "run/weights", "run/weights/last.pt"):
        assert "none was saved yet" in refused(command, "--resume", place)
