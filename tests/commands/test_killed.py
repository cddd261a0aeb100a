"""A sparse training that is killed in mid-epoch and gone on with, against one that is not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sparse_runs import SMALL, after, board_steps, epochs_of, rows, same

from yolo_slim import load
from yolo_slim.commands import sparse
from yolo_slim.host import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
EPOCHS, KILLED = 6, 3
CHANNELS = 448  # that are penalised in the tiny model
WAITS = f"""
import sys, time
from pathlib import Path
import torch
from yolo_slim.cli import run
from yolo_slim.sparsify.session import SparseSession

torch.set_num_threads(1)
begin = SparseSession.on_batch_start

def on_batch_start(self, run):
    begin(self, run)
    if (run.epoch, run.batch) == ({KILLED}, 1):  # one batch of it is trained on
        Path("now").touch()
        time.sleep(600)

SparseSession.on_batch_start = on_batch_start
sys.exit(run("sparse", sys.argv[1:]))
"""


def kill_in_mid_epoch(argv: list[str]) -> None:
    """Run until the marker is there, then SIGKILL: nothing can be put in order any more."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with Path("log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITS, *argv], stdout=log, stderr=log, env=env
        )
        try:
            for _ in range(1200):
                if Path("now").exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    assert Path("now").exists(), Path("log.txt").read_text()[-2000:]
    assert process.returncode == -signal.SIGKILL


def test_resume_after_kill_9(
    empty_folder: Path,
    tiny_yaml: dict[str, Any],
    shapes_yaml: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """The same epochs, the same place on the way, and zeros that differ by what is drawn anew."""
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_yaml))
    argv = ["--st", "--cfg", "tiny.yaml", "--data", str(shapes_yaml), "--epochs", str(EPOCHS)]
    argv += ["--no-probe", *SMALL]
    due: dict[str, list[Any]] = {"whole": [], "resumed": []}
    with monkeypatch.context() as patch:
        after(patch, "on_epoch_end", lambda s, run: due["whole"].append(s.penalty.due))
        whole = sparse.main([*argv, "--name", "whole"])
    kill_in_mid_epoch([*argv, "--name", "killed"])
    killed = whole.with_name("killed")
    last = killed / "weights" / "last.pt"
    state = checkpoint.read(last)
    assert state["epoch"] == KILLED - 1
    assert state["yolo_slim"].keys() >= {"penalty", "monitor", "guard"}
    expected = rows(whole / "sparsity.csv")
    assert rows(killed / "sparsity.csv") == expected[:KILLED]

    def compare(session: Any, run: Any) -> None:
        if not due["resumed"]:
            assert same(session.penalty.state(), state["yolo_slim"]["penalty"])
            assert same(session.guard.state(), state["yolo_slim"]["guard"])

    capsys.readouterr()
    with monkeypatch.context() as patch:
        after(patch, "on_epoch_end", lambda s, run: due["resumed"].append(s.penalty.due))
        after(patch, "on_epoch_start", compare)
        assert sparse.main(["--resume", str(last)]).absolute() == killed.absolute()
    assert load(last).epoch == -1
    for name in ("sparsity.csv", "results.csv"):
        assert epochs_of(killed / name) == list(range(EPOCHS))
    assert (killed / "sparsity.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"^(Ready|Not ready): ", capsys.readouterr().out, re.MULTILINE)
    for tag in ("sparsity/near_zero", "sparsity/gamma/model.0.bn", "metrics/mAP_0.5"):
        steps = board_steps(killed, tag)  # what the killed one had not flushed is lost
        assert steps == sorted(set(steps)) and steps[KILLED - EPOCHS :] == [*range(KILLED, EPOCHS)]

    found = rows(killed / "sparsity.csv")
    assert found[:KILLED] == expected[:KILLED]
    assert due["resumed"] == due["whole"][KILLED:]
    near = [[float(row["near_zero"]) for row in each] for each in (found, expected)]
    np.testing.assert_allclose(near[0], near[1], atol=8 / CHANNELS)
