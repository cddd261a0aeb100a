"""A misspelt option, value or command is told in one line, with what was probably meant."""

from __future__ import annotations

import subprocess
import sys

import pytest

from yolo_slim.cli import COMMANDS, GROUPS
from yolo_slim.parsing import DASHES, did_you_mean

MISSPELT = [
    ("prune", "--perzent 0.5", "unrecognized arguments: --perzent 0.5; did you mean --percent?"),
    ("prune", "--batch_size=8", "did you mean --batch-size?"),
    ("prune", "-macs 0.5", "did you mean --macs?"),
    ("prune", "\u2014macs 0.5", "did you mean --macs?"),
    ("prune", "best.pt", "did you mean --weights best.pt?"),
    ("prune", "--criterion tailor", "'tailor', expected taylor?"),
    ("prune", "--residual grup", "did you mean group?"),
    ("prune", "--percent 60", "[0, 1) (did you mean 0.6?)"),
    ("prune", "--imgsz 96 128", "--imgsz takes one number"),
    ("sparse", "--epoch-s 3", "did you mean --epochs?"),
    ("slim", "--round 2", "--round"),  # an abbreviation that is ambiguous, as before
    ("slim", "mydata.yaml", "did you mean --data mydata.yaml?"),
    ("finetune", "--teecher a.pt", "did you mean --teacher?"),
    ("export", "--include onxx", "did you mean onnx?"),
    ("sensitivity", "a.pt --dta d.yaml", "required: --data; did you mean --data?"),
    ("bench", "a.pt --runtime onx", "did you mean onnx?"),
    ("finegrained", "a.pt --sparcity 0.5", "did you mean --sparsity?"),
    ("inspect", "a.pt --jason", "did you mean --json?"),
    ("val", "--wieghts a.pt", "did you mean --weights?"),
    ("detect", "--sorce a.jpg", "did you mean --source?"),
    ("demo", "--epoks 1 1", "did you mean --epochs?"),
]


@pytest.mark.parametrize(("command", "words", "expected"), MISSPELT, ids=lambda v: v[:24])
def test_what_was_meant(command: str, words: str, expected: str, refused) -> None:
    assert expected in refused(command, *words.split())


@pytest.mark.parametrize("words", ["--foo", "--zzzz 3", "qqq", "--residual xyzzy"])
def test_nothing_is_suggested_that_is_not_near(words: str, refused) -> None:
    assert "did you mean" not in refused("prune", *words.split())


def test_an_abbreviation_still_does(refused) -> None:
    assert "nope.pt: no such file" in refused("prune", "--calib-im", 8, "--weig", "nope.pt")


@pytest.mark.parametrize("word", ["prun", "finetune_pruned", "exprot", "sensitivty"])
def test_a_misspelt_command(word: str) -> None:
    argv = [sys.executable, "-c", "from yolo_slim.cli import main; main()", word]
    end = subprocess.run(argv, capture_output=True, text=True)
    meant = {"prun": "prune", "finetune_pruned": "finetune", "exprot": "export"}
    assert f"did you mean {meant.get(word, 'sensitivity')}? (see --help)" in end.stderr
    assert end.returncode == 2 and len(end.stderr.splitlines()) == 1


def test_the_overview_has_every_command_once() -> None:
    argv = [sys.executable, "-c", "from yolo_slim.cli import main; main()", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert sum(map(len, GROUPS.values())) == len(COMMANDS)
    for command, words in COMMANDS.items():
        assert text.count(f"\n  {command:<13}{words}") == 1
    assert max(map(len, text.splitlines())) <= 80


def test_dashes_of_the_web() -> None:
    assert did_you_mean("percent", ["percent"]) == "did you mean percent?"
    assert len(set(DASHES)) == len(DASHES)
