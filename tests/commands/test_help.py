"""--help: groups in the order of use, 80 columns, and a page that says which option to take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from places import ROOT

from yolo_slim.as_called import named
from yolo_slim.cli import COMMANDS, run
from yolo_slim.host.sources import declared_options
from yolo_slim.parsing import PAGE

PAGES = ROOT / "docs" / "options.md"
ORDER = {
    "prune": ["what is cut", "how much", "how channels", "after", "measured", "shown", "as in"],
    "slim": ["how much is cut", "how channels", "the trainings", "YOLOv5, model", "as in"],
    "sparse": ["sparsity: how much", "sparsity: how it", "YOLOv5, model", "as in"],
    "finetune": ["how a cut model", "YOLOv5, model", "YOLOv5, length", "as in"],
    "curve": ["what is compared", "measured on", "shown and", "as in"],
    "report": ["measured on", "what is written", "as in"],
    "export": ["what is exported", "how it is", "compared", "timed", "where it is", "as in"],
}
PLACES = {"sparse": "train"}  # where its runs lie, below runs/
SCRIPTS = {
    "train_sparse.py": "sparse",
    "prune.py": "prune",
    "finetune_pruned.py": "finetune",
    "export.py": "export",
}


def help_of(command: str, capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as end:
        run(command, ["--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_it_fits_and_ends_with_the_page(command: str, capsys: pytest.CaptureFixture) -> None:
    text = help_of(command, capsys)
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[-1] == PAGE
    assert len(text.split("\n\n")[0].splitlines()) <= 2  # the usage
    assert (ROOT / PAGE.split(": ")[1]).is_file()


@pytest.mark.parametrize("command", ORDER)
def test_groups_in_the_order_of_use(command: str, capsys: pytest.CaptureFixture) -> None:
    titles = re.findall(r"^(\S.*):$", help_of(command, capsys), re.MULTILINE)
    places = [next(i for i, t in enumerate(titles) if t.startswith(s)) for s in ORDER[command]]
    assert places == sorted(places)


def test_all_options_of_yolov5_are_in_the_groups(capsys: pytest.CaptureFixture) -> None:
    from yolo_slim.host.command_line import SCRIPTS as LOOPS

    shown = set(re.findall(r"--[\w-]+", help_of("finetune", capsys)))
    for script in LOOPS.values():
        for flags, _ in declared_options(script).values():
            assert set(flags) <= shown


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """The command lines of the page, and the options that its tables name for a command."""
    lines, section = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = re.findall(r"`([\w-]+)`", line)[0] if "`" in line else ""
        spans = [line.strip()] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)
        for span in spans:
            words = shlex.split(span.removeprefix("python "))
            if words[0] == "yolo-slim":
                lines.append((words[1], words[2:]))
            elif words[0] in SCRIPTS:
                lines.append((SCRIPTS[words[0]], words[1:]))
            elif words[0].startswith("--") and section:
                lines.append((section, words))
    return lines


def test_the_page_names_options_that_exist(capsys: pytest.CaptureFixture) -> None:
    named = commands_in(PAGES.read_text(encoding="utf-8"))
    known = {command: set() for command in COMMANDS}
    for command in known:
        known[command] = set(re.findall(r"--[a-zA-Z][\w-]*", help_of(command, capsys)))
    for command, words in named:
        for option in (word for word in words if word.startswith("--")):
            assert option in known[command], f"{command} has no {option}"
    steps = {"slim", "sparse", "prune", "finetune", "export"}
    assert steps | {"sensitivity", "inspect", "bench", "finegrained"} <= {c for c, _ in named}


@pytest.mark.parametrize(
    "program", ["/opt/bin/yolo-slim", "/lib/yolo_slim/__main__.py", "/home/me/prune.py"]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_it_names_commands_as_this_one_was_called(
    command: str,
    program: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """YOLOv5's own files, such as train.py and val.py, keep their names."""
    monkeypatch.setattr(sys, "argv", [program])
    text = help_of(command, capsys)
    assert text.startswith(f"usage: {named(command)} ")
    if not program.endswith("prune.py"):
        assert not re.search("|".join(SCRIPTS).replace(".", r"\."), text)
    if program.endswith("__main__.py"):
        assert "yolo-slim" not in text


def test_the_command_alone_lists_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "yolo_slim"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m yolo_slim " in done.stderr
    for name, text in COMMANDS.items():
        assert f"  {name:<13}{text}" in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_mistakes_begin_alike(command: str, capsys: pytest.CaptureFixture) -> None:
    """Whether argparse sees them or we do."""
    with pytest.raises(SystemExit) as end:
        sys.exit(run(command, ["--no-such-option"]))
    text = capsys.readouterr().err
    assert end.value.code == 2 and text.startswith("error: ") and text.count("\n") == 1


@pytest.mark.parametrize("command", ["slim", "sparse", "finetune", "val", "detect"])
def test_defaults_of_yolov5_are_shown(command: str, capsys: pytest.CaptureFixture) -> None:
    text = help_of(command, capsys).partition("YOLOv5")[2]
    entries = re.split(r"\n  (?=-)", " ".join(text.split(" ")))
    shown = {entry.partition(" ")[0]: " ".join(entry.split()) for entry in entries}
    script = f"{command}.py" if command in ("val", "detect") else "train.py"
    for flags, kwargs in declared_options(script).values():
        default = kwargs.get("default")
        optional = command == "detect" and flags[0] == "--data"
        given = default not in (None, False, "") and not optional
        if given or flags[0] in ("--weights", "--device"):
            assert "(default: " in shown[flags[0]], flags
            if isinstance(default, int | float) and flags[0] != "--imgsz":
                assert f"(default: {default})" in shown[flags[0]]
    assert f"(default: runs/{PLACES.get(command, command)})" in shown["--project"]
