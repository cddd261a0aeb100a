"""Command lines that are told can be pasted: as this one was called, and quoted."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from places import ROOT

from yolo_slim.as_called import SCRIPTS, as_called, named
from yolo_slim.cli import COMMANDS


@pytest.mark.parametrize(
    ("program", "command", "expected"),
    [
        ("prune.py", "finetune", "python3 finetune_pruned.py"),
        ("/opt/yolo slim/prune.py", "export", "python3 '/opt/yolo slim/export.py'"),
        ("prune.py", "slim", "yolo-slim slim"),  # it has no script
        ("/opt/bin/yolo-slim", "export", "/opt/bin/yolo-slim export"),  # which is not on the PATH
        ("mine.py", "export", "python export.py"),
        ("/lib/yolo_slim/__main__.py", "export", "python3 -m yolo_slim export"),
        ("/lib/mine/__main__.py", "export", "python export.py"),
    ],
)
def test_as_it_was_called(
    program: str, command: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "orig_argv", ["python3", program])
    assert as_called(command) == expected


@pytest.mark.parametrize(
    ("program", "command", "expected"),
    [
        ("/opt/yolo slim/prune.py", "finetune", "finetune_pruned.py"),
        ("prune.py", "slim", "yolo-slim slim"),
        ("/opt/bin/yolo-slim", "prune", "yolo-slim prune"),
        ("yolo-slim.exe", "prune", "yolo-slim prune"),
        ("/lib/yolo_slim/__main__.py", "prune", "python -m yolo_slim prune"),
    ],
)
def test_a_command_in_a_sentence(
    program: str, command: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert named(command) == expected


def test_the_console_command_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "yolo-slim"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert as_called("export") == "yolo-slim export"


def test_words_are_quoted_and_modules_taken_over() -> None:
    line = as_called("export", "--weights", "a b/$x.pt", opt=Namespace(modules=["my own.py"]))
    expected = ["export.py", "--weights", "a b/$x.pt", "--modules", "my own.py"]
    assert shlex.split(line) == ["python", *expected]


def test_scripts_are_those_of_the_clone() -> None:
    for command, script in SCRIPTS.items():
        assert command in COMMANDS and f'run("{command}")' in (ROOT / script).read_text()


def test_an_error_of_a_script_names_scripts(tmp_path: Path) -> None:
    """Which lie where the user called this one from."""
    script = os.path.relpath(ROOT / "prune.py", tmp_path)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    expected = shlex.join([sys.executable, str(Path(script).with_name("train_sparse.py"))])
    assert done.returncode == 2 and f"or run {expected}" in done.stderr
